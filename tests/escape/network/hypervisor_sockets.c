/* title:   What lies beneath the machine is called: sockets to the hypervisor and to other kernels
 * source:  vsock(7); CVE-2021-26708; address_families(7): TIPC, RDS, QIPCRTR, SMC, Xen
 * expect:  EACCES EPERM EAFNOSUPPORT EPROTONOSUPPORT ESOCKTNOSUPPORT ENOENT ENODEV
 * fires:   call
 * control: host
 *
 * To have the socket is the success: who answers depends on the machine.
 */
#include "lib.h"
#include <linux/vm_sockets.h>

int run(void)
{
    const struct { const char *name; int family, type, protocol; } kinds[] = {
        {"vsock stream", AF_VSOCK, SOCK_STREAM, 0}, {"vsock datagram", AF_VSOCK, SOCK_DGRAM, 0}, {"vsock packets", AF_VSOCK, SOCK_SEQPACKET, 0},
        {"TIPC", 30, SOCK_STREAM, 0}, {"RDS", 21, SOCK_SEQPACKET, 0}, {"IPC router", 42, SOCK_DGRAM, 0}, {"SMC", 43, SOCK_STREAM, 0},
        {"express path", 44, SOCK_RAW, 0}, {"Bluetooth", 31, SOCK_RAW, 1}, {"NFC", 39, SOCK_SEQPACKET, 0}, {"CAN", 29, SOCK_RAW, 1},
        {"key management", 15, SOCK_RAW, 2}, {"link layer control", 26, SOCK_STREAM, 0}, {"kernel connection multiplexor", 41, SOCK_DGRAM, 0},
    };
    for (unsigned n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        int s = socket(kinds[n].family, kinds[n].type, kinds[n].protocol);
        attempt(kinds[n].name, s);
        if (s >= 0)
            close(s);
    }
    struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1024};
    int s = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (inside() || s < 0)
        attempt("the hypervisor, port 1024", s < 0 ? -1 : connect(s, (void *)&host, sizeof host));
    if (inside()) {
        int fd = open("/dev/vsock", O_RDONLY);
        attempt("its device", fd);
    }
    return 0;
}
