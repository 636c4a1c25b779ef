/* title:   A listener of one's own says that a denied call may go on
 * source:  seccomp_unotify(2), SECCOMP_USER_NOTIF_FLAG_CONTINUE, SECCOMP_IOCTL_NOTIF_ADDFD; the newest filter answers a tie
 * expect:  EPERM EACCES EBUSY ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 *
 * The wall tells its supervisor of socket() by such a filter itself: a newer one with the same answer would take its place. A
 * kernel that has no listener yet grants one; what counts is the call of which it says that it may go on.
 */
#include "lib.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>

static int send_fd(int to, int fd)
{
    char room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    return sendmsg(to, &message, 0) < 0 ? -1 : 0;
}
static int receive_fd(int from)
{
    char room[CMSG_SPACE(sizeof(int))] = {0}, byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int fd = -1;
    if (recvmsg(from, &message, 0) > 0 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}
/* `inject`: the first call that is told of is answered with a descriptor; all others go on. */
static void try_call(const char *name, long nr, long first, unsigned flags, int inject)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 5, .filter = code};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        int listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
        if (listener < 0)
            attempt(name, listener);
        if (listener < 0 || send_fd(pair[1], listener) < 0)
            _exit(1);
        close(listener);
        if (inject)
            syscall(SYS_getppid);
        long answer = syscall(nr, first, nr == SYS_keyctl ? -2 : SOCK_STREAM, nr == SYS_keyctl);
        char text[96];
        snprintf(text, sizeof text, "the call, %s", name);
        attempt(text, answer);
        _exit(0);
    }
    close(pair[1]);
    int listener = receive_fd(pair[0]);
    struct pollfd ready = {listener, POLLIN, 0};
    for (int i = 0; listener >= 0 && i < 2 && poll(&ready, 1, 1000) > 0 && ready.revents & POLLIN; i++) {
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
            break;
        if (asked.data.nr == SYS_getppid) {
            struct seccomp_notif_addfd fd = {.id = asked.id, .srcfd = 0, .flags = SECCOMP_ADDFD_FLAG_SEND};
            if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &fd) >= 0)
                continue;
        }
        struct seccomp_notif_resp answer = {.id = asked.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
    }
    if (listener >= 0)
        close(listener);
    close(pair[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    attempt_died(name, status);
}

int run(void)
{
    try_call("listener for socket", SYS_socket, AF_INET, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0);
    try_call("listener for keyctl", SYS_keyctl, 0, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0);
    try_call("listener for socket, after a descriptor was put in", SYS_socket, AF_INET, SECCOMP_FILTER_FLAG_NEW_LISTENER, 1);
    try_call("listener with waiting that cannot be killed", SYS_socket, AF_INET, SECCOMP_FILTER_FLAG_NEW_LISTENER | 1 << 5, 0);
    return 0;
}
