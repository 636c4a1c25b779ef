/* Makes a process make a system call: inject PID NUMBER ARGUMENT... An argument is a number, or s:TEXT for its address in the
 * process. Prints what the call answered: 0 and up, or the errno as a negative number. x86-64; the process waits in a call. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    int pid = atoi(argv[1]), status;
    if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD))
        return fail("seize");
    if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) || waitpid(pid, &status, 0) < 0)
        return fail("interrupt");
    struct user_regs_struct before, regs;
    if (ptrace(PTRACE_GETREGS, pid, 0, &before))
        return fail("registers");
    if ((long)before.orig_rax < 0) {
        fprintf(stderr, "it is in no system call\n");
        return 1;
    }
    regs = before;
    unsigned long args[6] = {0}, at = before.rsp - 4096;
    for (int i = 0; i + 3 < argc && i < 6; i++) {
        if (strncmp(argv[i + 3], "s:", 2)) {
            args[i] = strtoul(argv[i + 3], NULL, 0);
            continue;
        }
        char text[256] = {0};
        strncpy(text, argv[i + 3] + 2, sizeof text - 1);
        for (size_t n = 0; n < sizeof text; n += 8) {
            long word;
            memcpy(&word, text + n, 8);
            if (ptrace(PTRACE_POKEDATA, pid, at + n, word))
                return fail("memory");
        }
        args[i] = at;
        at += sizeof text;
    }
    /* The instruction that it waits in, once more, with another number. */
    regs.rip = before.rip - 2;
    regs.rax = strtoul(argv[2], NULL, 0);
    regs.orig_rax = -1;
    regs.rdi = args[0], regs.rsi = args[1], regs.rdx = args[2], regs.r10 = args[3], regs.r8 = args[4], regs.r9 = args[5];
    if (ptrace(PTRACE_SETREGS, pid, 0, &regs))
        return fail("registers");
    /* Its entry and its exit; where a filter refuses the call there is an exit all the same. */
    for (int stops = 0; stops < 2;) {
        if (ptrace(PTRACE_SYSCALL, pid, 0, 0) || waitpid(pid, &status, 0) < 0)
            return fail("system call");
        if (!WIFSTOPPED(status)) {
            printf("it ended: %#x\n", status);
            return 0;
        }
        if (WSTOPSIG(status) == (SIGTRAP | 0x80))
            stops++;
    }
    if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
        return fail("registers");
    printf("%ld\n", (long)regs.rax);
    /* What it waited in is begun again. */
    before.rip -= 2;
    before.rax = before.orig_rax;
    if (ptrace(PTRACE_SETREGS, pid, 0, &before) || ptrace(PTRACE_DETACH, pid, 0, 0))
        return fail("go on");
    return 0;
}
