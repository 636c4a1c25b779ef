/* title:   Page faults are held up by userfaultfd, the tool of many kernel races
 * source:  Nikolenko's exploit of CVE-2016-6187 holds the kernel in copy_from_user with it; userfaultfd(2)
 * expect:  EPERM ENOENT
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <linux/userfaultfd.h>

int run(void)
{
    attempt("whole", syscall(SYS_userfaultfd, 0));
    attempt("user mode only", syscall(SYS_userfaultfd, 1 /* UFFD_USER_MODE_ONLY */));
    attempt("non-blocking", syscall(SYS_userfaultfd, 1 | O_NONBLOCK | O_CLOEXEC));
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    attempt("device", device);
    attempt("device's request", device < 0 ? -1 : ioctl(device, 0xAA00 /* USERFAULTFD_IOC_NEW */, 0));
    return 0;
}
