/* title:   The environments and arguments of init, of the supervisor, and of whoever else is there, are read
 * source:  proc_pid_environ(5), proc_pid_cmdline(5), proc_pid_auxv(5); CAPEC-117
 * expect:  EACCES EPERM ENOENT ESRCH ENODATA
 * fires:   read
 * control: host
 *
 * Only what holds a canary counts; its own environment is read too, since a supervisor that hands its own on gives it away.
 */
#include "lib.h"
#include <dirent.h>

static void look(const char *pid, const char *file)
{
    char path[128], name[160];
    snprintf(path, sizeof path, "/proc/%s/%s", pid, file);
    snprintf(name, sizeof name, "%s of %s", file, atoi(pid) == 1 ? "init" : atoi(pid) == getpid() ? "its own" : "another");
    int fd = open(path, O_RDONLY);
    long n = fd < 0 ? -1 : read(fd, buf, sizeof buf);
    int fault = errno;
    if (fd >= 0)
        close(fd);
    char *at = n > 0 ? memmem(buf, n, "CANARY-", 7) : NULL;
    errno = n < 0 ? fault : ENODATA;
    if (at)
        found(at, buf + n - at < 40 ? buf + n - at : 40);
    attempt(name, at ? 0 : -1);
}

int run(void)
{
    const char *files[] = {"environ", "cmdline", "auxv", "stat", "status", "comm", "mountinfo", "limits", "task/%s/environ", "task/%s/cmdline"};
    DIR *list = opendir("/proc");
    char some[16], file[64];
    snprintf(some, sizeof some, "%d", victim());
    for (unsigned n = 0; n < sizeof files / sizeof *files; n++) {
        snprintf(file, sizeof file, files[n], some);
        look(some, file);
    }
    for (struct dirent *e; inside() && list && (e = readdir(list));) {
        if (atoi(e->d_name) <= 0)
            continue;
        for (unsigned n = 0; n < sizeof files / sizeof *files; n++) {
            snprintf(file, sizeof file, files[n], e->d_name);
            look(e->d_name, file);
        }
    }
    if (!inside()) {
        snprintf(some, sizeof some, "%d", getpid());
        look(some, "environ");
    }
    return 0;
}
