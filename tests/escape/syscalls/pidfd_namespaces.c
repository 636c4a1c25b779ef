/* title:   Namespaces are taken from a pidfd, and their parents from them
 * source:  Linux 6.11, PIDFD_GET_*_NAMESPACE; ioctl_nsfs(2), NS_GET_PARENT
 * expect:  ESRCH EPERM EACCES
 * fires:   call
 * control: host
 * harmless: yes
 *
 * Without /proc and without setns: by requests that no filter of names sees.
 */
#include "lib.h"

enum { NS_GET_USERNS = 0xb701, NS_GET_PARENT = 0xb702 };

static void of(const char *who, pid_t pid)
{
    static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "pid for children", "time", "time for children",
                                        "user", "uts"};
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (int i = 0; i < 10; i++) {
        char name[96];
        int fd = pidfd < 0 ? -1 : ioctl(pidfd, 0xff01 + i, 0);
        snprintf(name, sizeof name, "%s of %s", kinds[i], who);
        /* One's own are no news; what lies above them would be. */
        if (pid != getpid())
            attempt(name, fd);
        if (fd < 0)
            continue;
        if (i == 4 || i == 8) {
            snprintf(name, sizeof name, "parent of %s of %s", kinds[i], who);
            attempt(name, ioctl(fd, NS_GET_PARENT));
        }
        int owner = ioctl(fd, NS_GET_USERNS);
        if (owner >= 0) {
            snprintf(name, sizeof name, "parent of the owner of %s of %s", kinds[i], who);
            attempt(name, ioctl(owner, NS_GET_PARENT));
            close(owner);
        }
        close(fd);
    }
    if (pidfd >= 0)
        close(pidfd);
}

int run(void)
{
    of("the victim", victim());
    of("oneself", getpid());
    if (inside())
        of("init", 1);
    return 0;
}
