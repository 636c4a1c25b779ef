/* title:   A denied call whose number has something in its high half
 * source:  arch/x86/entry/common.c: the number is an int; CVE-2010-3301 (ia32 entry, %rax not cut to 32 bits)
 * expect:  EPERM ENOSYS EACCES
 * fires:   call
 * control: host
 * harmless: yes
 *
 * The kernel takes the low half. A wall that compares all 64 bits would find no rule.
 */
#include "lib.h"

static long raw(unsigned long nr, long a, long b, long c)
{
    long answer;
    asm volatile("syscall" : "=a"(answer) : "a"(nr), "D"(a), "S"(b), "d"(c) : "memory", "rcx", "r11");
    if (answer >= 0)
        return answer;
    errno = (int)-answer;
    return -1;
}

int run(void)
{
    static const unsigned long halves[] = {0, 1UL << 32, 1UL << 63, 0xdeadbeefUL << 32, 0xffffffffUL << 32};
    char params[256];
    for (unsigned i = 0; i < sizeof halves / sizeof *halves; i++) {
        char name[64];
        snprintf(name, sizeof name, "keyctl, high half %#lx", halves[i] >> 32);
        attempt(name, raw(halves[i] | SYS_keyctl, 0, -2, 1));
        snprintf(name, sizeof name, "io_uring_setup, high half %#lx", halves[i] >> 32);
        memset(params, 0, sizeof params);
        attempt(name, raw(halves[i] | SYS_io_uring_setup, 1, (long)params, 0));
        snprintf(name, sizeof name, "socket, high half %#lx", halves[i] >> 32);
        attempt(name, raw(halves[i] | SYS_socket, AF_INET, SOCK_DGRAM, 0));
    }
    return 0;
}
