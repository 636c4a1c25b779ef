/* title:   Sockets of any family are made and connected by io_uring
 * source:  IORING_OP_SOCKET (Linux 5.19), IORING_OP_CONNECT; Curing (ARMO, 2025), a rootkit that makes no other calls
 * expect:  ENOSYS EPERM
 * fires:   connect
 * control: host
 */
#include "ring.h"
#include <arpa/inet.h>

static long make(struct ring *ring, int family, int type, int protocol)
{
    struct io_uring_sqe request = {.opcode = IORING_OP_SOCKET, .fd = family, .off = (unsigned)type, .len = (unsigned)protocol};
    return ring_do(ring, request);
}

int run(void)
{
    struct ring ring;
    if (!attempt("ring", ring_make(&ring)))
        return 0;
    attempt("socket AF_NETLINK", make(&ring, AF_NETLINK, SOCK_RAW, 0));
    attempt("socket AF_PACKET", make(&ring, AF_PACKET, SOCK_RAW, 0));
    long fd = make(&ring, AF_INET, SOCK_STREAM, 0);
    attempt("socket AF_INET", fd);
    if (fd < 0)
        return 0;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arg("tcp"))),
                             .sin_addr.s_addr = htonl(0x7f000001)};
    struct io_uring_sqe request = {.opcode = IORING_OP_CONNECT, .fd = (int)fd, .addr = (uintptr_t)&to, .off = sizeof to};
    attempt("connect", ring_do(&ring, request));
    struct io_uring_sqe more = {.opcode = IORING_OP_SEND, .fd = (int)fd, .addr = (uintptr_t) "out\n", .len = 4};
    attempt("send", ring_do(&ring, more));
    return 0;
}
