/* title:   The kernel's console is redirected to a terminal of one's own
 * source:  tiocons(2const): TIOCCONS
 * expect:  EPERM ENOTTY
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_ADMIN of the machine's root
 */
#include "lib.h"

int run(void)
{
    int head = posix_openpt(O_RDWR | O_NOCTTY), tail = -1;
    if (head >= 0 && grantpt(head) == 0 && unlockpt(head) == 0)
        tail = open(ptsname(head), O_RDWR | O_NOCTTY);
    attempt("own terminal", syscall(SYS_ioctl, tail, 0x541dUL, 0));
    attempt("own terminal, high half set", syscall(SYS_ioctl, tail, 0xffffffff0000541dUL, 0));
    attempt("other end", syscall(SYS_ioctl, head, 0x541dUL, 0));
    return 0;
}
