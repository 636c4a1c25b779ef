/* title:   Calls by x32 numbers
 * source:  x32 ABI, arch/x86/entry/syscalls/syscall_64.tbl; CVE-2014-0038; the note on __X32_SYSCALL_BIT in seccomp(2)
 * expect:  SIGSYS
 * fires:   read
 * control: void: this kernel was built without x32, such a number is ENOSYS to it
 * harmless: yes
 *
 * The architecture that a filter sees is x86-64. A filter that compares numbers with a list of denied ones lets them pass.
 */
#include "lib.h"

static long bare(long nr)
{
    return syscall(0x40000000 | nr, 0, 0, 0, 0, 0, 0);
}
static long open_and_read(long with)
{
    long fd = syscall(0x40000000 | SYS_open, ground("secret"), O_RDONLY, with);
    long n = fd < 0 ? -1 : syscall(0x40000000 | SYS_read, fd, buf, sizeof buf);
    found(buf, n);
    return n;
}
static long unshare_user(long nr)
{
    return syscall(nr, CLONE_NEWUSER);
}

int run(void)
{
    attempt_apart("getpid", bare, SYS_getpid);
    attempt_apart("open and read", open_and_read, 0);
    attempt_apart("unshare", unshare_user, 0x40000000 | SYS_unshare);
    /* From 512 on: the calls that x32 has for itself, rt_sigaction to execveat. */
    attempt_apart("ptrace (521)", bare, 521);
    attempt_apart("process_vm_readv (539)", bare, 539);
    attempt_apart("readv (515)", bare, 515);
    attempt_apart("execve (520)", bare, 520);
    attempt_apart("getpid with bit 31 in place of bit 30", bare, 0x80000000 | SYS_getpid);
    return 0;
}
