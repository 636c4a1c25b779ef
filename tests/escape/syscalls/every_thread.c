/* title:   A denied call from every kind of thread and process
 * source:  seccomp(2), SECCOMP_FILTER_FLAG_TSYNC: a filter holds for the thread that loads it and what comes of it
 * expect:  EPERM EACCES ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 *
 * Threads from before main() and after it, of clone() itself, of vfork, of posix_spawn; a child whose parents are gone, a
 * session of its own, a signal handler, and what was executed anew.
 */
#include "lib.h"
#include <pthread.h>
#include <spawn.h>

static pthread_t early;
static pthread_barrier_t ready;

static void denied(const char *where)
{
    char name[96], params[256] = {0};
    snprintf(name, sizeof name, "keyctl, %s", where);
    attempt(name, syscall(SYS_keyctl, 0, -2, 1));
    snprintf(name, sizeof name, "socket, %s", where);
    attempt(name, syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    snprintf(name, sizeof name, "io_uring_setup, %s", where);
    attempt(name, syscall(SYS_io_uring_setup, 1, params));
}
static void *thread(void *where)
{
    denied(where);
    return NULL;
}
static void *early_thread(void *where)
{
    pthread_barrier_wait(&ready);
    denied(where);
    return NULL;
}
__attribute__((constructor)) static void before_main(void)
{
    pthread_barrier_init(&ready, NULL, 2);
    pthread_create(&early, NULL, early_thread, "a thread from before main");
}
static int cloned(void *where)
{
    denied(where);
    syscall(SYS_exit, 0);
    return 0;
}
static void on_signal(int signal)
{
    (void)signal;
    denied("a signal handler");
}

int run(void)
{
    static char stack[1 << 17] __attribute__((aligned(16)));
    static int gone = 1;
    pthread_barrier_wait(&ready);
    pthread_join(early, NULL);
    if (*arg("stage")) {
        denied("executed anew");
        return 0;
    }
    pthread_t late;
    if (pthread_create(&late, NULL, thread, "a thread") == 0)
        pthread_join(late, NULL);
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_CHILD_CLEARTID;
    if (clone(cloned, stack + sizeof stack, flags, "a bare CLONE_THREAD", NULL, NULL, &gone) > 0)
        while (__atomic_load_n(&gone, __ATOMIC_ACQUIRE))
            usleep(1000);
    if (clone(cloned, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, "a child that shares memory") > 0)
        wait(NULL);
    int ends[2];
    if (pipe(ends) < 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0) {
        denied("a child");
        pid_t parent = getpid();
        if (fork() == 0) {
            setsid();
            while (getppid() == parent)
                usleep(1000);
            denied("an orphan in a session of its own");
        }
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    /* The orphan holds the other end until it is done. */
    close(ends[1]);
    ssize_t end = read(ends[0], buf, 1);
    (void)end;
    signal(SIGUSR1, on_signal);
    raise(SIGUSR1);
    char *const again[] = {"/proc/self/exe", "stage=2", NULL};
    pid_t spawned;
    if (posix_spawn(&spawned, "/proc/self/exe", NULL, NULL, again, again + 2) == 0)
        waitpid(spawned, NULL, 0);
    return 0;
}
