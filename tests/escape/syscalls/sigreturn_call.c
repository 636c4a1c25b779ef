/* title:   Calls made by returning from signals, with registers made up
 * source:  Bosman and Bos, "Framing Signals" (SROP), 2014
 * expect:  EPERM EACCES ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 *
 * A handler changes the registers that are restored: the number, the arguments, and where to go on.
 */
#include "lib.h"
#include <ucontext.h>

static long number, words_for[3];

extern char escape_gadget[];
long escape_trap(void);
asm(".text\n"
    ".globl escape_trap, escape_gadget\n"
    "escape_trap: int3\n"
    "ret\n"
    "escape_gadget: syscall\n"
    "ret\n");

static void on_trap(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    regs[REG_RIP] = (greg_t)escape_gadget;
    regs[REG_RAX] = number;
    regs[REG_RDI] = words_for[0], regs[REG_RSI] = words_for[1], regs[REG_RDX] = words_for[2];
}
static long by_return(long nr, long a, long b, long c)
{
    number = nr, words_for[0] = a, words_for[1] = b, words_for[2] = c;
    long answer = escape_trap();
    if (answer >= 0 || answer < -4095)
        return answer;
    errno = (int)-answer;
    return -1;
}

int run(void)
{
    char params[256] = {0};
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    attempt("keyctl", by_return(SYS_keyctl, 0, -2, 1));
    attempt("socket", by_return(SYS_socket, AF_INET, SOCK_STREAM, 0));
    attempt("io_uring_setup", by_return(SYS_io_uring_setup, 1, (long)params, 0));
    attempt("unshare", by_return(SYS_unshare, CLONE_NEWUSER, 0, 0));
    return 0;
}
