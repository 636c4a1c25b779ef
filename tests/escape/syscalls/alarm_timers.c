/* title:   Timers that wake the machine from its sleep
 * source:  timerfd_create(2), timer_create(2): CLOCK_REALTIME_ALARM, CAP_WAKE_ALARM
 * expect:  EPERM EOPNOTSUPP EINVAL
 * fires:   call
 * control: root
 * harmless: yes
 */
#include "lib.h"
#include <time.h>

static long timer(int clock)
{
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    int id = 0;
    return syscall(SYS_timer_create, clock, &event, &id);
}

int run(void)
{
    attempt("timer, real time", timer(CLOCK_REALTIME_ALARM));
    attempt("timer, since the start", timer(CLOCK_BOOTTIME_ALARM));
    attempt("descriptor, real time", syscall(SYS_timerfd_create, CLOCK_REALTIME_ALARM, 0));
    attempt("descriptor, since the start", syscall(SYS_timerfd_create, CLOCK_BOOTTIME_ALARM, 0));
    return 0;
}
