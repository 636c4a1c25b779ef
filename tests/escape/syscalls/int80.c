/* title:   Calls through the i386 gate, int 0x80
 * source:  CVE-2009-0835 and seccomp(2): a filter that does not check the architecture takes i386 numbers for its own
 * expect:  SIGSYS
 * fires:   read
 * control: host
 * harmless: yes
 *
 * On i386 5 is open and 310 is unshare, on x86-64 fstat and process_vm_readv: the wall must look at the architecture first.
 */
#include "i386.h"

static long getpid32(long with)
{
    (void)with;
    return int80(I386_GETPID, 0, 0, 0, 0, 0);
}
static long read32(long with)
{
    (void)with;
    long fd = int80(I386_OPEN, low_string(ground("secret")), O_RDONLY, 0, 0, 0);
    long n = fd < 0 ? -1 : int80(I386_READ, fd, (long)low, 4096, 0, 0);
    found(low, n);
    return n;
}
static long socket32(long with)
{
    int *words32 = (int *)low;
    words32[0] = AF_INET, words32[1] = SOCK_STREAM, words32[2] = 0;
    return int80(I386_SOCKETCALL, with, (long)low, 0, 0, 0);
}
static long unshare32(long with)
{
    return int80(I386_UNSHARE, with, 0, 0, 0, 0);
}
static long as_linux32(long with)
{
    syscall(SYS_personality, 8);
    return int80(I386_GETPID, with, 0, 0, 0, 0);
}

int run(void)
{
    make_low();
    attempt_apart("getpid", getpid32, 0);
    attempt_apart("open and read", read32, 0);
    attempt_apart("socketcall: socket", socket32, 1);
    attempt_apart("unshare: user namespace", unshare32, CLONE_NEWUSER);
    attempt_apart("getpid as PER_LINUX32", as_linux32, 0);
    return 0;
}
