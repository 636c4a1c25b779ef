/* title:   Files outside get a second name inside the project
 * source:  link(2), proc_sys_fs(5) protected_hardlinks; linkat(2) with AT_SYMLINK_FOLLOW and AT_EMPTY_PATH
 * expect:  EXDEV EPERM ENOENT EACCES EROFS ENOTDIR EBADF EMLINK
 * fires:   read
 * control: host
 *
 * A name of one's own would outlive the cover over the other, and show which inode is behind it.
 */
#include "lib.h"

static int count;

static void name(const char *what, int at, const char *path, int flags)
{
    char mine[64];
    snprintf(mine, sizeof mine, "link%d", count++);
    if (attempt(what, linkat(at, path, AT_FDCWD, mine, flags)))
        attempt_read("read it", AT_FDCWD, mine);
    snprintf(mine, sizeof mine, "/tmp/link%d", count++);
    if (inside())
        attempt("a name in /tmp", linkat(at, path, AT_FDCWD, mine, flags));
}

int run(void)
{
    name("the secret", AT_FDCWD, ground("secret"), 0);
    name("the secret, upwards", AT_FDCWD, "../secret", 0);
    if (!inside())
        return 0;
    static const char *const files[] = {"/etc/passwd", "/etc/hosts", "/usr/bin/su", "/usr/bin/python3", "/proc/self/exe", "/proc/1/exe",
                                        "/proc/version", "/dev/null", "/dev/tty", "/escape/lib.py", "/escape/hard_links", "/proc/self/fd/1",
                                        "/proc/self/fd/7", "/proc/1/root/etc/shadow", "/proc/self/ns/mnt"};
    char path[64];
    for (size_t n = 0; n < sizeof files / sizeof *files; n++) {
        name("another's file", AT_FDCWD, files[n], 0);
        name("another's file, links followed", AT_FDCWD, files[n], AT_SYMLINK_FOLLOW);
        int fd = open(files[n], O_PATH);
        if (fd < 0)
            continue;
        name("what a descriptor holds", fd, "", AT_EMPTY_PATH);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        name("what a descriptor holds, by its name", AT_FDCWD, path, AT_SYMLINK_FOLLOW);
        close(fd);
    }
    /* From what is writable to where others look. */
    close(open("/tmp/mine", O_WRONLY | O_CREAT, 0755));
    static const char *const to[] = {"/usr/bin/mine", "/etc/mine", "/dev/mine", "/escape/mine", "/proc/mine", "/mine"};
    for (size_t n = 0; n < sizeof to / sizeof *to; n++) {
        attempt("a name elsewhere", link("/tmp/mine", to[n]));
        attempt("move it elsewhere", rename("/tmp/mine", to[n]));
    }
    return 0;
}
