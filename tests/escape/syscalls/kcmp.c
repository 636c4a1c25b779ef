/* title:   Two processes are compared, which tells of the kernel's pointers
 * source:  kcmp(2)
 * expect:  EPERM
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"

int run(void)
{
    static const char *const kinds[] = {"file", "vm", "files", "fs", "sighand", "io", "sysvsem"};
    for (int kind = 0; kind < 7; kind++) {
        char name[64];
        snprintf(name, sizeof name, "%s, with the victim", kinds[kind]);
        attempt(name, syscall(SYS_kcmp, getpid(), victim(), kind, 0, 0));
        snprintf(name, sizeof name, "%s, with oneself", kinds[kind]);
        attempt(name, syscall(SYS_kcmp, getpid(), getpid(), kind, 0, 0));
    }
    if (inside())
        attempt("vm, with init", syscall(SYS_kcmp, getpid(), 1, 1, 0, 0));
    return 0;
}
