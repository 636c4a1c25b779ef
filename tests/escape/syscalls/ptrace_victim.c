/* title:   Another process is traced, and left stopped
 * source:  ptrace(2); CVE-2019-13272 (PTRACE_TRACEME keeps wrong credentials)
 * expect:  EPERM ESRCH
 * fires:   process
 * control: host
 */
#include "lib.h"

static void take(const char *who, pid_t pid, int stop)
{
    char name[96];
    snprintf(name, sizeof name, "seize %s", who);
    long seized = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
    if (attempt(name, seized)) {
        snprintf(name, sizeof name, "interrupt %s", who);
        attempt(name, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
        waitpid(pid, NULL, __WALL);
        snprintf(name, sizeof name, "detach %s", who);
        attempt(name, ptrace(PTRACE_DETACH, pid, NULL, NULL));
    }
    snprintf(name, sizeof name, "attach to %s", who);
    long attached = ptrace(PTRACE_ATTACH, pid, NULL, NULL);
    if (attempt(name, attached)) {
        waitpid(pid, NULL, __WALL);
        snprintf(name, sizeof name, "peek at %s", who);
        errno = 0;
        long user = ptrace(PTRACE_PEEKUSER, pid, NULL, NULL);
        attempt(name, user == -1 && errno ? -1 : 0);
        snprintf(name, sizeof name, "leave %s stopped", who);
        attempt(name, ptrace(PTRACE_DETACH, pid, NULL, stop ? (void *)SIGSTOP : NULL));
    }
}

int run(void)
{
    take("the victim", victim(), 1);
    if (inside()) {
        take("init", 1, 0);
        take("the parent", getppid(), 0);
    }
    return 0;
}
