/* title:   Arguments with something where the kernel does not look
 * source:  CVE-2019-7303; seccomp(2): arguments are 64 bits, most of them an int to the kernel
 * expect:  EPERM EACCES
 * fires:   call
 * control: host
 * harmless: yes
 *
 * A rule that compares all of an argument with a denied value lets these pass; one that compares with an allowed value and cuts
 * off too much as well: mode_t has 16 bits, a family 32, the flags of clone 32.
 */
#include "lib.h"
#include <sys/sysmacros.h>

static void device(const char *name, long mode)
{
    long done = syscall(SYS_mknod, "escape-device", mode, (long)makedev(1, 3));
    attempt(name, done);
    if (done >= 0)
        unlink("escape-device");
    snprintf(buf, sizeof buf, "%s, mknodat", name);
    done = syscall(SYS_mknodat, AT_FDCWD, "escape-device", mode, (long)makedev(1, 3));
    attempt(buf, done);
    if (done >= 0)
        unlink("escape-device");
}
static void namespaced(const char *name, unsigned long flags)
{
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    attempt(name, pid);
}

int run(void)
{
    device("character device", S_IFCHR | 0600);
    device("character device, bit 16", 1L << 16 | S_IFCHR | 0600);
    device("character device, high half", 0xffffffffL << 32 | S_IFCHR | 0600);
    device("character device, all above", (long)(0xffffffffffff0000UL | S_IFCHR | 0600));
    device("block device, bit 31", 1L << 31 | S_IFBLK | 0600);
    namespaced("clone, bit 32", 1UL << 32 | CLONE_NEWUSER);
    namespaced("clone, high half", 0xffffffff00000000UL | CLONE_NEWUSER);
    attempt("socket, bit 32 and AF_INET", syscall(SYS_socket, 1L << 32 | AF_INET, SOCK_STREAM, 0));
    attempt("socket, AF_UNIX in the high half", syscall(SYS_socket, (long)AF_UNIX << 32 | AF_INET, SOCK_STREAM, 0));
    attempt("personality, PER_LINUX32 in the high half", syscall(SYS_personality, 8L << 32 | 0x0400000));
    return 0;
}
