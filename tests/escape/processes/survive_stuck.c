/* title:   Processes that cannot be scheduled outlive the run: stopped, traced, waiting in the kernel
 * source:  ptrace(2), vfork(2), fifo(7); signal(7): a pending SIGKILL must wake each of them
 * expect:  GOT EPERM EACCES ENOSYS
 * fires:   host
 * control: host
 */
#include "lib.h"

static void quiet(void)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close_range(3, ~0U, 0);
}
static void last(void)
{
    for (int n = 0; n < 8; n++)
        sleep(1);
    _exit(0);
}
/* What is stuck for ever is ended by a watcher of its own, so that the control leaves nothing behind. */
static long stuck(void (*work)(void))
{
    int said[2];
    if (pipe(said) < 0)
        return -1;
    pid_t watcher = fork();
    if (watcher == 0) {
        setsid();
        pid_t pid = fork();
        if (pid == 0) {
            quiet();
            work();
            _exit(0);
        }
        if (write(said[1], "", 1) != 1 || pid < 0)
            _exit(1);
        quiet();
        sleep(8);
        kill(pid, SIGKILL);
        _exit(0);
    }
    char byte;
    long n = watcher < 0 ? -1 : read(said[0], &byte, 1);
    close(said[0]);
    close(said[1]);
    return n == 1 ? 0 : -1;
}
static void stopped(void)
{
    kill(getpid(), SIGSTOP);
    last();
}
static void held_by_vfork(void)
{
    if (vfork() == 0) {
        for (int n = 0; n < 8; n++)
            sleep(1);
        _exit(0);
    }
}
static void in_open(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/fifo-%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", getpid());
    if (mkfifo(path, 0600) == 0) {
        if (fork() == 0) {
            usleep(200000);
            unlink(path);
            _exit(0);
        }
        open(path, O_RDONLY);
    }
    last();
}
static void in_lock(void)
{
    int fd = memfd_create("lock", 0);
    struct flock lock = {.l_type = F_WRLCK};
    fcntl(fd, F_SETLK, &lock);
    if (fork() == 0) {
        fcntl(fd, F_SETLKW, &lock);
        _exit(0);
    }
    last();
}

int run(void)
{
    attempt("stopped", stuck(stopped));
    attempt("held by a vfork", stuck(held_by_vfork));
    attempt("opening a pipe that nobody opens", stuck(in_open));
    attempt("waiting for a lock", stuck(in_lock));

    pid_t tracer = fork();
    if (tracer == 0) {
        setsid();
        pid_t pid = fork();
        if (pid == 0) {
            long answer = ptrace(PTRACE_TRACEME, 0, 0, 0);
            attempt("stopped under a tracer of its own", answer);
            quiet();
            if (answer == 0)
                kill(getpid(), SIGTRAP);
            last();
        }
        quiet();
        last();
    }
    usleep(300000);
    return 0;
}
