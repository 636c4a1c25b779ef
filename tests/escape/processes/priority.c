/* title:   More than its share of the processor and the disk: niceness, realtime, deadlines, the out-of-memory killer's choice
 * source:  setpriority(2), sched_setattr(2), ioprio_set(2), proc_pid_oom_score_adj(5)
 * expect:  EPERM EACCES EINVAL ESRCH ENOSYS ENOENT EBUSY EROFS
 * fires:   call
 * control: root
 * control-user: void: the kernel lets nobody raise priorities without CAP_SYS_NICE
 */
#include "lib.h"
#include <sys/resource.h>

static long attr(pid_t pid, unsigned policy, unsigned priority, int nice)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } a = {48, policy, 0, nice, priority, 0, 0, 0};
    if (policy == 6) {
        a.runtime = 1000000;
        a.deadline = a.period = 10000000;
    }
    return syscall(SYS_sched_setattr, pid, &a, 0);
}
static long adjust(const char *path)
{
    int fd = open(path, O_WRONLY);
    long n = fd < 0 ? -1 : write(fd, "-1000", 5);
    if (fd >= 0)
        close(fd);
    return n;
}
static void try(const char *who, pid_t pid)
{
    char name[128], path[64];
    struct sched_param one = {1};
    snprintf(name, sizeof name, "%s, nice -20", who);
    attempt(name, setpriority(PRIO_PROCESS, pid, -20));
    snprintf(name, sizeof name, "%s, first in first out", who);
    attempt(name, sched_setscheduler(pid, SCHED_FIFO, &one));
    snprintf(name, sizeof name, "%s, round robin, kept from children", who);
    attempt(name, sched_setscheduler(pid, SCHED_RR | SCHED_RESET_ON_FORK, &one));
    snprintf(name, sizeof name, "%s, round robin by attributes", who);
    attempt(name, attr(pid, SCHED_RR, 1, 0));
    snprintf(name, sizeof name, "%s, nice by attributes", who);
    attempt(name, attr(pid, SCHED_OTHER, 0, -19));
    snprintf(name, sizeof name, "%s, deadline", who);
    attempt(name, attr(pid, 6, 0, 0));
    snprintf(name, sizeof name, "%s, realtime input and output", who);
    attempt(name, syscall(SYS_ioprio_set, 1, pid, 1 << 13));
    snprintf(name, sizeof name, "%s, never killed for memory", who);
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid ? pid : getpid());
    attempt(name, adjust(path));
}

int run(void)
{
    if (inside()) {
        attempt("user, nice -20", setpriority(PRIO_USER, 0, -20));
        attempt("group, nice -20", setpriority(PRIO_PGRP, 0, -20));
        try("init", 1);
    }
    try("victim", victim());
    try("itself", 0);
    struct rlimit high = {20, 40};
    attempt("limit on niceness", setrlimit(RLIMIT_NICE, &high));
    attempt("limit on realtime priority", setrlimit(RLIMIT_RTPRIO, &high));
    return 0;
}
