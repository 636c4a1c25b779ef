/* title:   Another process's memory is written by process_vm_writev
 * source:  process_vm_writev(2)
 * expect:  EPERM ESRCH ENOENT
 * fires:   process
 * control: host
 */
#include "memory.h"

static long put(int pid, unsigned long to, const char *what, size_t length)
{
    struct iovec here = {(void *)(uintptr_t)what, length}, there = {(void *)to, length};
    return syscall(SYS_process_vm_writev, pid, &here, 1, &there, 1, 0);
}
static int overwrite(int pid, unsigned long from, unsigned long length)
{
    for (unsigned long at = 0; at < length && at < 8 << 20; at += sizeof buf) {
        size_t part = length - at < sizeof buf ? length - at : sizeof buf;
        struct iovec here = {buf, part}, there = {(void *)(from + at), part};
        long n = syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0);
        char *canary = find_canary(buf, n);
        if (canary)
            attempt("overwrite the canary", put(pid, from + at + (unsigned long)(canary - buf), "CHANGED", 7));
    }
    return 0;
}

int run(void)
{
    if (!each_area(victim(), 1, overwrite))
        attempt("areas of the victim", -1);
    if (inside()) {
        attempt("the victim, at an address of one's own", put(victim(), (unsigned long)buf, "CHANGED", 7));
        attempt("init", put(1, (unsigned long)buf, "CHANGED", 7));
        attempt("the parent", put(getppid(), (unsigned long)buf, "CHANGED", 7));
    }
    return 0;
}
