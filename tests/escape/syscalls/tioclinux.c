/* title:   The console's own commands: paste, screen dump, key maps
 * source:  CVE-2023-28100 (flatpak): TIOCLINUX pastes into a virtual console; ioctl_console(2)
 * expect:  EPERM ENOTTY ENOENT EACCES ENXIO
 * fires:   call
 * control: root
 *
 * On the bare host only what asks is said to the first virtual console. An ordinary user cannot open one.
 */
#include "lib.h"

enum { LINUX = 0x541c };

static void tell(const char *name, int fd, unsigned long request, char subcommand)
{
    char text[2] = {subcommand, 0};
    attempt(name, fd < 0 ? -1 : syscall(SYS_ioctl, fd, request, text));
}

int run(void)
{
    static const char *const consoles[] = {"/dev/tty0", "/dev/tty1", "/dev/console", "/dev/tty"};
    for (unsigned i = 0; i < 4; i++) {
        int fd = open(consoles[i], O_RDWR | O_NOCTTY | O_NONBLOCK);
        char name[64];
        snprintf(name, sizeof name, "shift state, %s", consoles[i]);
        tell(name, fd, LINUX, 6);
        snprintf(name, sizeof name, "shift state, %s, high half set", consoles[i]);
        tell(name, fd, 1UL << 32 | LINUX, 6);
        if (fd >= 0)
            close(fd);
    }
    if (inside()) {
        int head = posix_openpt(O_RDWR | O_NOCTTY), tail = -1;
        if (head >= 0 && grantpt(head) == 0 && unlockpt(head) == 0)
            tail = open(ptsname(head), O_RDWR | O_NOCTTY);
        tell("paste, own terminal", tail, LINUX, 3);
        tell("select, own terminal", tail, LINUX, 2);
        for (int fd = 0; fd < 3; fd++)
            tell("paste, given descriptor", fd, LINUX, 3);
    }
    return 0;
}
