/* title:   Another process's root or working directory is walked through
 * source:  proc_pid_root(5), proc_pid_cwd(5)
 * expect:  ENOENT EACCES EPERM ESRCH ENOTDIR
 * fires:   read
 * control: host
 * harmless: yes
 *
 * /proc/PID/root is no link but a door: it leads to the tree that the process sees. Inside, every process that can be seen
 * is tried, init and threads included; on the bare host the victim.
 */
#include "lib.h"

static void through(int pid)
{
    static const char *const doors[] = {"/proc/%1$d/root%2$s", "/proc/%1$d/cwd/../../../../../../../../../../..%2$s",
                                        "/proc/%1$d/task/%1$d/root%2$s", "/proc/%1$d/root/proc/%1$d/root%2$s"};
    char path[5000];
    for (size_t n = 0; n < sizeof doors / sizeof *doors; n++) {
        snprintf(path, sizeof path, doors[n], pid, ground("secret"));
        attempt_read("read through a process", AT_FDCWD, path);
    }
    snprintf(path, sizeof path, "/proc/%d/root", pid);
    int root = open(path, O_PATH | O_DIRECTORY);
    if (root >= 0) {
        attempt_read("read below its root", root, ground("secret") + 1);
        close(root);
    }
}

int run(void)
{
    if (!inside()) {
        through(victim());
        return 0;
    }
    /* Somebody else beside init: a child of ours. */
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (!child) {
        pause();
        _exit(0);
    }
    for (int pid = 1; pid <= child; pid++)
        through(pid);
    through(victim());
    kill(child, SIGKILL);
    return 0;
}
