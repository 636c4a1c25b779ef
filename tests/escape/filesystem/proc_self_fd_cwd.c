/* title:   The working directory is changed to a leaked directory by /proc/PID/fd, and left upwards
 * source:  CVE-2024-21626
 * expect:  ENOENT EACCES ENOTDIR EPERM ESRCH
 * fires:   read
 * control: host
 * harmless: yes
 *
 * runc left a descriptor of the host's cgroup directory open; a working directory of /proc/self/fd/7 led out through it.
 */
#include "lib.h"

/* DIR/secret from the working directory, however deep that is. */
static void climb(const char *name)
{
    char path[4200] = "";
    attempt_read(name, AT_FDCWD, "secret");
    for (int up = 0; up < 24; up++)
        strcat(path, "../");
    strcat(path, ground("secret") + 1);
    attempt_read(name, AT_FDCWD, path);
}

int run(void)
{
    static const char *const ways[] = {"/proc/self/fd/%d", "/proc/thread-self/fd/%d", "/proc/1/fd/%d", "/dev/fd/%d",
                                       "/proc/self/fd/%d/", "/proc/self/task/../fd/%d/.", "/proc/1/task/1/fd/%d"};
    char path[64];
    int home = open(".", O_PATH | O_DIRECTORY);
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++)
        for (int fd = 3; fd < 40; fd++) {
            if (fd == home)
                continue;
            snprintf(path, sizeof path, ways[way], fd);
            if (!attempt("chdir to a descriptor", chdir(path)))
                continue;
            climb("read from there");
            if (fchdir(home))
                return 1;
        }
    /* The kernel's own words for where a process is. */
    static const char *const places[] = {"/proc/1/cwd", "/proc/1/root", "/proc/1/task/1/cwd", "/proc/1/task/1/root"};
    for (size_t n = 0; n < sizeof places / sizeof *places; n++)
        if (attempt("chdir to where init is", chdir(places[n]))) {
            climb("read from where init is");
            if (fchdir(home))
                return 1;
        }
    return 0;
}
