/* title:   Processes that leave session, group and parent, and heed no signal, outlive the run
 * source:  daemon(7); kill(2)
 * expect:  GOT
 * fires:   host
 * control: host
 *
 * Each of them would sleep for some seconds after the first process is gone. Their attempts succeed behind a wall too:
 * what counts is whether they are there afterwards.
 */
#include "lib.h"
#include <pthread.h>

static void quiet(void)
{
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close_range(3, ~0U, 0);
}
static void linger(void)
{
    quiet();
    for (int n = 0; n < 8; n++)
        sleep(1);
    _exit(0);
}
static void *lingering(void *unused)
{
    (void)unused;
    linger();
    return NULL;
}
static long twice(void (*work)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        pid_t second = fork();
        if (second == 0)
            work();
        _exit(second < 0);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -1;
    errno = EAGAIN;
    return status ? -1 : 0;
}
static void deaf(void)
{
    for (int s = 1; s < 65; s++)
        signal(s, SIG_IGN);
    linger();
}
static void blocked(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    linger();
}
static void elsewhere(void)
{
    if (chdir("/") == 0)
        umask(0);
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_NAME, "kworker/0:0");
    linger();
}
static void leaderless(void)
{
    pthread_t thread;
    quiet();
    pthread_create(&thread, NULL, lingering, NULL);
    syscall(SYS_exit, 0);
}
static void generations(void)
{
    quiet();
    for (int n = 0; n < 400; n++) {
        pid_t pid = fork();
        if (pid > 0)
            _exit(0);
        usleep(20000);
    }
    _exit(0);
}

int run(void)
{
    attempt("double fork", twice(linger));
    attempt("every signal ignored", twice(deaf));
    attempt("every signal blocked", twice(blocked));
    attempt("another name and folder", twice(elsewhere));
    attempt("first thread gone", twice(leaderless));
    attempt("a new process every moment", twice(generations));
    return 0;
}
