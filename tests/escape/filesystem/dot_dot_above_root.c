/* title:   ".." is followed from every directory that is open, past the root
 * source:  path_resolution(7); openat2(2), whose flags lift or add rules
 * expect:  ENOENT EACCES ENOTDIR EBADF EXDEV EAGAIN EINVAL ENOSYS EPERM SIGSYS ELOOP
 * fires:   read
 * control: host
 * harmless: yes
 *
 * A root is a rule for names that begin with "/"; a descriptor from outside of it knows none. On the bare host it is 8.
 */
#include "lib.h"
#include <linux/openat2.h>

static long how(int at, const char *path, uint64_t resolve)
{
    struct open_how how = {.flags = O_RDONLY | O_NONBLOCK, .resolve = resolve};
    return syscall(SYS_openat2, at, path, &how, sizeof how);
}

static void from(int at)
{
    char up[4400] = "";
    for (int n = 0; n < 40; n++)
        strcat(up, "../");
    strcat(up, ground("secret") + 1);
    attempt_read("by its name", at, "secret");
    attempt_read("upwards", at, up);
    attempt_read("through a name and upwards", at, "project/../secret");
    static const uint64_t rules[] = {0, RESOLVE_IN_ROOT, RESOLVE_BENEATH, RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_CACHED};
    for (size_t n = 0; n < sizeof rules / sizeof *rules; n++) {
        long fd = how(at, up, rules[n]);
        attempt("upwards, by openat2", fd);
        if (fd >= 0) {
            found(buf, read(fd, buf, sizeof buf));
            close(fd);
        }
    }
}

int run(void)
{
    static const char *const places[] = {".", "/", "/tmp", "/proc", "/proc/self", "/proc/self/ns", "/dev", "/dev/shm", "/usr/bin",
                                         "/escape", "/proc/1", "/etc"};
    for (int fd = 0; fd < 20; fd++)
        from(fd);
    for (size_t n = 0; n < sizeof places / sizeof *places; n++) {
        int fd = open(places[n], O_PATH | O_DIRECTORY);
        if (fd < 0)
            continue;
        from(fd);
        close(fd);
    }
    /* A directory that is gone: ".." of it is nowhere, or where it was. */
    mkdir("gone", 0755);
    int gone = open("gone", O_RDONLY | O_DIRECTORY);
    rmdir("gone");
    from(gone);
    return 0;
}
