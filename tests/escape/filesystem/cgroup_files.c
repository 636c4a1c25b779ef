/* title:   Limits are lifted, or other groups reached, in the files of the control groups
 * source:  cgroups(7); "devices.allow" as a way out of privileged containers
 * expect:  ENOENT EACCES EROFS EPERM ENOTDIR
 * fires:   call
 * control: root
 *
 * Files are opened for writing; nothing is written. Which groups there are, /proc/PID/cgroup says.
 */
#include "lib.h"

static void files_of(const char *group)
{
    static const char *const files[] = {"cgroup.procs", "tasks", "devices.allow", "release_agent", "notify_on_release", "memory.max",
                                        "memory.limit_in_bytes", "pids.max", "cpu.max", "cpu.cfs_quota_us", "cgroup.kill",
                                        "cgroup.freeze", "freezer.state", "cgroup.subtree_control", "cgroup.clone_children"};
    char path[8192];
    for (size_t n = 0; n < sizeof files / sizeof *files; n++) {
        snprintf(path, sizeof path, "%s/%s", group, files[n]);
        int fd = open(path, O_WRONLY);
        attempt("open for writing", fd);
        if (fd >= 0)
            close(fd);
    }
    if (inside()) {
        snprintf(path, sizeof path, "%s/mine", group);
        attempt("make a group", mkdir(path, 0755));
    }
}

int run(void)
{
    static const char *const tops[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/proc/1/root/sys/fs/cgroup", "/cgroup", "/run/cgroup"};
    static const char *const kinds[] = {"memory", "pids", "cpu", "devices", "freezer", "systemd", "cpuset", "rdma", "blkio"};
    char path[8192], line[4096];
    for (size_t top = 0; top < sizeof tops / sizeof *tops; top++) {
        files_of(tops[top]);
        for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
            snprintf(path, sizeof path, "%s/%s", tops[top], kinds[n]);
            files_of(path);
        }
    }
    static const char *const whose[] = {"/proc/self/cgroup", "/proc/1/cgroup"};
    for (int who = 0; inside() && who < 2; who++) {
        FILE *groups = fopen(whose[who], "r");
        while (groups && fgets(line, sizeof line, groups)) {
            line[strcspn(line, "\n")] = 0;
            char *place = strrchr(line, ':'), *kind = strchr(line, ':');
            if (!place || !kind || place == kind)
                continue;
            *place = 0;
            snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s", kind + 1, place + 1);
            files_of(path);
            snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s/../..", kind + 1, place + 1);
            files_of(path);
        }
    }
    return 0;
}
