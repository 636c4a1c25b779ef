/* title:   A process gets the number that another had, so that what is meant for that one reaches it
 * source:  clone3(2) set_tid, proc_sys_kernel(5) ns_last_pid; pidfd_open(2) exists because of it
 * expect:  EPERM EACCES ENOSYS EROFS EINVAL EEXIST ENOENT
 * fires:   call
 * control: root
 * control-user: void: the kernel wants CAP_CHECKPOINT_RESTORE
 *
 * A supervisor that remembers numbers instead of descriptors signals the wrong one. On the bare host the number of a child
 * that just ended is taken.
 */
#include "lib.h"
#include <linux/sched.h>

static long with(pid_t pid)
{
    struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
    long born = syscall(SYS_clone3, &args, sizeof args);
    if (born == 0)
        _exit(0);
    if (born > 0)
        waitpid(born, NULL, 0);
    return born;
}
static long last(const char *number)
{
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
    long n = fd < 0 ? -1 : write(fd, number, strlen(number));
    if (fd >= 0)
        close(fd);
    return n;
}

int run(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    attempt("number of a dead child", with(pid));
    if (inside()) {
        attempt("number 1", with(1));
        attempt("number of the victim", with(victim()));
        attempt("number that was before the program's", with(getpid() - 1));
        attempt("next number set", last("1"));
        attempt("next number set near the end", last("4194300"));
    }
    pid_t from = fork();
    if (from == 0) {
        attempt("most numbers", (long)open("/proc/sys/kernel/pid_max", O_WRONLY));
        _exit(0);
    }
    waitpid(from, NULL, 0);
    return 0;
}
