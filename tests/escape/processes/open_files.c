/* title:   More open files than the limit
 * source:  dup(2), fcntl(2) F_DUPFD, setrlimit(2) RLIMIT_NOFILE, close_range(2) CLOSE_RANGE_UNSHARE
 * expect:  EMFILE EBADF EPERM EINVAL EACCES EROFS
 * fires:   call
 * control: host
 * flags:   --open-files 64
 *
 * More than 64 at once in one process. At most 400.
 */
#include "lib.h"
#include <sys/resource.h>

enum { MOST = 400, LIMIT = 64 };

static long counted(const char *name, long (*one)(int))
{
    int made = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid)
        return waitpid(pid, NULL, 0);
    while (made < MOST && one(made) >= 0)
        made++;
    int fault = errno;
    printf("opened: %d\n", made);
    errno = fault;
    attempt(name, made > LIMIT ? 0 : -1);
    _exit(0);
}
static long opened(int n) { return n % 2 ? open("/proc/self/status", O_RDONLY) : open("/", O_PATH); }
static long duplicated(int n) { return n % 2 ? dup(0) : fcntl(0, F_DUPFD_CLOEXEC, 0); }
static long high(int n) { return dup2(0, LIMIT + n); }
static long high3(int n) { return syscall(SYS_dup3, 0, 1023 - n, O_CLOEXEC); }
static long by_fcntl(int n) { return fcntl(0, F_DUPFD, LIMIT + n); }
static long memory(int n) { (void)n; return memfd_create("m", 0); }
static long raised(int n)
{
    struct rlimit none = {1 << 20, 1 << 20};
    if (n == 0) {
        setrlimit(RLIMIT_NOFILE, &none);
        syscall(SYS_close_range, 100, ~0U, 2 /* CLOSE_RANGE_UNSHARE */);
    }
    return dup(0);
}

int run(void)
{
    counted("opened", opened);
    counted("duplicated", duplicated);
    counted("given a high number", high);
    counted("given a high number from above", high3);
    counted("given a high number by fcntl", by_fcntl);
    counted("files in memory", memory);
    counted("after the limit was raised", raised);
    int fd = open("/proc/sys/fs/nr_open", O_WRONLY);
    attempt("the system's own limit, opened", fd);
    return 0;
}
