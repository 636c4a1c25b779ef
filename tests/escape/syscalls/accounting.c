/* title:   Accounting of all processes is switched, to a file of the program's
 * source:  acct(2)
 * expect:  EPERM
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_PACCT of the machine's root
 */
#include "refused.h"

int run(void)
{
    attempt_admission("a file that is not there", syscall(SYS_acct, "escape-none"));
    attempt_admission("a directory", syscall(SYS_acct, "."));
    return 0;
}
