/* title:   Under `strict`: what only `standard` gives, and what no profile does
 * source:  seccomp(2), SECCOMP_RET_KILL_PROCESS; Firecracker's rule: a filter holds what its program needs and no more
 * expect:  SIGSYS EPERM EACCES ENOSYS
 * fires:   call
 * control: host
 * flags:   --policy strict
 *
 * A denied call ends the process there; what libraries try and live without gets an errno. On a reference the flags mean nothing:
 * then it is what its one profile does.
 */
#include "lib.h"

static const struct {
    const char *name;
    long number, words[4];
} tries[] = {
    {"shared memory", SYS_shmget, {0, 4096, 0600}},
    {"inotify", SYS_inotify_init1, {0}},
    {"secret memory", 447 /* memfd_secret */, {0}},
    {"a ruleset's version", 444 /* landlock_create_ruleset */, {0, 0, 1}},
    {"seccomp: is there an action", SYS_seccomp, {2, 0, (long)&(unsigned){0x7fff0000}}},
    {"personality, as it is", SYS_personality, {0xffffffff}},
    {"lower priority", SYS_setpriority, {0, 0, 19}},
    {"I/O priority", SYS_ioprio_set, {1, 0, 2 << 13 | 7}},
    {"memory policy", SYS_get_mempolicy, {0}},
    {"ptrace", SYS_ptrace, {PTRACE_TRACEME}},
    {"unshare", SYS_unshare, {CLONE_NEWUSER}},
    {"keyctl", SYS_keyctl, {0, -2, 1}},
    {"socket", SYS_socket, {AF_INET, SOCK_STREAM}},
    {"clone3", SYS_clone3, {(long)&(unsigned long[8]){0, 0, 0, 0, SIGCHLD}, 64}},
};

static long make(long i)
{
    const long *words_of = tries[i].words;
    long answer = syscall(tries[i].number, words_of[0], words_of[1], words_of[2], words_of[3], 0L, 0L);
    if (tries[i].number == SYS_shmget && answer >= 0)
        syscall(SYS_shmctl, answer, 0 /* IPC_RMID */, NULL);
    if (tries[i].number == SYS_clone3 && answer == 0)
        _exit(0);
    return answer;
}

int run(void)
{
    for (long i = 0; i < (long)(sizeof tries / sizeof *tries); i++)
        attempt_apart(tries[i].name, make, i);
    return 0;
}
