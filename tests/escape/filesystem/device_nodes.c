/* title:   Devices of the host's are opened by their usual names
 * source:  mem(4), kmsg, tun, fuse(4), loop(4)
 * expect:  ENOENT EACCES EPERM ENXIO ENODEV ENOTDIR EROFS
 * fires:   call
 * control: host
 */
#include "lib.h"
#include <glob.h>

int run(void)
{
    static const char *const names[] = {
        "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/dev/nvram", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/loop-control",
        "/dev/btrfs-control", "/dev/mapper/control", "/dev/vhost-net", "/dev/vhost-vsock", "/dev/vsock", "/dev/uinput", "/dev/hwrng",
        "/dev/snapshot", "/dev/autofs", "/dev/cpu_dma_latency", "/dev/userfaultfd", "/dev/udmabuf", "/dev/dma_heap/system",
        "/dev/binderfs/binder-control", "/dev/ashmem", "/dev/rtc0", "/dev/ppp", "/dev/tpm0", "/dev/zfs"};
    static const char *const patterns[] = {"/dev/vd*",  "/dev/sd*",  "/dev/nvme*",       "/dev/loop*", "/dev/dm-*",    "/dev/ram*",
                                           "/dev/cpu/*/msr", "/dev/tty[0-9]*", "/dev/vcs*", "/dev/input/*", "/dev/dri/*", "/dev/hidraw*",
                                           "/dev/disk/*/*", "/dev/block/*", "/dev/char/*", "/dev/bus/usb/*/*", "/dev/snd/*", "/dev/nvidia*"};
    static const int kinds[] = {O_RDONLY, O_WRONLY, O_RDWR};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int kind = 0; kind < (inside() ? 3 : 1); kind++) {
            int fd = open(names[n], kinds[kind] | O_NONBLOCK | O_NOCTTY);
            attempt(names[n], fd);
            if (fd >= 0)
                close(fd);
        }
    for (size_t n = 0; inside() && n < sizeof patterns / sizeof *patterns; n++) {
        glob_t all;
        if (glob(patterns[n], 0, NULL, &all))
            continue;
        for (size_t at = 0; at < all.gl_pathc; at++)
            attempt(all.gl_pathv[at], open(all.gl_pathv[at], O_RDONLY | O_NONBLOCK | O_NOCTTY));
        globfree(&all);
    }
    return 0;
}
