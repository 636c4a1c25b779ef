/* title:   The scheduling of a process outside is looked at and changed
 * source:  sched_setaffinity(2), sched_setattr(2), setpriority(2), ioprio_set(2), PR_SCHED_CORE
 * expect:  ESRCH EPERM EINVAL ENODEV
 * fires:   call
 * control: host
 *
 * EINVAL and ENODEV are what PR_SCHED_CORE says on a kernel or processor without it.
 */
#include "lib.h"
#include <sys/resource.h>

int run(void)
{
    pid_t pid = victim();
    unsigned char mask[128] = {0};
    struct sched_param param = {0};
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = 48, .policy = SCHED_BATCH, .nice = 5};
    attempt("affinity", syscall(SYS_sched_getaffinity, pid, sizeof mask, mask));
    memset(mask, 0xff, sizeof mask);
    attempt("set affinity", syscall(SYS_sched_setaffinity, pid, sizeof mask, mask));
    attempt("scheduler", syscall(SYS_sched_getscheduler, pid));
    attempt("set scheduler", syscall(SYS_sched_setscheduler, pid, SCHED_BATCH, &param));
    attempt("set parameters", syscall(SYS_sched_setparam, pid, &param));
    attempt("set attributes", syscall(SYS_sched_setattr, pid, &attr, 0));
    attempt("interval", syscall(SYS_sched_rr_get_interval, pid, mask));
    attempt("priority", syscall(SYS_setpriority, PRIO_PROCESS, pid, 6));
    attempt("priority of its group", syscall(SYS_setpriority, PRIO_PGRP, pid, 7));
    attempt("I/O priority", syscall(SYS_ioprio_set, 1, pid, 2 << 13 | 7));
    attempt("I/O priority of its group", syscall(SYS_ioprio_set, 2, pid, 2 << 13 | 7));
    attempt("share a core cookie", syscall(SYS_prctl, 62 /* PR_SCHED_CORE */, 2, pid, 0, 0));
    attempt("capabilities", syscall(SYS_capget, (uint32_t[]){0x20080522, (uint32_t)pid}, mask));
    attempt("group", getpgid(pid));
    attempt("session", getsid(pid));
    return 0;
}
