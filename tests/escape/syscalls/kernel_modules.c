/* title:   Code is loaded into the kernel as a module, or taken out of it
 * source:  init_module(2), finit_module(2), delete_module(2); capabilities(7): CAP_SYS_MODULE
 * expect:  EPERM
 * fires:   call
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_MODULE
 */
#include "refused.h"

int run(void)
{
    attempt_admission("init_module", syscall(SYS_init_module, "no module", 9L, ""));
    int self = open("/proc/self/exe", O_RDONLY);
    attempt_admission("finit_module", syscall(SYS_finit_module, self, "", 0));
    attempt_admission("finit_module, checks off", syscall(SYS_finit_module, self, "", 3));
    attempt_admission("delete_module", syscall(SYS_delete_module, "escape_none", O_NONBLOCK));
    return 0;
}
