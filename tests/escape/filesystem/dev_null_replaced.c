/* title:   What the view is made of is replaced: its device nodes, its /etc, its links
 * source:  CVE-2025-31133, CVE-2025-52565 (runc: /dev/null and /dev/console replaced by links)
 * expect:  EROFS EACCES EPERM EBUSY ENOENT EXDEV EEXIST ENOTEMPTY ENOTDIR EOPNOTSUPP EISDIR EINVAL EOVERFLOW
 * fires:   change
 * control: host
 *
 * Whoever mounts /dev/null over something later would mount what the link leads to; other runs see the same files. On the
 * bare host it is a file of this name in DIR/targets.
 */
#include "lib.h"
#include <sys/xattr.h>

static void replace(const char *path)
{
    char other[4200];
    int file = strcmp(path, "/dev/null") && strcmp(path, "/dev/zero") && strcmp(path, "/dev/tty");
    snprintf(other, sizeof other, "%s.link", path);
    attempt("a link beside it", symlink(ground("secret"), other));
    /* Of the host's own files nothing is tried that would harm it where a wall does not hold. */
    if (!strncmp(path, "/usr", 4) || !strncmp(path, "/escape", 7))
        return;
    attempt("put over it", rename(other, path));
    attempt("a name for it", link(path, other));
    attempt("away", rename(path, other));
    attempt("in exchange", syscall(SYS_renameat2, AT_FDCWD, "kept", AT_FDCWD, path, 2));
    /* Of a link itself: what it leads to may be the program's own (/dev/fd, /dev/ptmx). */
    attempt("times", utimensat(AT_FDCWD, path, (struct timespec[2]){{1, 0}, {1, 0}}, AT_SYMLINK_NOFOLLOW));
    attempt("owner", lchown(path, 1000, 1000));
    struct stat what;
    if (!lstat(path, &what) && !S_ISLNK(what.st_mode)) {
        attempt("mode", chmod(path, 0777));
        attempt("mark", setxattr(path, "user.mark", "y", 1, 0));
    }
    if (file)
        attempt("length", truncate(path, 0));
    attempt("unlink", unlink(path));
    attempt("rmdir", rmdir(path));
}

int run(void)
{
    if (!inside()) {
        close(open(ground("targets/null"), O_WRONLY | O_CREAT, 0644));
        attempt("a link beside it", symlink(ground("secret"), ground("targets/link")));
        attempt("put over it", rename(ground("targets/link"), ground("targets/null")));
        return 0;
    }
    close(open("kept", O_WRONLY | O_CREAT, 0644));
    static const char *const all[] = {"/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx", "/dev/fd", "/dev/shm", "/dev/pts", "/dev", "/etc/passwd",
                                      "/etc/group", "/etc/hosts", "/etc/resolv.conf", "/etc/ld.so.cache", "/etc", "/bin", "/lib64", "/proc",
                                      "/sys", "/tmp", "/usr", "/usr/bin/sh", "/escape", "/escape/lib.py"};
    for (size_t n = 0; n < sizeof all / sizeof *all; n++)
        if (strcmp(all[n], "/tmp") && strcmp(all[n], "/dev/shm") && strcmp(all[n], "/proc"))
            replace(all[n]);
    for (size_t n = 0; n < 3; n++) {
        static const char *const mounts[] = {"/tmp", "/dev/shm", "/proc"};
        attempt("away", rename(mounts[n], "/tmp/elsewhere"));
        attempt("rmdir", rmdir(mounts[n]));
    }
    attempt("a new name in the root", mkdir("/new", 0755));
    attempt("a new name in /dev", symlink("/proc/1/root", "/dev/new"));
    return 0;
}
