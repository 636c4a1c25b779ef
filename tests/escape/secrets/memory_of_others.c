/* title:   The memory of init, of the supervisor and of the victim is read through /proc
 * source:  proc_pid_mem(5), proc_pid_maps(5), proc_pid_pagemap(5); CVE-2012-0056 (/proc/pid/mem)
 * expect:  EACCES EPERM ENOENT ESRCH ENODATA EIO EINVAL
 * fires:   read
 * control: host
 *
 * Every readable mapping is searched for a canary. An init made by vfork or clone could still hold its maker's memory.
 */
#include "lib.h"
#include <dirent.h>

static void search(const char *who, pid_t pid)
{
    char path[64], name[128], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    snprintf(name, sizeof name, "%s, where its memory is", who);
    if (!maps)
        attempt(name, -1);
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDONLY), got = 0;
    int fault = errno;
    while (maps && fd >= 0 && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || mode[0] != 'r' || mode[1] != 'w' || to - from > 64UL << 20)
            continue;
        for (; from < to; from += sizeof buf / 2) {
            long n = pread(fd, buf, sizeof buf, from);
            char *at = n > 0 ? memmem(buf, n, "CANARY-", 7) : NULL;
            if (at && buf + n - at > 12 && at[7] >= '0' && at[7] <= 'z') {
                found(at, buf + n - at < 40 ? buf + n - at : 40);
                got = 1;
                break;
            }
        }
    }
    if (maps)
        fclose(maps);
    errno = fd < 0 ? fault : ENODATA;
    snprintf(name, sizeof name, "%s, its memory", who);
    attempt(name, got ? 0 : -1);
    if (fd >= 0)
        close(fd);
    const char *others[] = {"pagemap", "smaps", "smaps_rollup", "numa_maps", "stack", "syscall", "map_files", "auxv", "wchan"};
    for (unsigned n = 0; inside() && n < sizeof others / sizeof *others; n++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, others[n]);
        snprintf(name, sizeof name, "%s, %s", who, others[n]);
        fd = open(path, O_RDONLY);
        long m = fd < 0 ? -1 : read(fd, buf, sizeof buf);
        /* What may not be seen reads as a 0. */
        if (m == 0 || (m > 0 && m < 3))
            m = -1, errno = ENODATA;
        attempt(name, m);
        if (fd >= 0)
            close(fd);
    }
}

int run(void)
{
    search("victim", victim());
    DIR *list = opendir("/proc");
    for (struct dirent *e; inside() && list && (e = readdir(list));) {
        pid_t pid = atoi(e->d_name);
        if (pid > 0 && pid != getpid())
            search(pid == 1 ? "init" : "another", pid);
    }
    return 0;
}
