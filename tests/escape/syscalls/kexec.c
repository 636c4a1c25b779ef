/* title:   Another kernel is loaded
 * source:  kexec_load(2), kexec_file_load(2); CVE-2015-7837 (unsigned kernels)
 * expect:  EPERM
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_BOOT
 */
#include "refused.h"

int run(void)
{
    attempt_admission("no segments", syscall(SYS_kexec_load, 0, 0, NULL, 0));
    attempt_admission("no segments, for a crash", syscall(SYS_kexec_load, 0, 0, NULL, 1));
    attempt_admission("by descriptor", syscall(SYS_kexec_file_load, -1, -1, 0, NULL, 0));
    return 0;
}
