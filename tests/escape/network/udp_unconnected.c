/* title:   A datagram is sent to the host without a connection, and by the lesser protocols
 * source:  udp(7), udplite(7), icmp(7) ping sockets, sctp(7); sendmmsg(2)
 * expect:  EACCES EPERM ENETUNREACH ECONNREFUSED EAFNOSUPPORT EPROTONOSUPPORT ESOCKTNOSUPPORT EINVAL EHOSTUNREACH EADDRNOTAVAIL
 * fires:   connect
 * control: host
 */
#include "lib.h"
#include <arpa/inet.h>
#include <netinet/in.h>

int run(void)
{
    int port = htons(atoi(arg("udp"))), s;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, all = to;
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = port};
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &mapped.sin6_addr);
    all.sin_addr.s_addr = 0;
    struct iovec iov = {"hello", 5};
    struct msghdr msg = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1};
    struct mmsghdr many[2] = {{.msg_hdr = msg}, {.msg_hdr = msg}};

    s = socket(AF_INET, SOCK_DGRAM, 0);
    attempt("sendto", s < 0 ? -1 : sendto(s, "hello", 5, 0, (void *)&to, sizeof to));
    attempt("sendto 0.0.0.0", s < 0 ? -1 : sendto(s, "hello", 5, 0, (void *)&all, sizeof all));
    attempt("sendmsg", s < 0 ? -1 : sendmsg(s, &msg, 0));
    attempt("sendmmsg", s < 0 ? -1 : sendmmsg(s, many, 2, 0));
    attempt("connect and write", s < 0 ? -1 : connect(s, (void *)&to, sizeof to) < 0 ? -1 : write(s, "hello", 5));
    s = socket(AF_INET6, SOCK_DGRAM, 0);
    attempt("mapped in IPv6", s < 0 ? -1 : sendto(s, "hello", 5, 0, (void *)&mapped, sizeof mapped));
    s = socket(AF_INET, SOCK_DGRAM, 136);
    attempt("UDP-Lite", s < 0 ? -1 : sendto(s, "hello", 5, 0, (void *)&to, sizeof to));
    s = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    attempt("echo request", s < 0 ? -1 : sendto(s, "\10\0\0\0\0\0\0\0", 8, 0, (void *)&to, sizeof to));
    s = socket(AF_INET, SOCK_SEQPACKET, 132);
    attempt("SCTP", s < 0 ? -1 : sendto(s, "hello", 5, 0, (void *)&to, sizeof to));
    return 0;
}
