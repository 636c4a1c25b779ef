/* title:   Packet and raw sockets
 * source:  CVE-2016-8655, CVE-2017-7308, CVE-2020-14386 (AF_PACKET in a user namespace)
 * expect:  EACCES
 * fires:   call
 * control: namespaces
 */
#include "lib.h"
#include <arpa/inet.h>

int run(void)
{
    int version = 2;
    long fd = syscall(SYS_socket, AF_PACKET, SOCK_RAW, htons(3));
    attempt("packet", fd);
    if (fd >= 0)
        attempt("ring version", setsockopt((int)fd, 263, 10 /* PACKET_VERSION */, &version, sizeof version));
    attempt("packet, no protocol", syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0));
    attempt("packet, datagrams", syscall(SYS_socket, AF_PACKET, SOCK_DGRAM, 0));
    attempt("the old way", syscall(SYS_socket, AF_INET, SOCK_PACKET, htons(3)));
    attempt("raw", syscall(SYS_socket, AF_INET, SOCK_RAW, 1));
    attempt("raw, IPv6", syscall(SYS_socket, AF_INET6, SOCK_RAW, 58));
    attempt("ping", syscall(SYS_socket, AF_INET, SOCK_DGRAM, 1));
    return 0;
}
