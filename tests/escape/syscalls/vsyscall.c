/* title:   Calls by the vsyscall page, with another number in the register
 * source:  seccomp(2), vsyscall(7): the kernel makes the call itself, and only three
 * expect:  GOT SIGSEGV SIGSYS EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * GOT: the time, which the program may ask for anyway. A call of its own choice must not come of it.
 */
#include "lib.h"
#include <sys/time.h>

static long at(long where)
{
    struct timeval now = {0, 0};
    long answer;
    unsigned long to = 0xffffffffff600000UL + (unsigned long)where;
    asm volatile("call *%1" : "=a"(answer) : "r"(to), "0"(SYS_keyctl), "D"(&now), "S"(0L), "d"(0L) : "memory", "rcx", "r11");
    if (answer < 0 && answer > -4096) {
        errno = (int)-answer;
        return -1;
    }
    return answer < 0 ? 0 : answer;
}
static long peek(long where)
{
    return *(volatile unsigned char *)(0xffffffffff600000UL + (unsigned long)where);
}

int run(void)
{
    attempt_apart("gettimeofday", at, 0);
    attempt_apart("time", at, 0x400);
    attempt_apart("getcpu", at, 0x800);
    attempt_apart("a fourth one", at, 0xc00);
    attempt_apart("in the middle of the first", at, 7);
    attempt_apart("read the page", peek, 0);
    return 0;
}
