/* title:   Addresses in another process are learned from its robust list
 * source:  get_robust_list(2); Linux 3.4 "futex: Do not leak robust list to unprivileged process"
 * expect:  ESRCH EPERM
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"

int run(void)
{
    void *head = NULL;
    size_t length = 0;
    attempt("of the victim", syscall(SYS_get_robust_list, victim(), &head, &length));
    if (inside())
        attempt("of init", syscall(SYS_get_robust_list, 1, &head, &length));
    return 0;
}
