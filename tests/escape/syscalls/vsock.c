/* title:   The hypervisor's own line: vsock to the host and to the machine itself
 * source:  vsock(7), CVE-2021-26708, CVE-2024-50264; no network namespace closes it
 * expect:  EACCES
 * fires:   call
 * control: host
 */
#include "lib.h"
#include <linux/vm_sockets.h>

int run(void)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    for (unsigned i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "type %d", types[i]);
        attempt(name, syscall(SYS_socket, AF_VSOCK, types[i], 0));
    }
    long fd = syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    if (fd >= 0) {
        attempt("bind", bind((int)fd, (void *)&any, sizeof any));
        attempt("listen", listen((int)fd, 1));
    }
    return 0;
}
