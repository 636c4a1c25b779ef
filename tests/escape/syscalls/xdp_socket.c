/* title:   Sockets that share rings with the driver, AF_XDP
 * source:  Documentation/networking/af_xdp.rst
 * expect:  EACCES
 * fires:   call
 * control: namespaces
 */
#include "lib.h"

int run(void)
{
    long fd = syscall(SYS_socket, 44, SOCK_RAW, 0);
    attempt("socket", fd);
    int entries = 16;
    if (fd >= 0)
        attempt("ring", setsockopt((int)fd, 283, 2 /* XDP_RX_RING */, &entries, sizeof entries));
    attempt("socket, high half set", syscall(SYS_socket, 1L << 32 | 44, SOCK_RAW, 0));
    return 0;
}
