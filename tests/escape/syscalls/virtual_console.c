/* title:   Keyboard, screen and mode of a virtual console
 * source:  ioctl_console(2): KDSKBSENT, KDSETMODE, VT_*; CVE-2020-25656, vcs(4)
 * expect:  ENOENT EACCES EPERM ENXIO
 * fires:   call
 * control: root
 *
 * What is asked changes nothing; who may ask may type for the person who sits there.
 */
#include "lib.h"

int run(void)
{
    static const char *const devices[] = {"/dev/tty0", "/dev/tty1", "/dev/console", "/dev/vcs", "/dev/vcsa", "/dev/vcs1",
                                          "/dev/ttyS0", "/dev/input/event0", "/dev/uinput", "/dev/fb0"};
    for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++) {
        int fd = open(devices[i], O_RDWR | O_NOCTTY | O_NONBLOCK);
        long mode = 0;
        if (!attempt(devices[i], fd))
            continue;
        attempt("keyboard mode", ioctl(fd, 0x4b44 /* KDGKBMODE */, &mode));
        attempt("display mode", ioctl(fd, 0x4b3b /* KDGETMODE */, &mode));
        char state[8];
        attempt("which console", ioctl(fd, 0x5603 /* VT_GETSTATE */, state));
        close(fd);
    }
    return 0;
}
