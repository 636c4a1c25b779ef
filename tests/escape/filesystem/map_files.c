/* title:   A file that is mapped for reading is opened for writing by /proc/PID/map_files
 * source:  proc_pid_map_files(5)
 * expect:  EACCES EPERM ENOENT EROFS ETXTBSY ESRCH
 * fires:   change
 * control: root
 *
 * The links there lead to the mapped file itself, not by its path. On the bare host the file is DIR/target, mapped and
 * closed; inside it is whatever init, its executable and libraries included, has mapped, and this tool.
 */
#include "lib.h"
#include <dirent.h>

static void all_of(const char *name, const char *files)
{
    DIR *dir = opendir(files);
    if (!attempt("list mappings", dir ? 0 : -1))
        return;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            attempt_write(name, dirfd(dir), entry->d_name);
            char path[512];
            snprintf(path, sizeof path, "%s/%s", files, entry->d_name);
            attempt("follow one", readlink(path, buf, sizeof buf));
        }
    closedir(dir);
}

int run(void)
{
    if (!inside()) {
        int fd = open(ground("target"), O_RDONLY);
        void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        char path[128];
        snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)at, (long)at + 4096);
        attempt_write("write what is mapped", AT_FDCWD, path);
        return 0;
    }
    /* Its own names can be listed, but what they lead to stays shut. */
    char path[128];
    FILE *maps = fopen("/proc/self/maps", "r");
    for (char line[4096]; maps && fgets(line, sizeof line, maps);) {
        unsigned long from, to, inode;
        if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) == 3 && inode) {
            snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", from, to);
            attempt_write("write what is mapped", AT_FDCWD, path);
        }
    }
    all_of("write what init has mapped", "/proc/1/map_files");
    snprintf(path, sizeof path, "/proc/%d/map_files", getppid());
    all_of("write what the parent has mapped", path);
    return 0;
}
