/* title:   The executable that runs a program is overwritten through /proc/PID/exe
 * source:  CVE-2019-5736
 * expect:  EACCES EROFS ETXTBSY ENOENT EPERM ELOOP
 * fires:   change
 * control: host
 *
 * A program holds what it was executed from by /proc/self/exe, executes something else so that the file is no longer busy,
 * and writes to it through the descriptor. Where a supervisor enters a sandbox from a file of the host's, that is the file.
 * On the bare host it is a copy of this tool, made in DIR/targets.
 */
#include "lib.h"

/* Writes to what descriptor FD holds, by every way back to it. */
static void overwrite(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    attempt_write("write through the descriptor", AT_FDCWD, path);
    attempt("truncate through the descriptor", truncate(path, 0));
    attempt("make it writable", chmod(path, 0777));
    snprintf(path, sizeof path, "/dev/fd/%d", fd);
    attempt_write("write by another name of it", AT_FDCWD, path);
}

int run(void)
{
    if (*arg("held")) {
        overwrite(atoi(arg("held")));
        return 0;
    }
    char held[32], self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    if (!inside() && !*arg("copied")) {
        const char *copy = ground("targets/tool");
        int from = open(self, O_RDONLY), to = open(copy, O_WRONLY | O_CREAT | O_EXCL, 0755);
        for (ssize_t got; (got = read(from, buf, sizeof buf)) > 0;)
            if (write(to, buf, got) != got)
                return 1;
        close(to);
        char where[4200], next[4200];
        snprintf(where, sizeof where, "dir=%s", arg("dir"));
        snprintf(next, sizeof next, "copied=%s", self);
        execl(copy, copy, "where=outside", where, next, NULL);
        return 1;
    }
    attempt_write("write while it runs", AT_FDCWD, "/proc/self/exe");
    for (int pid = 1; inside() && pid < 8; pid++) {
        if (pid == getpid())
            continue;
        snprintf(held, sizeof held, "/proc/%d/exe", pid);
        attempt_write("write what another runs", AT_FDCWD, held);
        attempt("hold what another runs", open(held, O_PATH));
    }
    /* Held by one who then executes another file: inside itself, outside the original of the copy. */
    int fd = open("/proc/self/exe", O_PATH);
    snprintf(held, sizeof held, "held=%d", fd);
    const char *next = *arg("copied") ? arg("copied") : self;
    execl(next, next, inside() ? "where=inside" : "where=outside", held, NULL);
    return 1;
}
