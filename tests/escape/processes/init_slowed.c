/* title:   The sandbox's init, its equal in user, is made idle, pinned, or cut off from memory and processor
 * source:  prlimit(2) asks for the same user ids alone; sched_setaffinity(2), setpriority(2), ioprio_set(2)
 * expect:  EPERM ESRCH ENOSYS EACCES
 * fires:   call
 * control: host
 *
 * What reaps, forwards signals and tells how the program ended, must not depend on the program. RLIMIT_CPU kills even an init.
 * On the bare host the victim stands for it.
 */
#include "lib.h"
#include <sys/resource.h>

static void try(const char *who, pid_t pid)
{
    char name[128];
    struct sched_param zero = {0};
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    snprintf(name, sizeof name, "%s, pinned to a processor", who);
    attempt(name, sched_setaffinity(pid, sizeof first, &first));
    snprintf(name, sizeof name, "%s, nice 19", who);
    attempt(name, setpriority(PRIO_PROCESS, pid, 19));
    snprintf(name, sizeof name, "%s, idle", who);
    attempt(name, sched_setscheduler(pid, SCHED_IDLE, &zero));
    snprintf(name, sizeof name, "%s, idle input and output", who);
    attempt(name, syscall(SYS_ioprio_set, 1, pid, 3 << 13));
    int kinds[] = {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_STACK, RLIMIT_NPROC, RLIMIT_SIGPENDING, RLIMIT_AS, RLIMIT_CPU};
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct rlimit least = {1, 1};
        snprintf(name, sizeof name, "%s, limit %d made least", who, kinds[k]);
        attempt(name, prlimit(pid, kinds[k], &least, NULL));
    }
}

int run(void)
{
    if (inside()) {
        try("init", 1);
        if (getppid() > 1)
            try("parent", getppid());
    }
    try("victim", victim());
    return 0;
}
