/* title:   A process is traced, its own child, with calls put into it
 * source:  ptrace(2); CVE-2019-13272: PTRACE_TRACEME; the descriptors and filters stay those of the sandbox
 * expect:  EPERM ESRCH
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"

static long traceme(long with)
{
    return ptrace(PTRACE_TRACEME, with, NULL, NULL);
}

int run(void)
{
    attempt_apart("let oneself be traced", traceme, 0);
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0)
        for (;;)
            pause();
    long attached = ptrace(PTRACE_ATTACH, child, NULL, NULL);
    attempt("attach to a child", attached);
    if (attached >= 0) {
        waitpid(child, NULL, __WALL);
        errno = 0;
        long word = ptrace(PTRACE_PEEKTEXT, child, (void *)run, NULL);
        attempt("read a child's memory", errno ? -1 : 0);
        attempt("write a child's memory", ptrace(PTRACE_POKETEXT, child, (void *)run, (void *)word));
        attempt("dump a child's filter", ptrace(0x420c /* PTRACE_SECCOMP_GET_FILTER */, child, 0, NULL));
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return 0;
}
