/* title:   An overlay is mounted whose copies carry rights that their makers did not have
 * source:  CVE-2021-3493, CVE-2023-0386, CVE-2023-2640
 * expect:  EPERM ENOSYS SIGSYS EACCES EINVAL ENOSPC
 * fires:   call
 * control: namespaces
 *
 * In a user namespace of one's own: a setuid file or one with capabilities in the lower layer (of a FUSE file system), copied
 * up by a change of its owner. The flaws are mended; that the overlay can be mounted at all is what the control shows.
 */
#include "lib.h"
#include <sys/xattr.h>

static void with(const char *name, int flags)
{
    pid_t child = fork();
    if (child) {
        waitpid(child, NULL, 0);
        return;
    }
    if (flags && !attempt(name, unshare(flags)))
        _exit(0);
    static const char *const options[] = {"lowerdir=lower,upperdir=upper,workdir=work",
                                          "lowerdir=lower,upperdir=upper,workdir=work,userxattr",
                                          "lowerdir=/usr:lower,upperdir=upper,workdir=work,userxattr",
                                          "lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on,metacopy=on",
                                          "lowerdir=lower:/etc"};
    for (size_t n = 0; n < sizeof options / sizeof *options; n++)
        if (attempt("mount", mount("overlay", "merged", "overlay", 0, options[n]))) {
            attempt("give it capabilities", setxattr("merged/tool", "security.capability", "\1\0\0\2\377\377\377\377\0\0\0\0\377\377\377\377\0\0\0\0", 20, 0));
            attempt("make it setuid", chmod("merged/tool", 04755));
            umount2("merged", MNT_DETACH);
        }
    _exit(0);
}

int run(void)
{
    static const char *const dirs[] = {"lower", "upper", "work", "merged"};
    for (size_t n = 0; n < 4; n++)
        mkdir(dirs[n], 0755);
    close(open("lower/tool", O_WRONLY | O_CREAT, 0755));
    with("as it is", 0);
    if (inside()) {
        with("a user namespace", CLONE_NEWUSER | CLONE_NEWNS);
        with("a mount namespace", CLONE_NEWNS);
    }
    return 0;
}
