/* title:   A socket that the caller has as descriptor 0 is used: spoken through, connected elsewhere, descriptors taken
 * source:  unix(7) SCM_RIGHTS, SCM_CREDENTIALS; connect(2) AF_UNSPEC; inetd-like services; CVE-2024-21626 (leaked descriptors)
 * expect:  ENOTSOCK EBADF EACCES EPERM
 * fires:   call
 * control: host
 * stdin:   socket
 * harmless: yes
 */
#include "lib.h"

static void try(int fd)
{
    char name[64], control[256], byte;
    struct sockaddr_un to = {.sun_family = AF_UNSPEC};
    socklen_t n = sizeof to;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct ucred peer;
    snprintf(name, sizeof name, "descriptor %d, who is there", fd);
    attempt(name, getpeername(fd, (void *)&to, &n));
    n = sizeof peer;
    snprintf(name, sizeof name, "descriptor %d, whose process", fd);
    attempt(name, getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n));
    n = sizeof(int);
    int pidfd;
    snprintf(name, sizeof name, "descriptor %d, handle of its process", fd);
    attempt(name, getsockopt(fd, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &pidfd, &n));
    snprintf(name, sizeof name, "descriptor %d, sent", fd);
    attempt(name, send(fd, "hello", 5, MSG_DONTWAIT | MSG_NOSIGNAL));
    snprintf(name, sizeof name, "descriptor %d, received", fd);
    attempt(name, recvmsg(fd, &msg, MSG_DONTWAIT));
    msg.msg_control = control;
    msg.msg_controllen = CMSG_SPACE(sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    int null = open("/dev/null", O_RDWR);
    memcpy(CMSG_DATA(c), &null, sizeof(int));
    snprintf(name, sizeof name, "descriptor %d, a descriptor handed out", fd);
    attempt(name, sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL));
    snprintf(name, sizeof name, "descriptor %d, accepted", fd);
    attempt(name, accept4(fd, NULL, NULL, SOCK_NONBLOCK));
    to.sun_family = AF_UNSPEC;
    snprintf(name, sizeof name, "descriptor %d, connected elsewhere", fd);
    attempt(name, connect(fd, (void *)&to, sizeof to.sun_family));
    snprintf(name, sizeof name, "descriptor %d, listening", fd);
    attempt(name, listen(fd, 5));
    close(null);
}

int run(void)
{
    try(0);
    if (inside())
        for (int fd = 1; fd < 12; fd++)
            try(fd);
    return 0;
}
