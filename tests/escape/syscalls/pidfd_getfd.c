/* title:   Descriptors are taken out of other processes by pidfd_getfd
 * source:  pidfd_getfd(2), Linux 5.6
 * expect:  EPERM ESRCH
 * fires:   call
 * control: host
 *
 * Of the victim, of init, and of the parent, who holds what the supervisor gave it.
 */
#include "lib.h"

static void take(const char *who, pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (int fd = 0; fd < 16; fd++) {
        int got = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        if (got < 0 && errno == EBADF)
            continue;
        char name[64];
        snprintf(name, sizeof name, "descriptor %d of %s", fd, who);
        attempt(name, got);
        if (got >= 0) {
            struct stat st;
            if (fstat(got, &st) == 0 && S_ISREG(st.st_mode))
                found(buf, pread(got, buf, sizeof buf, 0));
            close(got);
        }
    }
    if (pidfd >= 0)
        close(pidfd);
}

int run(void)
{
    take("the victim", victim());
    if (inside()) {
        take("init", 1);
        take("the parent", getppid());
    }
    take("oneself", getpid());
    return 0;
}
