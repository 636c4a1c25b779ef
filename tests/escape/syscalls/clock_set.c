/* title:   The machine's clock is set
 * source:  clock_settime(2), settimeofday(2), adjtimex(2); time namespaces know no CLOCK_REALTIME
 * expect:  EPERM
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_TIME of the machine's root
 *
 * It is set to what it is, and the tick to its usual length: whoever may do that may do all.
 */
#include "lib.h"
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

int run(void)
{
    struct timespec now;
    struct timeval then;
    struct timex state = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    attempt("clock_settime", syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
    gettimeofday(&then, NULL);
    attempt("settimeofday", syscall(SYS_settimeofday, &then, NULL));
    int zone[2] = {0, 0};
    attempt("time zone", syscall(SYS_settimeofday, NULL, zone));
    state.modes = ADJ_TICK, state.tick = 10000;
    attempt("adjtimex", syscall(SYS_adjtimex, &state));
    attempt("clock_adjtime", syscall(SYS_clock_adjtime, CLOCK_REALTIME, &state));
    state.modes = ADJ_SETOFFSET, state.time.tv_sec = 0, state.time.tv_usec = 0;
    attempt("an offset of nothing", syscall(SYS_clock_adjtime, CLOCK_REALTIME, &state));
    return 0;
}
