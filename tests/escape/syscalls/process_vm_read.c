/* title:   Another process's memory is read by process_vm_readv
 * source:  process_vm_readv(2), CVE-2012-0056 (/proc/pid/mem)
 * expect:  EPERM ESRCH ENOENT
 * fires:   read
 * control: host
 * harmless: yes
 */
#include "memory.h"

static long copy(int pid, unsigned long from, unsigned long length)
{
    struct iovec here = {buf, length < sizeof buf ? length : sizeof buf}, there = {(void *)from, here.iov_len};
    return syscall(SYS_process_vm_readv, pid, &here, 1, &there, 1, 0);
}
static int search(int pid, unsigned long from, unsigned long length)
{
    for (unsigned long at = 0; at < length && at < 8 << 20; at += sizeof buf) {
        long n = copy(pid, from + at, length - at);
        char *canary = find_canary(buf, n);
        if (canary) {
            attempt("read the victim's memory", n);
            found(canary, buf + n - canary < 64 ? buf + n - canary : 64);
            return 1;
        }
    }
    return 0;
}

int run(void)
{
    attempt("an address of one's own in the victim", copy(victim(), (unsigned long)buf, 16));
    if (!each_area(victim(), 0, search))
        attempt("areas of the victim", -1);
    if (inside()) {
        attempt("init", copy(1, (unsigned long)buf, 16));
        attempt("the parent", copy(getppid(), (unsigned long)buf, 16));
    }
    attempt("oneself", copy(getpid(), (unsigned long)main, 16));
    return 0;
}
