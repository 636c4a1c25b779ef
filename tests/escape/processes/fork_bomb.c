/* title:   More processes and threads at once than the limit
 * source:  fork(2), clone(2), getrlimit(2) RLIMIT_NPROC; CVE-2021-3669 (accounts by user namespace)
 * expect:  EAGAIN EPERM ENOMEM
 * fires:   call
 * control: host
 * flags:   --pids 32
 *
 * 100 at most, in each of the ways to make one. What comes within the limit is no success.
 */
#include "lib.h"
#include <pthread.h>
#include <sys/resource.h>

enum { MOST = 100, LIMIT = 32 };
static int gate[2];

static int waits(void *unused)
{
    char byte;
    (void)unused;
    close(gate[1]);
    if (read(gate[0], &byte, 1) < 0)
        _exit(1);
    _exit(0);
}
static long forked(void)
{
    pid_t pid = fork();
    if (pid == 0)
        waits(NULL);
    return pid;
}
static long zombie(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return pid;
}
static long orphan(void)
{
    int said[2];
    if (pipe(said) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        pid_t second = fork();
        if (second == 0) {
            close(said[0]);
            close(said[1]);
            waits(NULL);
        }
        int fault = second < 0 ? errno : 0;
        _exit(write(said[1], &fault, sizeof fault) < 0);
    }
    int fault = errno;
    if (pid > 0) {
        if (read(said[0], &fault, sizeof fault) < 0)
            fault = errno;
        waitpid(pid, NULL, 0);
    }
    close(said[0]);
    close(said[1]);
    errno = fault;
    return pid < 0 || fault ? -1 : 0;
}
static long sibling(void)
{
    long pid = syscall(SYS_clone, CLONE_PARENT, 0, 0, 0, 0);
    if (pid == 0)
        waits(NULL);
    return pid;
}
static char stacks[MOST][16384];
static long shared(void)
{
    static int n;
    return clone(waits, stacks[n++ % MOST] + sizeof stacks[0], CLONE_VM | SIGCHLD, NULL);
}
static void *thread(void *unused)
{
    (void)unused;
    pause();
    return NULL;
}
static long threaded(void)
{
    pthread_t made;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 65536);
    errno = pthread_create(&made, &attr, thread, NULL);
    return errno ? -1 : 0;
}
static void many(const char *name, long (*one)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        int made = 0;
        if (pipe(gate) < 0)
            _exit(1);
        while (made < MOST && one() >= 0)
            made++;
        int fault = errno;
        printf("made: %d\n", made);
        errno = fault ? fault : EAGAIN;
        attempt(name, made > LIMIT ? 0 : -1);
        close(gate[1]);
        _exit(0);
    }
    if (pid < 0)
        attempt(name, -1);
    else
        waitpid(pid, NULL, 0);
    usleep(50000);
}

int run(void)
{
    many("forked", forked);
    many("dead but not waited for", zombie);
    many("orphans in sessions of their own", orphan);
    many("siblings", sibling);
    many("processes that share memory", shared);
    many("threads", threaded);

    struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_NPROC, &none);
    if (inside() && (unshare(CLONE_NEWUSER) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0))
        attempt("user namespace with an account of its own", 0);
    many("after the limit was raised", forked);
    return 0;
}
