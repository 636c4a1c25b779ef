/* title:   Settings of the kernel are written in /proc
 * source:  proc(5); core_pattern(5) as a way out of containers, proc_sys_fs(5) binfmt_misc, CVE-2025-52881
 * expect:  EROFS EACCES EPERM ENOENT EINVAL ENOTDIR
 * fires:   call
 * control: root
 *
 * Each is written what it holds already, or where that is nothing, 0. On the bare host only what is the same for certain is.
 */
#include "lib.h"

static void same(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, 256);
    if (fd >= 0)
        close(fd);
    fd = open(path, O_WRONLY | O_NONBLOCK);
    attempt(path, fd < 0 ? -1 : n > 0 ? write(fd, buf, n) : write(fd, "0", 1));
    if (fd >= 0)
        close(fd);
}

int run(void)
{
    static const char *const outside[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory"};
    static const char *const all[] = {
        "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/kernel/poweroff_cmd",
        "/proc/sys/kernel/usermodehelper/bset", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "/proc/sys/kernel/sysrq",
        "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/shmmax", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/yama/ptrace_scope",
        "/proc/sys/kernel/unprivileged_bpf_disabled", "/proc/sys/kernel/randomize_va_space", "/proc/sys/kernel/core_uses_pid",
        "/proc/sys/kernel/core_pipe_limit", "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/panic", "/proc/sys/kernel/pid_max",
        "/proc/sys/vm/overcommit_memory", "/proc/sys/vm/drop_caches", "/proc/sys/vm/mmap_min_addr", "/proc/sys/vm/panic_on_oom",
        "/proc/sys/fs/suid_dumpable", "/proc/sys/fs/protected_symlinks", "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/fs/binfmt_misc/status", "/proc/sys/fs/mqueue/msg_max", "/proc/sys/user/max_user_namespaces",
        "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/core/somaxconn", "/proc/sys/debug/exception-trace", "/proc/mtrr", "/proc/acpi/wakeup",
        "/proc/irq/default_smp_affinity", "/proc/scsi/scsi", "/proc/fs/nfsd/threads", "/proc/self/oom_score_adj/../../sys/kernel/panic",
        "/proc/1/oom_score_adj", "/proc/1/uid_map", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/setgroups",
        "/proc/self/projid_map", "/proc/1/setgroups", "/proc/1/attr/current", "/proc/1/attr/exec", "/proc/1/clear_refs", "/proc/1/coredump_filter",
        "/proc/1/timens_offsets", "/proc/1/task/1/comm", "/proc/1/mem", "/proc/1/sched", "/proc/1/autogroup", "/proc/1/loginuid",
        "/proc/1/timerslack_ns", "/proc/kcore", "/proc/sys/kernel/keys/root_maxkeys"};
    size_t n = inside() ? sizeof all / sizeof *all : sizeof outside / sizeof *outside;
    for (size_t at = 0; at < n; at++)
        same(inside() ? all[at] : outside[at]);
    return 0;
}
