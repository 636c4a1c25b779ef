/* Pushes a byte into a terminal of its own, and into those that the program was given, by every high half of the request. */
#include "lib.h"

enum { STI = 0x5412 };

static int push(int fd, unsigned long request)
{
    char byte = 'x';
    return (int)syscall(SYS_ioctl, fd, request, &byte);
}

int run(void)
{
    static const unsigned long halves[] = {0, 1UL << 32, 1UL << 63, 0xffffffffUL << 32, 0x5412UL << 32};
    setsid();
    int head = posix_openpt(O_RDWR | O_NOCTTY), tail = -1;
    if (head >= 0 && grantpt(head) == 0 && unlockpt(head) == 0)
        tail = open(ptsname(head), O_RDWR);
    if (tail >= 0)
        ioctl(tail, TIOCSCTTY, 0);
    for (unsigned i = 0; i < sizeof halves / sizeof *halves; i++) {
        char name[64];
        snprintf(name, sizeof name, "own terminal, high half %#lx", halves[i] >> 32);
        attempt(name, push(tail, halves[i] | STI));
        snprintf(name, sizeof name, "own terminal's other end, high half %#lx", halves[i] >> 32);
        attempt(name, push(head, halves[i] | STI));
        for (int fd = 0; fd < 3; fd++)
            if (isatty(fd)) {
                snprintf(name, sizeof name, "descriptor %d, high half %#lx", fd, halves[i] >> 32);
                attempt(name, push(fd, halves[i] | STI));
            }
    }
    int terminal = open("/dev/tty", O_RDWR);
    if (terminal >= 0)
        attempt("/dev/tty", push(terminal, STI));
    return 0;
}
