/* title:   A user namespace of one's own, and what root of it can do
 * source:  user_namespaces(7); CVE-2013-1858 (CLONE_NEWUSER with CLONE_FS), CVE-2023-0386, CVE-2024-1086
 * expect:  EPERM ENOSYS EACCES EINVAL
 * fires:   call
 * control: host
 */
#include "lib.h"

static long alone(long flags)
{
    return syscall(SYS_unshare, flags);
}
static long root_of_it(long with)
{
    if (syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return -1;
    return mount("none", "/tmp", "tmpfs", (unsigned long)with, NULL);
}
static long threaded_root(long with)
{
    /* CVE-2013-1858: the root directory stays shared with a process outside. */
    long pid = syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, with, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    return pid;
}

int run(void)
{
    attempt_apart("unshare user", alone, CLONE_NEWUSER);
    attempt_apart("unshare user and all", alone,
                  CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS);
    attempt_apart("unshare user and time", alone, CLONE_NEWUSER | 0x80);
    attempt_apart("unshare user, bit 32", alone, CLONE_NEWUSER | 1L << 32);
    attempt_apart("unshare mount", alone, CLONE_NEWNS);
    attempt_apart("unshare network", alone, CLONE_NEWNET);
    attempt_apart("unshare time", alone, 0x80);
    attempt_apart("unshare with nothing to do", alone, 0);
    attempt_apart("unshare files", alone, CLONE_FILES);
    attempt_apart("mount as root of it", root_of_it, 0);
    attempt_apart("clone with a shared root directory", threaded_root, 0);
    return 0;
}
