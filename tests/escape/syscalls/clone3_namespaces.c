/* title:   clone3, whose flags no filter can read
 * source:  clone3(2), CVE-2022-0185; docker/moby 42681: filters must answer ENOSYS
 * expect:  ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <linux/sched.h>

static long try_clone3(struct clone_args args, size_t size)
{
    char room[4096] = {0};
    args.exit_signal = SIGCHLD;
    memcpy(room, &args, sizeof args);
    long pid = syscall(SYS_clone3, room, size);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, __WALL);
    return pid;
}

int run(void)
{
    static int tids[1] = {1};
    struct clone_args user = {.flags = CLONE_NEWUSER}, time = {.flags = CLONE_NEWUSER | 0x80 /* CLONE_NEWTIME */};
    struct clone_args many = {.flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID};
    struct clone_args plain = {0};
    struct clone_args chosen = {.flags = CLONE_NEWUSER | CLONE_NEWPID, .set_tid = (uintptr_t)tids, .set_tid_size = 1};
    struct clone_args group = {.flags = 0x200000000ULL /* CLONE_INTO_CGROUP */, .cgroup = 0};
    attempt("no flags", try_clone3(plain, sizeof plain));
    attempt("user", try_clone3(user, sizeof user));
    attempt("user, first version of the structure", try_clone3(user, 64));
    attempt("user, a structure of the future", try_clone3(user, 512));
    attempt("user and time", try_clone3(time, sizeof time));
    attempt("user, mount, network and pid", try_clone3(many, sizeof many));
    attempt("a pid of one's choice", try_clone3(chosen, sizeof chosen));
    attempt("into a control group", try_clone3(group, sizeof group));
    return 0;
}
