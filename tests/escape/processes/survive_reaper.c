/* title:   Orphans are gathered by another than the sandbox's init, or become its equals
 * source:  clone(2) CLONE_PARENT, prctl(2) PR_SET_CHILD_SUBREAPER, pid_namespaces(7)
 * expect:  GOT EPERM EINVAL ENOSYS
 * fires:   host
 * control: host
 *
 * A supervisor that ends only its own child, or what descends from it, misses a sibling of that child.
 */
#include "lib.h"
#include <linux/sched.h>

static void last(void)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close_range(3, ~0U, 0);
    for (int n = 0; n < 8; n++)
        sleep(1);
    _exit(0);
}
static long as(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (pid == 0) {
        setsid();
        last();
    }
    return pid;
}

int run(void)
{
    attempt("sibling", as(CLONE_PARENT));
    attempt("child that ends with SIGKILL to its parent", as(SIGKILL));
    attempt("child of a namespace of its own", as(CLONE_NEWPID | SIGCHLD));
    attempt("child of a user namespace of its own", as(CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD));

    struct clone_args args = {.flags = CLONE_PARENT};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0)
        last();
    attempt("sibling by clone3", pid);

    attempt("reaper of orphans", prctl(PR_SET_CHILD_SUBREAPER, 1));
    pid = fork();
    if (pid == 0) {
        if (fork() == 0)
            last();
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    return 0;
}
