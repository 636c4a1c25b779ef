/* title:   The kernel is made to send a signal to another process
 * source:  fcntl(2) F_SETOWN, F_SETOWN_EX, F_SETSIG; socket(7) SIOCSPGRP; timer_create(2) SIGEV_THREAD_ID; mq_notify(3); prctl(2) PR_SET_PDEATHSIG
 * expect:  EPERM ESRCH EINVAL ENOSYS EACCES ENOTTY ENOENT
 * fires:   process
 * control: host
 *
 * F_SETSIG takes SIGKILL. The owner of a file is looked up when it is set, who may signal it when the data comes.
 */
#include "lib.h"
#include <linux/sockios.h>
#include <mqueue.h>
#include <time.h>

static void nudge(int pair[2])
{
    if (write(pair[1], "x", 1) != 1)
        perror("write");
    send(pair[1], "u", 1, MSG_OOB);
    usleep(20000);
}
/* The owner may be set where the signal is not sent afterwards: whether one may be is asked with signal 0. */
static void came(const char *name, int fault, pid_t pid)
{
    errno = fault;
    if (!fault && kill(pid, 0) < 0 && inside())
        attempt(name, -1);
    else
        attempt(name, fault ? -1 : 0);
}
static void try(const char *who, pid_t pid)
{
    char name[128];
    int kinds[] = {SOCK_STREAM, SOCK_DGRAM};
    for (int k = 0; k < 2; k++) {
        for (int way = 0; way < 4; way++) {
            int pair[2];
            if (socketpair(AF_UNIX, kinds[k], 0, pair) < 0)
                return;
            struct f_owner_ex owner = {F_OWNER_PID, pid}, thread = {F_OWNER_TID, pid};
            long set = way == 0 ? fcntl(pair[0], F_SETOWN, pid)
                     : way == 1 ? fcntl(pair[0], F_SETOWN_EX, &owner)
                     : way == 2 ? fcntl(pair[0], F_SETOWN_EX, &thread)
                                : ioctl(pair[0], SIOCSPGRP, &pid);
            int fault = set < 0 ? errno : 0;
            fcntl(pair[0], F_SETSIG, SIGKILL);
            fcntl(pair[0], F_SETFL, fcntl(pair[0], F_GETFL) | O_ASYNC);
            nudge(pair);
            snprintf(name, sizeof name, "%s, owner of socket %d, way %d", who, k, way);
            came(name, fault, pid);
            close(pair[0]);
            close(pair[1]);
        }
    }
    int pipes[2];
    if (pipe(pipes) == 0) {
        int fault = fcntl(pipes[0], F_SETOWN, pid) < 0 ? errno : 0;
        fcntl(pipes[0], F_SETSIG, SIGSTOP);
        fcntl(pipes[0], F_SETFL, O_ASYNC);
        nudge((int[2]){pipes[0], pipes[1]});
        snprintf(name, sizeof name, "%s, owner of a pipe", who);
        came(name, fault, pid);
    }
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGKILL};
    event._sigev_un._tid = pid;
    int timer;
    snprintf(name, sizeof name, "%s, thread of a timer", who);
    long made = syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer);
    struct itimerspec at = {.it_value = {0, 1000000}};
    attempt(name, made < 0 ? -1 : syscall(SYS_timer_settime, timer, 0, &at, NULL));
}
static void foreground(pid_t pid)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        int unlock = 0;
        ioctl(master, TIOCSPTLCK, &unlock);
        int slave = ioctl(master, TIOCGPTPEER, O_RDWR);
        ioctl(slave, TIOCSCTTY, 0);
        attempt("foreground group of a terminal", ioctl(slave, TIOCSPGRP, &pid));
        if (write(master, "\003", 1) != 1)
            perror("write");
        _exit(0);
    }
    waitpid(child, NULL, 0);
    close(master);
}
static void notified(void)
{
    struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t queue = mq_open("/escape-notify", O_CREAT | O_RDWR | O_EXCL, 0600, &attr);
    if (queue < 0)
        return;
    mq_unlink("/escape-notify");
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGKILL};
    event._sigev_un._tid = victim();
    attempt("thread of a queue's notice", syscall(SYS_mq_notify, queue, &event));
    mq_close(queue);
}

int run(void)
{
    if (inside()) {
        try("init", 1);
        if (getppid() > 1)
            try("parent", getppid());
        foreground(1);
    }
    try("victim", victim());
    foreground(victim());
    notified();
    return 0;
}
