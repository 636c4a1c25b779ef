/* title:   Namespaces of others are entered
 * source:  setns(2), nsenter(1); Linux 5.8: setns by pidfd
 * expect:  EPERM ENOENT EACCES ESRCH
 * fires:   call
 * control: namespaces
 * harmless: yes
 *
 * By files below /proc, by a pidfd with all flags at once, and back into one's own.
 */
#include "lib.h"

static void enter_files(long pid)
{
    static const char *const kinds[] = {"user", "mnt", "net", "pid", "pid_for_children", "ipc", "uts", "cgroup", "time"};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[64], name[96];
        snprintf(path, sizeof path, "/proc/%ld/ns/%s", pid, kinds[i]);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(name, sizeof name, "%s of %ld", kinds[i], pid);
        attempt(name, fd < 0 ? -1 : syscall(SYS_setns, fd, 0));
        if (fd >= 0)
            close(fd);
    }
}
static void enter_pidfd(long pid)
{
    static const int flags[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID | CLONE_NEWNET, 0x7e020000};
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        char name[64];
        snprintf(name, sizeof name, "pidfd of %ld, %#x", pid, flags[i]);
        attempt(name, fd < 0 ? -1 : syscall(SYS_setns, fd, flags[i]));
    }
    if (fd >= 0)
        close(fd);
}

int run(void)
{
    enter_files(1);
    enter_pidfd(1);
    enter_files(victim());
    enter_pidfd(victim());
    enter_files(getpid());
    enter_pidfd(getpid());
    return 0;
}
