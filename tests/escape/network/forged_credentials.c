/* title:   It says to be another process or user, to whoever asks the kernel over a Unix socket
 * source:  unix(7) SCM_CREDENTIALS, SO_PEERCRED; CVE-2013-1979 (credentials of the opener)
 * expect:  EPERM EINVAL ESRCH
 * fires:   call
 * control: root
 * control-user: void: the kernel lets nobody say to be another without CAP_SYS_ADMIN and CAP_SETUID
 * harmless: yes
 */
#include "lib.h"

static long say(pid_t pid, uid_t uid, gid_t gid)
{
    int pair[2], one = 1;
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return -1;
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    char control[CMSG_SPACE(sizeof(struct ucred))] = {0};
    struct iovec iov = {"x", 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    struct ucred who = {pid, uid, gid};
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof who)};
    memcpy(CMSG_DATA(c), &who, sizeof who);
    long n = sendmsg(pair[0], &msg, 0);
    int fault = errno;
    close(pair[0]);
    close(pair[1]);
    errno = fault;
    return n;
}

int run(void)
{
    attempt("as root", say(getpid(), 0, inside() ? getgid() : 12345));
    attempt("as the group of root", say(getpid(), inside() ? getuid() : 12345, 0));
    attempt("as process 1", say(1, getuid(), getgid()));
    attempt("as the victim", say(victim(), getuid(), getgid()));
    attempt("as nobody", say(getpid(), 65534, 65534));
    attempt("as an id of the host's", say(getpid(), 1879049192, 1879049192));
    attempt("real and effective id", setresuid(0, 0, 0) == 0 && getuid() == 0 ? 0 : (errno = EPERM, -1));
    return 0;
}
