/* title:   The old root is brought back, or another put in its place
 * source:  pivot_root(2), "pivot_root(".", ".")": the old root lies over the new one until it is detached
 * expect:  EPERM ENOSYS SIGSYS EINVAL EBUSY ENOENT EACCES
 * fires:   read
 * control: namespaces
 *
 * In namespaces of its own the tool pivots into DIR/project without detaching, as a careless supervisor would.
 */
#include "lib.h"

int run(void)
{
    if (!inside()) {
        if (mount(".", ".", NULL, MS_BIND, NULL) || chdir(ground("project")) || syscall(SYS_pivot_root, ".", "."))
            return 1;
        /* What this process sees as its root is the new one; what lies over it is reached by "..". */
    }
    char path[4200] = "..";
    strcat(path, ground("secret"));
    attempt_read("read what lies over the root", AT_FDCWD, path);
    int up = open("/..", O_PATH | O_DIRECTORY);
    attempt_read("read from above the root", up, ground("secret") + 1);
    attempt_read("read two above the root", AT_FDCWD, ground("../../../../../../../../secret"));
    if (!inside())
        return 0;
    attempt("uncover the root", umount2("/", MNT_DETACH));
    attempt("uncover what is above", umount2("/..", MNT_DETACH));
    attempt("pivot in place", syscall(SYS_pivot_root, ".", "."));
    attempt("pivot to /tmp", syscall(SYS_pivot_root, "/tmp", "/tmp"));
    attempt("pivot the root out", syscall(SYS_pivot_root, "/", "/tmp"));
    attempt("pivot to what init sees", syscall(SYS_pivot_root, "/proc/1/root", "/proc/1/root/tmp"));
    attempt("move over the root", mount("/tmp", "/", NULL, MS_MOVE, NULL));
    attempt("bind over the root", mount("/tmp", "/", NULL, MS_BIND | MS_REC, NULL));
    attempt_read("read afterwards", AT_FDCWD, ground("secret"));
    return 0;
}
