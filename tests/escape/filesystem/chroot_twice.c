/* title:   A chroot is left by a second one, with the working directory kept outside of it
 * source:  chroot(2): "this call does not change the current working directory"; S. Friedl, "Best practices for chroot"
 * expect:  EPERM ENOSYS SIGSYS ENOENT EACCES
 * fires:   read
 * control: namespaces
 * harmless: yes
 *
 * In namespaces of its own the tool goes into DIR/project first.
 */
#include "lib.h"

static void climb(void)
{
    for (int up = 0; up < 64; up++)
        if (chdir(".."))
            break;
    attempt_read("read from above", AT_FDCWD, ground("secret") + 1);
    if (attempt("make the top the root", chroot(".")))
        attempt_read("read from the root", AT_FDCWD, ground("secret"));
}

int run(void)
{
    if (!inside() && (chroot(".") || chdir("/")))
        return 1;
    mkdir("jail", 0755);
    int top = open(".", O_RDONLY | O_DIRECTORY);
    attempt("a root below", chroot("jail"));
    climb();
    /* By a descriptor that was taken before. */
    if (!fchdir(top))
        climb();
    attempt("a root of the kernel's links", chroot("/proc/1/root"));
    attempt("a root of a descriptor", chroot("/proc/self/fd/8"));
    attempt("a root of where it is", chroot("."));
    attempt("a root above", chroot("../../../../../../.."));
    return 0;
}
