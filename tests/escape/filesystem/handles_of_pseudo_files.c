/* title:   A namespace or process of the host's is opened by a handle that can be guessed
 * source:  open_by_handle_at(2) with FD_NSFS_ROOT and FD_PIDFS_ROOT (Linux 6.18, 6.16), which need no mount
 * expect:  EPERM ENOSYS ESTALE EOPNOTSUPP EINVAL EBADF SIGSYS
 * fires:   call
 * control: root
 * control-user: host
 * harmless: yes
 *
 * The numbers of the first namespaces are constants of the kernel, and those of pids can be counted; the handle needs no
 * descriptor of a mount. Older kernels know no such handle: EBADF.
 */
#include "lib.h"
#include <linux/types.h>

struct handle {
    struct file_handle head;
    union {
        struct {
            __u64 id;
            __u32 type, inode;
        } ns;
        __u64 pid;
    };
};

int run(void)
{
    /* ipc, uts, user, pid, cgroup, time: the inodes of the first ones are fixed. */
    static const struct {
        uint32_t type, inode;
    } first[] = {{0x08000000, 0xEFFFFFFF}, {0x04000000, 0xEFFFFFFE}, {0x10000000, 0xEFFFFFFD}, {0x20000000, 0xEFFFFFFC},
                 {0x02000000, 0xEFFFFFFB}, {0x00000080, 0xEFFFFFFA}, {0x40000000, 0xEFFFFFF9}, {0x00020000, 0xEFFFFFF8}};
    struct handle handle;
    int id;
    for (size_t n = 0; n < sizeof first / sizeof *first; n++)
        for (int guess = 0; guess <= 8; guess++) {
            memset(&handle, 0, sizeof handle);
            handle.head = (struct file_handle){.handle_bytes = 16, .handle_type = 0xf1};
            handle.ns.id = guess;
            handle.ns.type = first[n].type;
            handle.ns.inode = first[n].inode;
            int fd = syscall(SYS_open_by_handle_at, -10003, &handle, O_RDONLY);
            attempt("a first namespace", fd);
            if (fd >= 0)
                attempt("enter it", setns(fd, 0));
        }
    for (uint64_t pid = 0; pid < 64; pid++) {
        memset(&handle, 0, sizeof handle);
        handle.head = (struct file_handle){.handle_bytes = 8, .handle_type = 0xfe};
        handle.pid = pid;
        attempt("a process by its number", syscall(SYS_open_by_handle_at, -10002, &handle, O_RDONLY));
    }
    if (!inside()) {
        /* The same with a handle that is known. */
        handle.head.handle_bytes = 16;
        int fd = open("/proc/self/ns/uts", O_RDONLY);
        if (syscall(SYS_name_to_handle_at, fd, "", &handle, &id, AT_EMPTY_PATH) == 0)
            attempt("a namespace by its handle", syscall(SYS_open_by_handle_at, -10003, &handle, O_RDONLY));
        handle.head.handle_bytes = 8;
        fd = syscall(SYS_pidfd_open, getpid(), 0);
        if (syscall(SYS_name_to_handle_at, fd, "", &handle, &id, AT_EMPTY_PATH) == 0)
            attempt("a process by its handle", syscall(SYS_open_by_handle_at, fd, &handle, O_RDONLY));
    }
    return 0;
}
