/* title:   clone with flags for new namespaces, also with other bits set
 * source:  CVE-2022-0185, CVE-2022-0492 (both begin with a user namespace); clone(2): flags are cut to 32 bits
 * expect:  EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * A user namespace gives every capability over what is made in it, and with them most of the kernel's attack surface.
 */
#include "lib.h"

static long try_clone(unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, __WALL);
    return pid;
}

int run(void)
{
    static const struct {
        const char *name;
        unsigned long flags;
    } tries[] = {
        {"user", CLONE_NEWUSER},
        {"user and mount", CLONE_NEWUSER | CLONE_NEWNS},
        {"user and network", CLONE_NEWUSER | CLONE_NEWNET},
        {"user and pid", CLONE_NEWUSER | CLONE_NEWPID},
        {"all", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP},
        {"mount", CLONE_NEWNS},
        {"network", CLONE_NEWNET},
        {"pid", CLONE_NEWPID},
        {"ipc", CLONE_NEWIPC},
        {"uts", CLONE_NEWUTS},
        {"cgroup", CLONE_NEWCGROUP},
        {"user, bit 32", CLONE_NEWUSER | 1UL << 32},
        {"user, bit 63", CLONE_NEWUSER | 1UL << 63},
        {"user, all of the high half", CLONE_NEWUSER | 0xffffffffUL << 32},
        {"user, into a control group's bit", CLONE_NEWUSER | 1UL << 33},
        {"user, by vfork", CLONE_NEWUSER | CLONE_VFORK},
        {"user, untraced", CLONE_NEWUSER | CLONE_UNTRACED},
        {"user, same parent, memory and files", CLONE_NEWUSER | CLONE_PARENT_SETTID | CLONE_FILES},
    };
    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++)
        attempt(tries[i].name, try_clone(tries[i].flags));
    return 0;
}
