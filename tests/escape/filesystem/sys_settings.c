/* title:   Settings of the kernel's devices and helpers are written in /sys
 * source:  sysfs(5); uevent_helper as a way out of containers, "Understanding Docker container escapes" (Trail of Bits, 2019)
 * expect:  ENOENT EACCES EROFS EPERM ENOTDIR
 * fires:   call
 * control: root
 *
 * Each is opened for writing; nothing is written.
 */
#include "lib.h"

int run(void)
{
    static const char *const names[] = {
        "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper", "/sys/kernel/profiling", "/sys/kernel/rcu_normal",
        "/sys/kernel/mm/ksm/run", "/sys/kernel/kexec_crash_size", "/sys/kernel/security/lockdown", "/sys/kernel/debug/sched/features",
        "/sys/kernel/tracing/uprobe_events", "/sys/kernel/debug/tracing/kprobe_events", "/sys/power/state", "/sys/power/disk",
        "/sys/block/vda/uevent", "/sys/block/vda/queue/scheduler", "/sys/class/mem/null/uevent", "/sys/devices/system/cpu/cpu1/online",
        "/sys/devices/system/memory/probe", "/sys/module/kernel/parameters/panic", "/sys/module/overlay/parameters/metacopy",
        "/sys/bus/pci/rescan", "/sys/bus/pci/drivers/virtio-pci/unbind", "/sys/firmware/acpi/pm_profile", "/sys/fs/ext4/vda/trigger_fs_error",
        "/sys/fs/bpf/x", "/sys/fs/fuse/connections/1/abort", "/sys/fs/selinux/enforce", "/sys/fs/pstore/x", "/sys/class/net/lo/mtu"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        int fd = open(names[n], O_WRONLY | O_NONBLOCK);
        attempt(names[n], fd);
        if (fd >= 0)
            close(fd);
        char path[256];
        for (int way = 0; inside() && way < 2; way++) {
            snprintf(path, sizeof path, way ? "/proc/self/cwd/../../../../../../..%s" : "/proc/1/root%s", names[n]);
            attempt("by another way", open(path, O_WRONLY | O_NONBLOCK));
        }
    }
    return 0;
}
