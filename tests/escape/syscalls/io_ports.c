/* title:   The program gets the machine's I/O ports
 * source:  iopl(2), ioperm(2)
 * expect:  EPERM
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_RAWIO
 */
#include "lib.h"

int run(void)
{
    attempt("ioperm", syscall(SYS_ioperm, 0x80, 1, 1));
    attempt("iopl", syscall(SYS_iopl, 3));
    attempt("ioperm, all", syscall(SYS_ioperm, 0, 65536, 1));
    int port = open("/dev/port", O_RDWR);
    if (port >= 0)
        attempt("/dev/port", port);
    return 0;
}
