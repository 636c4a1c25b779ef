/* title:   It leaves its control group, or changes the group's limits
 * source:  cgroups(7), clone3(2) CLONE_INTO_CGROUP; CVE-2022-0492 (release_agent), CVE-2021-4197 (permission by open file)
 * expect:  EPERM ENOENT EACCES ENOSYS EROFS ENODEV EBUSY EINVAL EBADF
 * fires:   call
 * control: root
 * control-user: void: no control group is delegated to an ordinary user here
 *
 * On the bare host it makes a group of its own, joins that, and removes it.
 */
#include "lib.h"
#include <linux/sched.h>

static const char *PLACES[] = {
    "/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu",
    "/cgroup", "/proc/1/root/sys/fs/cgroup", "/proc/self/root/sys/fs/cgroup/unified",
};
static long put(const char *folder, const char *file, const char *what)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY);
    long n = fd < 0 ? -1 : write(fd, what, strlen(what));
    int fault = errno;
    if (fd >= 0)
        close(fd);
    errno = fault;
    return n;
}
/* A group below FOLDER, joined and left by a child. */
static void join(const char *folder)
{
    char name[256], group[256];
    snprintf(group, sizeof group, "%s/escape-%d", folder, getpid());
    snprintf(name, sizeof name, "group of its own below %s", folder);
    if (!attempt(name, mkdir(group, 0755)))
        return;
    pid_t pid = fork();
    if (pid == 0) {
        snprintf(name, sizeof name, "joined below %s", folder);
        attempt(name, put(group, "cgroup.procs", "0"));
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    int fd = open(group, O_RDONLY | O_DIRECTORY);
    struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = fd};
    long born = syscall(SYS_clone3, &args, sizeof args);
    if (born == 0)
        _exit(0);
    snprintf(name, sizeof name, "born below %s", folder);
    attempt(name, born);
    if (born > 0)
        waitpid(born, NULL, 0);
    for (int n = 0; rmdir(group) < 0 && n < 20; n++)
        usleep(10000);
}

int run(void)
{
    for (unsigned n = 0; n < sizeof PLACES / sizeof *PLACES; n++) {
        if (inside() && PLACES[n][0]) {
            char name[256];
            snprintf(name, sizeof name, "to the top by %s", PLACES[n]);
            attempt(name, put(PLACES[n], "cgroup.procs", "0"));
            snprintf(name, sizeof name, "threads to the top by %s", PLACES[n]);
            attempt(name, put(PLACES[n], "tasks", "0"));
            snprintf(name, sizeof name, "limit lifted by %s", PLACES[n]);
            attempt(name, put(PLACES[n], "memory.limit_in_bytes", "-1"));
            snprintf(name, sizeof name, "limit of processes lifted by %s", PLACES[n]);
            attempt(name, put(PLACES[n], "pids.max", "max"));
        }
        if (n < 5)
            join(PLACES[n]);
    }
    struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = 0};
    long born = inside() ? syscall(SYS_clone3, &args, sizeof args) : 1;
    if (born == 0)
        _exit(0);
    if (inside())
        attempt("born into a group by descriptor 0", born);

    char dir[4096];
    snprintf(dir, sizeof dir, "%s/cgroup-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 0;
    pid_t pid = fork();
    if (pid == 0) {
        if (inside()) {
            attempt("namespace of groups", unshare(CLONE_NEWCGROUP));
            attempt("namespaces of users and groups", unshare(CLONE_NEWUSER | CLONE_NEWCGROUP | CLONE_NEWNS));
        } else if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
            _exit(1);
        if (attempt("cgroup2 mounted", mount("none", dir, "cgroup2", 0, NULL))) {
            umount(dir);
        }
        if (attempt("cgroup mounted with memory", mount("none", dir, "cgroup", 0, "memory")))
            umount(dir);
        if (attempt("cgroup mounted with pids", mount("none", dir, "cgroup", 0, "pids")))
            umount(dir);
        if (inside())
            attempt("cgroup of a new name with an agent", mount("none", dir, "cgroup", 0, "none,name=escape"));
        attempt("by the mount calls", syscall(SYS_fsopen, "cgroup2", 0));
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    rmdir(dir);
    return 0;
}
