/* title:   Another network namespace is entered, or a socket of it taken
 * source:  setns(2), ioctl_nsfs(2), pidfd_open(2) PIDFD_GET_NET_NAMESPACE; socket(7) SIOCGSKNS
 * expect:  EPERM EACCES ENOENT ESRCH ENOSYS EINVAL EBADF ENOTTY ECONNREFUSED ENETUNREACH
 * fires:   connect
 * control: root
 * control-user: host
 * harmless: yes
 *
 * Wherever it arrives it connects to the ground's listener. An ordinary user cannot enter the victim's, but is there already.
 */
#include "lib.h"
#include <arpa/inet.h>
#include <netinet/in.h>

static long arrived(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(arg("tcp"))), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    long n = s < 0 ? -1 : connect(s, (void *)&to, sizeof to);
    int fault = errno;
    if (s >= 0)
        close(s);
    errno = fault;
    return n;
}
/* Enters by FD, or stays where it is where that cannot be opened or entered. */
static void enter(const char *name, int fd, int kind)
{
    int entered = fd < 0 ? -1 : setns(fd, kind);
    if (entered == 0 || fd < 0)
        attempt(name, fd < 0 ? -1 : arrived());
    else
        attempt(name, entered);
    if (fd >= 0)
        close(fd);
}

int run(void)
{
    char path[128];
    const char *formats[] = {"/proc/%d/ns/net", "/proc/%d/task/%d/ns/net"};
    pid_t pids[] = {1, victim(), getppid()};
    for (int p = 0; p < 3; p++)
        for (int f = 0; f < 2; f++) {
            snprintf(path, sizeof path, formats[f], pids[p], pids[p]);
            char name[160];
            snprintf(name, sizeof name, "process %d, way %d", p, f);
            enter(name, open(path, O_RDONLY), CLONE_NEWNET);
        }
    enter("pidfd of the victim", syscall(SYS_pidfd_open, victim(), 0), CLONE_NEWNET);
    enter("pidfd of process 1", syscall(SYS_pidfd_open, 1, 0), CLONE_NEWNET);
    int pidfd = syscall(SYS_pidfd_open, victim(), 0);
    enter("namespace told by a pidfd", pidfd < 0 ? -1 : ioctl(pidfd, 0xff04), CLONE_NEWNET);
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    enter("namespace told by a socket", ioctl(s, 0x894c), CLONE_NEWNET);
    enter("kept by name", open("/run/netns/default", O_RDONLY), CLONE_NEWNET);
    int own = open("/proc/self/ns/net", O_RDONLY), user = own < 0 ? -1 : ioctl(own, 0xb701);
    enter("owner of its own", user, CLONE_NEWUSER);
    if (inside())
        attempt("a namespace of its own", unshare(CLONE_NEWUSER | CLONE_NEWNET));
    attempt("where it is", arrived());
    return 0;
}
