/* title:   A call that a signal interrupted is restarted under another number
 * source:  signal(7), SA_RESTART; restart_syscall(2); arch/x86/kernel/signal.c goes back to the instruction
 * expect:  EPERM EACCES EINTR
 * fires:   call
 * control: host
 * harmless: yes
 *
 * The filter has seen read(). The handler finds the instruction pointer on the call, writes another number, and returns: the
 * filter must be asked again. restart_syscall itself goes on with what the kernel remembers, without a number at all.
 */
#include "lib.h"
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

static long number, words_for[3];

extern char escape_call[];
long escape_read(long nr, long fd, void *to, long n);
asm(".text\n"
    ".globl escape_read, escape_call\n"
    "escape_read: mov %rdi, %rax\n"
    "mov %rsi, %rdi\n"
    "mov %rdx, %rsi\n"
    "mov %rcx, %rdx\n"
    "escape_call: syscall\n"
    "ret\n");

static void on_alarm(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (regs[REG_RIP] != (greg_t)escape_call || !number)
        return;
    regs[REG_RAX] = number;
    regs[REG_RDI] = words_for[0], regs[REG_RSI] = words_for[1], regs[REG_RDX] = words_for[2];
}
static long instead_of_read(int fd, long nr, long a, long b, long c)
{
    struct itimerval soon = {.it_value.tv_usec = 50000};
    number = nr, words_for[0] = a, words_for[1] = b, words_for[2] = c;
    setitimer(ITIMER_REAL, &soon, NULL);
    long answer = escape_read(SYS_read, fd, buf, 1);
    number = 0;
    if (answer >= 0)
        return answer;
    errno = (int)-answer;
    return -1;
}

int run(void)
{
    int ends[2];
    struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct itimerval soon = {.it_value.tv_usec = 50000};
    struct timespec long_time = {5, 0};
    if (pipe(ends) < 0)
        return 1;
    sigaction(SIGALRM, &action, NULL);
    attempt("keyctl in place of read", instead_of_read(ends[0], SYS_keyctl, 0, -2, 1));
    attempt("socket in place of read", instead_of_read(ends[0], SYS_socket, AF_INET, SOCK_STREAM, 0));
    setitimer(ITIMER_REAL, &soon, NULL);
    syscall(SYS_nanosleep, &long_time, NULL);
    attempt("restart_syscall after a sleep", syscall(SYS_restart_syscall));
    attempt("restart_syscall, arguments of keyctl", syscall(SYS_restart_syscall, 0, -2, 1, SYS_keyctl));
    return 0;
}
