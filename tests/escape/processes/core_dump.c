/* title:   A core dump is made where none may be: piped to a program of the host's, or written
 * source:  core(5): RLIMIT_CORE 0 does not stop a core_pattern that pipes; CVE-2022-4415, CVE-2025-4598 (core handlers of the host)
 * expect:  EPERM EACCES EROFS ENOENT EINVAL EFBIG
 * fires:   call
 * control: host
 *
 * The pipe's program runs in the host's namespaces. On the bare host the core that counts is one of its own, removed again.
 */
#include "lib.h"
#include <dirent.h>
#include <sys/resource.h>

static void settings(void)
{
    const char *files[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/core_pipe_limit", "/proc/sys/fs/suid_dumpable"};
    for (int n = 0; n < 3; n++) {
        int fd = open(files[n], O_WRONLY);
        attempt(files[n], fd);
        if (fd >= 0)
            close(fd);
    }
}
static long dump(int sig, struct rlimit limit, int dumpable)
{
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/core-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(dir) < 0 || setrlimit(RLIMIT_CORE, &limit) < 0)
            _exit(1);
        prctl(PR_SET_DUMPABLE, dumpable);
        int fd = open("/proc/self/coredump_filter", O_WRONLY);
        if (write(fd, "0x7f", 4) < 0)
            perror("coredump_filter");
        signal(sig, SIG_DFL);
        raise(sig);
        _exit(2);
    }
    int status, made = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status) && WCOREDUMP(status))
        made = 1;
    DIR *list = opendir(dir);
    for (struct dirent *e; (e = readdir(list));)
        if (e->d_name[0] != '.') {
            made = 1;
            unlinkat(dirfd(list), e->d_name, 0);
        }
    closedir(list);
    rmdir(dir);
    errno = WIFEXITED(status) ? EPERM : EFBIG;
    return made ? 0 : -1;
}

int run(void)
{
    struct rlimit now, all = {RLIM_INFINITY, RLIM_INFINITY}, some = {1 << 20, 1 << 20}, zero;
    getrlimit(RLIMIT_CORE, &now);
    zero = (struct rlimit){0, now.rlim_max};
    settings();
    attempt("by abort, no limit", dump(SIGABRT, all, 1));
    attempt("by quit, a limit of its own", dump(SIGQUIT, some, 1));
    attempt("by fault, what it has", dump(SIGSEGV, (struct rlimit){now.rlim_max, now.rlim_max}, 1));
    attempt("by trap, limit of 0", dump(SIGTRAP, zero, 1));
    attempt("by bus error, dumpable for root", dump(SIGBUS, (struct rlimit){now.rlim_max, now.rlim_max}, 2));
    return 0;
}
