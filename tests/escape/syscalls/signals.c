/* title:   Signals to a process outside, by every call that sends one
 * source:  kill(2), pidfd_send_signal(2), rt_sigqueueinfo(2), tgkill(2)
 * expect:  ESRCH EPERM
 * fires:   process
 * control: host
 */
#include "lib.h"

int run(void)
{
    pid_t pid = victim();
    static const int signals[] = {0, SIGSTOP};
    for (unsigned i = 0; i < 2; i++) {
        int signal = signals[i];
        char name[64];
        siginfo_t info = {.si_code = SI_QUEUE};
        info.si_signo = signal;
        snprintf(name, sizeof name, "kill, %d", signal);
        attempt(name, kill(pid, signal));
        snprintf(name, sizeof name, "kill its group, %d", signal);
        attempt(name, kill(-pid, signal));
        snprintf(name, sizeof name, "tkill, %d", signal);
        attempt(name, syscall(SYS_tkill, pid, signal));
        snprintf(name, sizeof name, "tgkill, %d", signal);
        attempt(name, syscall(SYS_tgkill, pid, pid, signal));
        snprintf(name, sizeof name, "rt_sigqueueinfo, %d", signal);
        attempt(name, syscall(SYS_rt_sigqueueinfo, pid, signal, &info));
        snprintf(name, sizeof name, "rt_tgsigqueueinfo, %d", signal);
        attempt(name, syscall(SYS_rt_tgsigqueueinfo, pid, pid, signal, &info));
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        snprintf(name, sizeof name, "pidfd_send_signal, %d", signal);
        attempt(name, pidfd < 0 ? -1 : syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
        if (pidfd >= 0)
            close(pidfd);
    }
    snprintf(buf, sizeof buf, "/proc/%d", pid);
    int directory = open(buf, O_RDONLY | O_DIRECTORY);
    if (directory >= 0)
        attempt("pidfd_send_signal by /proc/PID", syscall(SYS_pidfd_send_signal, directory, SIGSTOP, NULL, 0));
    return 0;
}
