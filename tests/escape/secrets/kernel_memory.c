/* title:   The kernel's memory, its addresses and its messages are read
 * source:  proc_kcore(5), proc_kallsyms(5), mem(4), syslog(2), proc_kpageflags(5); kernel_lockdown(7)
 * expect:  EACCES EPERM ENOENT ENODATA ENOSYS ENXIO EINVAL
 * fires:   call
 * control: root
 * control-user: void: the kernel shows them to root alone
 *
 * Addresses that are all zero are none.
 */
#include "lib.h"
#include <sys/klog.h>

static void addresses(const char *path)
{
    char line[512];
    FILE *f = fopen(path, "r");
    int got = 0;
    for (int n = 0; f && !got && n < 500 && fgets(line, sizeof line, f); n++) {
        char *at = strstr(line, "ffff");
        got = at && strlen(at) > 16 && strspn(at, "0123456789abcdef") >= 12;
    }
    if (!f) {
        attempt(path, -1);
        return;
    }
    fclose(f);
    errno = ENODATA;
    attempt(path, got ? 0 : -1);
}

int run(void)
{
    const char *files[] = {"/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kmsg", "/proc/kpagecount", "/proc/kpageflags",
                           "/proc/vmcore", "/sys/kernel/debug/kernel_page_tables", "/sys/kernel/boot_params/data", "/sys/kernel/btf/vmlinux",
                           "/sys/kernel/notes", "/proc/iomem", "/dev/vda", "/dev/sda", "/dev/nvram", "/dev/cpu/0/msr"};
    for (unsigned n = 0; n < sizeof files / sizeof *files; n++) {
        if (!inside() && n > 0 && strncmp(files[n], "/proc/kpage", 11))
            continue;
        int fd = open(files[n], O_RDONLY | O_NONBLOCK);
        long got = fd < 0 ? -1 : read(fd, buf, 64);
        /* /proc/iomem and its like show zeroes to whoever may not see them. */
        if (got == 0 || (got > 0 && strspn(buf, "0-: ") > 16))
            got = -1, errno = ENODATA;
        attempt(files[n], got);
        if (fd >= 0)
            close(fd);
    }
    addresses("/proc/kallsyms");
    addresses("/proc/modules");
    addresses("/proc/vmallocinfo");
    addresses("/proc/timer_list");
    addresses("/proc/net/unix");
    addresses("/proc/self/stack");
    attempt("messages", klogctl(3, buf, sizeof buf));
    attempt("size of messages", klogctl(10, NULL, 0));
    return 0;
}
