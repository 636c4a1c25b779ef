/* title:   The kernel's emergency keys are pressed
 * source:  proc_sysrq-trigger(5)
 * expect:  EACCES EROFS EPERM ENOENT EIO ENOTDIR
 * fires:   call
 * control: rig
 * control-user: void: the kernel's own files are root's
 *
 * The key is the one that prints help on the console, and does no more.
 */
#include "lib.h"

int run(void)
{
    static const char *const names[] = {"/proc/sysrq-trigger", "/proc/self/../sysrq-trigger", "/proc/1/root/proc/sysrq-trigger",
                                        "/proc/self/cwd/../../../../../proc/sysrq-trigger", "/proc/thread-self/../../../sysrq-trigger"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        int fd = open(names[n], O_WRONLY);
        attempt("press a key", fd < 0 ? fd : write(fd, "h", 1));
        if (fd >= 0)
            close(fd);
    }
    if (inside())
        attempt("its mode", chmod("/proc/sysrq-trigger", 0666));
    attempt("which keys there are", open("/proc/sys/kernel/sysrq", O_WRONLY));
    return 0;
}
