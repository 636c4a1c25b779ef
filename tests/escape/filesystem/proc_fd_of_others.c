/* title:   What another process has open is opened again through its /proc/PID/fd
 * source:  proc_pid_fd(5); magic links, path_resolution(7)
 * expect:  ENOENT EACCES EPERM ESRCH ENXIO
 * fires:   read
 * control: host
 *
 * Opening /proc/PID/fd/N opens the file itself, whatever the path to it is by now, and with modes of the opener's own wish.
 * On the bare host a child opens again what its parent holds at 7.
 */
#include "lib.h"

static void all_of(int pid)
{
    static const char *const ways[] = {"/proc/%1$d/fd/%2$d", "/proc/%1$d/task/%1$d/fd/%2$d"};
    char path[64];
    for (int fd = 0; fd < 24; fd++)
        for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
            snprintf(path, sizeof path, ways[way], pid, fd);
            attempt_read("read it again", AT_FDCWD, path);
            if (inside())
                attempt_write("write it", AT_FDCWD, path);
        }
}

int run(void)
{
    int me = getpid();
    pid_t child = fork();
    if (!child) {
        if (inside())
            for (int pid = 1; pid < me; pid++)
                all_of(pid);
        else
            all_of(me);
        all_of(victim());
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return 0;
}
