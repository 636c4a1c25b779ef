/* title:   Another process's memory is paged out, and what is left of a dying one reaped
 * source:  process_madvise(2), process_mrelease(2)
 * expect:  EPERM ESRCH
 * fires:   call
 * control: root
 *
 * process_madvise needs CAP_SYS_NICE for another's memory.
 */
#include "memory.h"

static unsigned long area, area_length;

static int first_area(int pid, unsigned long from, unsigned long length)
{
    (void)pid;
    area = from, area_length = length;
    return 1;
}

int run(void)
{
    each_area(victim(), 0, first_area);
    int own = (int)syscall(SYS_pidfd_open, getpid(), 0), pidfd = (int)syscall(SYS_pidfd_open, victim(), 0);
    struct iovec there = {(void *)area, area_length};
    attempt("page out the victim", pidfd < 0 ? -1 : syscall(SYS_process_madvise, pidfd, &there, 1, 21 /* MADV_PAGEOUT */, 0));
    attempt("cool down the victim", pidfd < 0 ? -1 : syscall(SYS_process_madvise, pidfd, &there, 1, 20 /* MADV_COLD */, 0));
    attempt("release the victim", pidfd < 0 ? -1 : syscall(SYS_process_mrelease, pidfd, 0));
    attempt("release oneself", syscall(SYS_process_mrelease, own, 0));
    if (inside()) {
        int init = (int)syscall(SYS_pidfd_open, 1, 0);
        there.iov_base = buf, there.iov_len = 4096;
        attempt("page out init", syscall(SYS_process_madvise, init, &there, 1, 21, 0));
    }
    return 0;
}
