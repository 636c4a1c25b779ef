/* What every case in C begins with. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char **words;
static char buf[1 << 16];

/* The value of argument KEY, or "". */
static inline const char *arg(const char *key)
{
    size_t n = strlen(key);
    for (char **w = words; w && *w; w++)
        if (!strncmp(*w, key, n) && (*w)[n] == '=')
            return *w + n + 1;
    return "";
}
static inline int inside(void) { return !strcmp(arg("where"), "inside"); }
static inline int victim(void) { return atoi(arg("pid")); }
/* DIR/NAME on the ground. */
static inline const char *ground(const char *name)
{
    static char path[4][4096];
    static int n;
    n = (n + 1) % 4;
    snprintf(path[n], sizeof path[n], "%s/%s", arg("dir"), name);
    return path[n];
}
/* Says how an attempt ended, from what its last call answered: negative with errno, or success. */
static inline int attempt(const char *name, long answer)
{
    int e = errno;
    const char *result = answer >= 0 ? "GOT" : strerrorname_np(e);
    printf("attempt %s: %s\n", name, result ? result : "EUNKNOWN");
    fflush(stdout);
    errno = e;
    return answer >= 0;
}
static inline void found(const void *what, long n)
{
    if (n > 0) {
        printf("found: ");
        fwrite(what, 1, n > 4000 ? 4000 : n, stdout);
        printf("\n");
        fflush(stdout);
    }
}
/* An attempt to read PATH below descriptor AT, and what was in it. */
static inline int attempt_read(const char *name, int at, const char *path)
{
    int fd = openat(at, path, O_RDONLY | O_NONBLOCK);
    long n = fd < 0 ? -1 : read(fd, buf, sizeof buf);
    int got = attempt(name, n);
    found(buf, n);
    if (fd >= 0)
        close(fd);
    return got;
}
static inline int attempt_write(const char *name, int at, const char *path)
{
    int fd = openat(at, path, O_WRONLY | O_NONBLOCK);
    long n = fd < 0 ? -1 : write(fd, "changed\n", 8);
    int got = attempt(name, n);
    if (fd >= 0)
        close(fd);
    return got;
}
/* Says of what was tried in a process that ended with STATUS, and could say nothing more, which signal it died of. */
static inline void attempt_died(const char *name, int status)
{
    const char *signal = WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : NULL;
    if (WIFSIGNALED(status))
        printf("attempt %s: SIG%s\n", name, signal ? signal : "UNKNOWN");
    fflush(stdout);
}
/* An attempt that a signal may end, made in a process of its own: then the signal is how it ended. */
static inline int attempt_apart(const char *name, long (*work)(long), long with)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return attempt(name, -1);
    if (pid == 0)
        _exit(attempt(name, work(with)) ? 0 : 1);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    attempt_died(name, status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
int run(void);
int main(int argc, char **argv)
{
    (void)argc;
    words = argv + 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run();
}
