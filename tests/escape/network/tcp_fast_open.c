/* title:   Data goes out with the first segment, by calls that are no connect
 * source:  tcp(7) TCP_FASTOPEN, send(2) MSG_FASTOPEN: Landlock's rule on connect did not see it; landlock(7)
 * expect:  EACCES EPERM ENETUNREACH ECONNREFUSED EOPNOTSUPP
 * fires:   connect
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

static struct sockaddr_in to;
static int made(int protocol)
{
    return socket(AF_INET, SOCK_STREAM, protocol);
}

int run(void)
{
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(arg("tcp"))), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct iovec iov = {"hello", 5};
    struct msghdr msg = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr many = {.msg_hdr = msg};
    int one = 1, s;

    s = made(0);
    attempt("sendto", s < 0 ? -1 : sendto(s, "hello", 5, MSG_FASTOPEN, (void *)&to, sizeof to));
    s = made(0);
    attempt("sendmsg", s < 0 ? -1 : sendmsg(s, &msg, MSG_FASTOPEN));
    s = made(0);
    attempt("sendmmsg", s < 0 ? -1 : sendmmsg(s, &many, 1, MSG_FASTOPEN));
    s = made(262);
    attempt("sendto, multipath", s < 0 ? -1 : sendto(s, "hello", 5, MSG_FASTOPEN, (void *)&to, sizeof to));
    s = made(0);
    if (s >= 0)
        setsockopt(s, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
    attempt("a connect that waits for data", s < 0 ? -1 : connect(s, (void *)&to, sizeof to) < 0 ? -1 : write(s, "hello", 5));
    return 0;
}
