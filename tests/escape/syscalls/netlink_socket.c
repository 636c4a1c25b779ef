/* title:   Netlink: routes, netfilter, audit, device events, xfrm
 * source:  CVE-2013-1763 (sock_diag), CVE-2017-16939 (xfrm), CVE-2022-34918, CVE-2024-1086 (nf_tables)
 * expect:  EACCES
 * fires:   call
 * control: host
 */
#include "lib.h"
#include <linux/netlink.h>

int run(void)
{
    for (int protocol = 0; protocol < 24; protocol++) {
        char name[64];
        long fd = syscall(SYS_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
        snprintf(name, sizeof name, "protocol %d", protocol);
        attempt(name, fd);
        if (fd < 0)
            continue;
        struct sockaddr_nl at = {.nl_family = AF_NETLINK, .nl_groups = 1};
        snprintf(name, sizeof name, "group of protocol %d", protocol);
        attempt(name, bind((int)fd, (void *)&at, sizeof at));
        close((int)fd);
    }
    return 0;
}
