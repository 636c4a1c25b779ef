/* title:   Terminals of the host's are opened: the controlling one, the pseudo terminals, the console
 * source:  tty(4), pts(4), console(4)
 * expect:  ENOENT ENXIO EACCES EIO EPERM ENOSPC ENOTTY ENOTDIR
 * fires:   call
 * control: host
 *
 * On the bare host a child opens the slave of its parent's pseudo terminal by its number. TIOCSTI and its kin are cases of
 * their own.
 */
#include "lib.h"

int run(void)
{
    char path[64];
    if (!inside()) {
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        if (master < 0 || grantpt(master) || unlockpt(master))
            return 1;
        snprintf(path, sizeof path, "%s", ptsname(master));
        pid_t child = fork();
        if (!child) {
            close(master);
            attempt("another's terminal", open(path, O_RDWR | O_NOCTTY));
            _exit(0);
        }
        waitpid(child, NULL, 0);
        return 0;
    }
    static const char *const names[] = {"/dev/tty", "/dev/console", "/dev/tty0", "/dev/tty1", "/dev/ttyS0", "/dev/hvc0", "/dev/vcs",
                                        "/dev/vcsa1", "/proc/self/fd/0/../tty", "/proc/1/fd/0", "/dev/stdin/../tty"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        attempt(names[n], open(names[n], O_RDWR | O_NOCTTY));
    for (int n = 0; n < 64; n++) {
        snprintf(path, sizeof path, "/dev/pts/%d", n);
        attempt("a pseudo terminal", open(path, O_RDWR | O_NOCTTY));
    }
    /* One of its own must be of a device file system of its own: number 0, and nobody else in it. */
    int master = posix_openpt(O_RDWR | O_NOCTTY), number = 0;
    if (master >= 0 && !ioctl(master, TIOCGPTN, &number) && number > 0)
        attempt("a number that others count too", 0);
    /* The peer by the master alone, past the name. */
    attempt("a peer of what is no master", ioctl(1, 0x5441 /* TIOCGPTPEER */, O_RDWR));
    return 0;
}
