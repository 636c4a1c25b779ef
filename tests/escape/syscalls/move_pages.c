/* title:   Another process's pages are located and moved between nodes
 * source:  move_pages(2), CVE-2017-14140 (addresses of setuid programs by move_pages); migrate_pages(2)
 * expect:  EPERM ESRCH ENOSYS
 * fires:   call
 * control: host
 */
#include "lib.h"

int run(void)
{
    void *pages[1] = {(void *)((uintptr_t)buf & ~4095UL)};
    int status[1], nodes[1] = {0};
    unsigned long first = 1;
    attempt("where the victim's page is", syscall(SYS_move_pages, victim(), 1, pages, NULL, status, 0));
    attempt("move the victim's page", syscall(SYS_move_pages, victim(), 1, pages, nodes, status, 2));
    attempt("migrate the victim", syscall(SYS_migrate_pages, victim(), 8, &first, &first));
    if (inside()) {
        attempt("where init's page is", syscall(SYS_move_pages, 1, 1, pages, NULL, status, 0));
        attempt("migrate the parent", syscall(SYS_migrate_pages, getppid(), 8, &first, &first));
    }
    return 0;
}
