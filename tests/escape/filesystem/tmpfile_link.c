/* title:   A file without a name is made where only names are refused, and then named elsewhere
 * source:  open(2), O_TMPFILE; linkat(2)
 * expect:  EROFS EACCES EPERM ENOENT EXDEV EOPNOTSUPP EISDIR ENOTDIR
 * fires:   change
 * control: host
 */
#include "lib.h"

static void named(int fd, const char *path)
{
    char held[64];
    snprintf(held, sizeof held, "/proc/self/fd/%d", fd);
    attempt("name it by its descriptor's name", linkat(AT_FDCWD, held, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
    attempt("name it by its descriptor", linkat(fd, "", AT_FDCWD, path, AT_EMPTY_PATH));
}

int run(void)
{
    if (!inside()) {
        int fd = open(ground("targets"), O_TMPFILE | O_RDWR, 0644);
        if (attempt("make it", fd))
            named(fd, ground("targets/named"));
        return 0;
    }
    static const char *const dirs[] = {"/", "/usr", "/usr/bin", "/etc", "/dev", "/dev/pts", "/proc", "/proc/self", "/escape", "/sys", "/bin"};
    for (size_t n = 0; n < sizeof dirs / sizeof *dirs; n++)
        attempt("make it", open(dirs[n], O_TMPFILE | O_RDWR, 0755));
    /* Made where it may be, named where it may not. */
    static const char *const makers[] = {".", "/tmp", "/dev/shm"};
    for (size_t at = 0; at < 3; at++) {
        int fd = open(makers[at], O_TMPFILE | O_RDWR, 0755);
        if (fd < 0)
            continue;
        for (size_t n = 0; n < sizeof dirs / sizeof *dirs; n++) {
            char path[64];
            snprintf(path, sizeof path, "%s/named", dirs[n]);
            named(fd, path);
        }
        named(fd, ground("targets/named"));
    }
    return 0;
}
