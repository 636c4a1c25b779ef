/* title:   A tracer puts a denied number in the place of an allowed one, after the filter has seen it
 * source:  seccomp(2): before Linux 4.8 the filter was not run again after the tracer's stop (CVE-2019-2054); CVE-2022-30594
 * expect:  EPERM EINVAL EACCES
 * fires:   call
 * control: host
 * harmless: yes
 *
 * At the entry of getppid, and at a RET_TRACE of a filter of its own, the tracer writes the number of keyctl. Then it takes
 * the filters away (PTRACE_O_SUSPEND_SECCOMP, which CVE-2022-30594 let anybody set by PTRACE_SEIZE).
 */
#include "lib.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/user.h>

enum { SUSPEND_SECCOMP = 1 << 21 };

static pid_t held(int traced_filter)
{
    fflush(stdout);
    pid_t pid = fork();
    /* Whoever got none would signal all. */
    if (pid < 0)
        exit(1);
    if (pid)
        return pid;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code};
    if (traced_filter) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    }
    raise(SIGSTOP);
    long answer = syscall(SYS_getppid, -2, 1, 0, 0, 0);
    _exit(answer == -1 ? errno : 0);
}
/* Runs the child to its end, changing the number at the first stop in getppid. */
static void change(const char *name, long options, int resume, int traced_filter)
{
    char text[96];
    pid_t pid = held(traced_filter);
    waitpid(pid, NULL, WUNTRACED);
    snprintf(text, sizeof text, "seize, %s", name);
    long seized = ptrace(PTRACE_SEIZE, pid, NULL, (void *)options);
    if (!attempt(text, seized)) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return;
    }
    kill(pid, SIGCONT);
    int status = 0, changed = 0;
    while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
        int stop = WSTOPSIG(status), event = status >> 16;
        struct user_regs_struct regs;
        if ((stop == (SIGTRAP | 0x80) || event == PTRACE_EVENT_SECCOMP) && !changed &&
            ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0 && regs.orig_rax == SYS_getppid) {
            regs.orig_rax = SYS_keyctl, regs.rdi = 0, regs.rsi = (unsigned long)-2, regs.rdx = 1;
            changed = ptrace(PTRACE_SETREGS, pid, NULL, &regs) == 0;
        }
        int signal = event || stop == (SIGTRAP | 0x80) || stop == SIGTRAP || stop == SIGSTOP ? 0 : stop;
        if (ptrace(resume, pid, NULL, (void *)(long)signal) < 0)
            break;
    }
    snprintf(text, sizeof text, "keyctl, %s", name);
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
    attempt(text, errno ? -1 : 0);
}

int run(void)
{
    change("at the entry", PTRACE_O_TRACESYSGOOD, PTRACE_SYSCALL, 0);
    change("at a filter's stop", PTRACE_O_TRACESECCOMP, PTRACE_CONT, 1);
    change("filters suspended", PTRACE_O_TRACESYSGOOD | SUSPEND_SECCOMP, PTRACE_SYSCALL, 0);
    return 0;
}
