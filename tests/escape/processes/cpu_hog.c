/* title:   More CPU time than the limit
 * source:  sched_setaffinity(2), getrusage(2); CFS bandwidth control (kernel: scheduler/sched-bwc.rst)
 * expect:  ETIME EPERM EINVAL
 * fires:   call
 * control: host
 * flags:   --cpu 0.1
 * seconds: 20
 *
 * Several keep busy for a second. A tenth of a processor is the limit, and twice that is a success. Where no control group
 * holds it, an ordinary user's limit is rounded up to one processor: there a second processor is one.
 */
#include "lib.h"
#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
static double until;
/* The processors on which anything ran, one bit each. */
static _Atomic unsigned long *seen;
static void *busy(void *unused)
{
    (void)unused;
    while (now() < until) {
        for (volatile int n = 0; n < 100000; n++)
            ;
        *seen |= 1UL << (sched_getcpu() & 63);
    }
    return NULL;
}
static double used(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}
static void processes(void)
{
    pid_t pids[4];
    for (int n = 0; n < 4; n++)
        if ((pids[n] = fork()) == 0) {
            busy(NULL);
            _exit(0);
        }
    for (int n = 0; n < 4; n++)
        waitpid(pids[n], NULL, 0);
}
static void threads(void)
{
    pthread_t made[4];
    for (int n = 0; n < 4; n++)
        pthread_create(&made[n], NULL, busy, NULL);
    for (int n = 0; n < 4; n++)
        pthread_join(made[n], NULL);
}
static void short_lived(void)
{
    pid_t pids[4];
    while (now() < until) {
        double end = until;
        until = now() + 0.02;
        for (int n = 0; n < 4; n++)
            if ((pids[n] = fork()) == 0) {
                busy(NULL);
                _exit(0);
            }
        until = end;
        for (int n = 0; n < 4; n++)
            waitpid(pids[n], NULL, 0);
    }
}
static void spread(void)
{
    for (int n = 0; n < 4; n++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(n, &one);
        if (fork() == 0) {
            sched_setaffinity(0, sizeof one, &one);
            busy(NULL);
            _exit(0);
        }
    }
    while (wait(NULL) > 0)
        ;
}
static void niced(void)
{
    setpriority(PRIO_PROCESS, 0, -20);
    struct sched_param p = {0};
    sched_setscheduler(0, SCHED_BATCH, &p);
    processes();
}
static void try(const char *name, void (*work)(void))
{
    double start = now(), before = used(RUSAGE_SELF) + used(RUSAGE_CHILDREN);
    until = start + 1;
    *seen = 0;
    work();
    double share = (used(RUSAGE_SELF) + used(RUSAGE_CHILDREN) - before) / (now() - start);
    int apart = __builtin_popcountl(*seen);
    printf("share %.2f, on %d\n", share, apart);
    errno = ETIME;
    attempt(name, (!strcmp(arg("user"), "user") ? apart > 1 : share > 0.2) ? 0 : -1);
}

int run(void)
{
    cpu_set_t all;
    seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset(&all, 0xff, sizeof all);
    sched_setaffinity(0, sizeof all, &all);
    try("processes", processes);
    try("threads", threads);
    try("short-lived processes", short_lived);
    try("one for each processor", spread);
    try("with more priority", niced);
    return 0;
}
