/* title:   Memory of the machine is swapped to a file of the program's
 * source:  swapon(2): what others have in memory could be read there
 * expect:  EPERM
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_ADMIN of the machine's root
 */
#include "refused.h"

int run(void)
{
    int fd = open("escape-swap", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0 && ftruncate(fd, 1 << 20) == 0)
        attempt_admission("a file without a header", syscall(SYS_swapon, "escape-swap", 0));
    attempt_admission("a file that is not there", syscall(SYS_swapon, "escape-none", 0));
    attempt_admission("off", syscall(SYS_swapoff, "escape-none"));
    if (fd >= 0)
        unlink("escape-swap");
    return 0;
}
