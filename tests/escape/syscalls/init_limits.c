/* title:   The process that watches over the program has its limits and priorities taken away
 * source:  prlimit(2), setpriority(2): the same user id is enough; an init that can open nothing cannot say how a run ended
 * expect:  EPERM ESRCH
 * fires:   call
 * control: host
 *
 * On the bare host it is tried on the victim, inside on init, the program's parent. An init that may have fewer than two open
 * files cannot poll: it neither passes signals on nor says how the program ended.
 */
#include "lib.h"
#include <sys/resource.h>

int run(void)
{
    pid_t pid = inside() ? 1 : victim();
    struct rlimit none = {0, 0}, was = {0, 0};
    struct sched_param param = {0};
    attempt("CPU time: none", prlimit(pid, RLIMIT_CPU, &none, NULL));
    attempt("size of files: none", prlimit(pid, RLIMIT_FSIZE, &none, NULL));
    attempt("address space: none", prlimit(pid, RLIMIT_AS, &none, NULL));
    attempt("idle scheduling", sched_setscheduler(pid, SCHED_IDLE, &param));
    attempt("lowest priority", setpriority(PRIO_PROCESS, pid, 19));
    attempt("idle I/O", syscall(SYS_ioprio_set, 1, pid, 3 << 13));
    attempt("open files", prlimit(pid, RLIMIT_NOFILE, NULL, &was));
    was.rlim_cur = was.rlim_max;
    attempt("open files: as many as may be", prlimit(pid, RLIMIT_NOFILE, &was, NULL));
    /* Whoever may do this may set none too; this case has to end. */
    return 0;
}
