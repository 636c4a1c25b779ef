/* title:   The sandbox's init, its supervisor and others' processes are killed or stopped
 * source:  kill(2), tgkill(2), pidfd_send_signal(2), rt_sigqueueinfo(2); landlock(7): LANDLOCK_SCOPE_SIGNAL
 * expect:  EPERM ESRCH EINVAL ENOSYS EBADF EACCES ENOENT ENOTDIR
 * fires:   process
 * control: host
 *
 * A run whose supervisor is stopped has no limit on its wall time; a killed init loses the program's status. On the bare host
 * only the victim is sent anything.
 */
#include "lib.h"
#include <sys/syscall.h>

static void all(const char *name, pid_t pid, int sig)
{
    char what[128];
    siginfo_t info = {.si_signo = sig, .si_code = SI_QUEUE};
    snprintf(what, sizeof what, "%s by kill", name);
    attempt(what, kill(pid, sig));
    snprintf(what, sizeof what, "%s by kill of its group", name);
    if (inside())
        attempt(what, kill(-pid, sig));
    snprintf(what, sizeof what, "%s by tkill", name);
    attempt(what, syscall(SYS_tkill, pid, sig));
    snprintf(what, sizeof what, "%s by tgkill", name);
    attempt(what, syscall(SYS_tgkill, pid, pid, sig));
    snprintf(what, sizeof what, "%s by a queued signal", name);
    attempt(what, syscall(SYS_rt_sigqueueinfo, pid, sig, &info));
    snprintf(what, sizeof what, "%s by a thread's queued signal", name);
    attempt(what, syscall(SYS_rt_tgsigqueueinfo, pid, pid, sig, &info));
    int fd = syscall(SYS_pidfd_open, pid, 0);
    snprintf(what, sizeof what, "%s by pidfd", name);
    attempt(what, fd < 0 ? -1 : syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0));
    snprintf(what, sizeof what, "%s by pidfd, its group", name);
    if (inside())
        attempt(what, fd < 0 ? -1 : syscall(SYS_pidfd_send_signal, fd, sig, NULL, 4));
    char path[64];
    snprintf(path, sizeof path, "/proc/%d", pid);
    int dir = open(path, O_RDONLY | O_DIRECTORY);
    snprintf(what, sizeof what, "%s by its folder in /proc", name);
    attempt(what, dir < 0 ? -1 : syscall(SYS_pidfd_send_signal, dir, sig, NULL, 0));
}
static void others(int sig)
{
    char name[64];
    if (inside()) {
        snprintf(name, sizeof name, "init, signal %d", sig);
        all(name, 1, sig);
        if (getppid() > 1) {
            snprintf(name, sizeof name, "parent, signal %d", sig);
            all(name, getppid(), sig);
        }
        snprintf(name, sizeof name, "all, signal %d", sig);
        attempt(name, kill(-1, sig));
    }
    snprintf(name, sizeof name, "victim, signal %d", sig);
    all(name, victim(), sig);
}

int run(void)
{
    int signals[] = {SIGSTOP, SIGTERM, SIGQUIT, SIGABRT, SIGSYS, SIGXCPU, 34, SIGKILL};
    for (unsigned n = 0; n < sizeof signals / sizeof *signals; n++)
        others(signals[n]);
    return 0;
}
