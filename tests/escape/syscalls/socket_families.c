/* title:   Sockets of every family, by every number
 * source:  CVE-2017-6074 (DCCP), CVE-2010-3904 (RDS), CVE-2016-8655 (packet), CVE-2022-0435 (TIPC), CVE-2021-26708 (vsock)
 * expect:  EACCES
 * fires:   call
 * control: host
 *
 * All but AF_UNIX: families 0 to 63 with each type, some beyond, and AF_INET with something in the high half. What the kernel
 * does not know it would answer EAFNOSUPPORT; the wall answers before it.
 */
#include "lib.h"

int run(void)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM, SOCK_PACKET, SOCK_DCCP, 0, 99};
    char name[64];
    for (int family = 0; family < 64; family++)
        for (unsigned i = 0; family != AF_UNIX && i < sizeof types / sizeof *types; i++) {
            snprintf(name, sizeof name, "family %d, type %d", family, types[i]);
            long fd = syscall(SYS_socket, family, types[i], 0);
            attempt(name, fd);
            if (fd >= 0)
                close((int)fd);
        }
    static const long wide[] = {1L << 32 | AF_INET, 1L << 63 | AF_INET, 0xffffffffL << 32 | AF_NETLINK,
                                256 + AF_UNIX, 65536 + AF_UNIX,
                                -1, 0x7fffffff};
    for (unsigned i = 0; i < sizeof wide / sizeof *wide; i++) {
        snprintf(name, sizeof name, "family %#lx", wide[i]);
        attempt(name, syscall(SYS_socket, wide[i], SOCK_DGRAM, 0));
    }
    return 0;
}
