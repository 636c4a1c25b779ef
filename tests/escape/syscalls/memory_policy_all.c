/* title:   Pages that other processes share are moved by mbind and move_pages
 * source:  mbind(2) MPOL_MF_MOVE_ALL
 * expect:  EPERM ENOSYS
 * fires:   call
 * control: root
 *
 * MPOL_MF_MOVE_ALL needs CAP_SYS_NICE of the machine's root: an ordinary user is refused by the kernel.
 */
#include "lib.h"

int run(void)
{
    void *page = (void *)((uintptr_t)buf & ~4095UL);
    unsigned long first = 1;
    int status[1], nodes[1] = {0};
    attempt("mbind, all sharers", syscall(SYS_mbind, page, 4096L, 2 /* MPOL_BIND */, &first, 8L, 4 /* MPOL_MF_MOVE_ALL */));
    attempt("move_pages, all sharers", syscall(SYS_move_pages, 0, 1, &page, nodes, status, 4));
    return 0;
}
