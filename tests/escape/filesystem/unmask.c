/* title:   What is covered is uncovered by unmounting the cover
 * source:  mount_namespaces(7), umount2(2); the masks of CVE-2019-16884
 * expect:  EPERM ENOSYS SIGSYS EACCES EINVAL
 * fires:   read
 * control: namespaces
 *
 * In namespaces of its own DIR/public is covered with /dev/null first.
 */
#include "lib.h"

static void uncover(const char *at)
{
    attempt("unmount", umount2(at, 0));
    attempt("detach", umount2(at, MNT_DETACH));
    attempt("force", umount2(at, MNT_FORCE | UMOUNT_NOFOLLOW));
    attempt("expire", umount2(at, MNT_EXPIRE));
}

int run(void)
{
    const char *public = ground("public");
    if (!inside()) {
        if (mount("/dev/null", public, NULL, MS_BIND, NULL))
            return 1;
        attempt_read("read what is covered", AT_FDCWD, public);
        uncover(public);
        attempt_read("read what is covered", AT_FDCWD, public);
        return 0;
    }
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    char line[8192], at[4096];
    int seen = 0;
    while (mounts && fgets(line, sizeof line, mounts))
        if (sscanf(line, "%*s %*s %*s %*s %4095s", at) == 1) {
            uncover(at);
            seen++;
        }
    uncover(".");
    uncover("/");
    uncover("/proc/self/cwd");
    return seen == 0;
}
