/* title:   A user namespace of one's own gives the capabilities to mount
 * source:  user_namespaces(7); CVE-2022-0185, CVE-2013-1858
 * expect:  EPERM ENOSYS SIGSYS EINVAL EACCES ENOSPC EUSERS
 * fires:   call
 * control: host
 */
#include "lib.h"

static void mounts(void)
{
    /* On the bare host nothing of it may come back: a new namespace of root's shares its mounts with the old one. */
    if (!inside() && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        return;
    attempt("a file system in memory", mount("tmpfs", ".", "tmpfs", 0, NULL));
    attempt("a proc without covers", mount("proc", ".", "proc", 0, NULL));
    attempt("a sysfs", mount("sysfs", ".", "sysfs", 0, NULL));
    attempt("the root, bound", mount("/", ".", NULL, MS_BIND | MS_REC, NULL));
    attempt("terminals", mount("devpts", ".", "devpts", 0, "newinstance"));
    attempt("control groups", mount("cgroup2", ".", "cgroup2", 0, NULL));
}

int run(void)
{
    static const struct {
        const char *name;
        int flags;
    } ways[] = {{"user and mount namespaces", CLONE_NEWUSER | CLONE_NEWNS},
                {"all namespaces", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP},
                {"a user namespace first", CLONE_NEWUSER},
                {"a mount namespace alone", CLONE_NEWNS},
                {"files of its own too", CLONE_NEWUSER | CLONE_NEWNS | CLONE_FS | CLONE_FILES}};
    for (size_t n = 0; n < sizeof ways / sizeof *ways; n++) {
        pid_t child = fork();
        if (!child) {
            if (attempt(ways[n].name, unshare(ways[n].flags))) {
                if (ways[n].flags == CLONE_NEWUSER)
                    attempt("a mount namespace in it", unshare(CLONE_NEWNS));
                mounts();
            }
            _exit(0);
        }
        waitpid(child, NULL, 0);
        /* The same by clone, whose flags are another argument. */
        child = syscall(SYS_clone, (ways[n].flags & ~(CLONE_FS | CLONE_FILES)) | SIGCHLD, 0, 0, 0, 0);
        if (!child) {
            mounts();
            _exit(0);
        }
        if (attempt("by clone", child))
            waitpid(child, NULL, 0);
    }
    if (inside())
        mounts();
    return 0;
}
