/* title:   Mounts are made, copied, moved and changed by the calls that old filters do not know
 * source:  CVE-2021-41133 (Flatpak's filter lacked them); open_tree(2), move_mount(2), fsopen(2), fspick(2), mount_setattr(2)
 * expect:  ENOSYS EPERM SIGSYS
 * fires:   change
 * control: namespaces
 *
 * In namespaces of its own DIR/targets is mounted read-only first, and made writable by mount_setattr.
 */
#include "lib.h"

struct attr {
    uint64_t set, clear, propagation, userns;
};

int run(void)
{
    const char *place = inside() ? "." : ground("targets");
    if (!inside() && (mount(place, place, NULL, MS_BIND, NULL) || mount(NULL, place, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)))
        return 1;
    struct attr attr = {.clear = MOUNT_ATTR_RDONLY};
    attempt("make the directory writable", syscall(SYS_mount_setattr, AT_FDCWD, place, 0, &attr, sizeof attr));
    if (!inside())
        attempt("write there", open(ground("targets/written"), O_WRONLY | O_CREAT, 0644));
    static const char *const trees[] = {"/", ".", "/usr", "/etc", "/proc", "/dev", "/tmp"};
    for (size_t n = 0; n < sizeof trees / sizeof *trees; n++) {
        const char *at = trees[n];
        int tree = syscall(SYS_open_tree, AT_FDCWD, at, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (attempt("copy a tree of mounts", tree))
            attempt("put it elsewhere", syscall(SYS_move_mount, tree, "", AT_FDCWD, "/tmp", MOVE_MOUNT_F_EMPTY_PATH));
        attempt("copy one mount", syscall(SYS_open_tree, AT_FDCWD, at, OPEN_TREE_CLONE));
        attempt("a tree with attributes", syscall(467, AT_FDCWD, at, OPEN_TREE_CLONE, &(struct attr){0}, sizeof(struct attr)));
        if (!inside())
            continue;
        struct attr writable = {.clear = MOUNT_ATTR_RDONLY};
        struct attr open = {.clear = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, .propagation = MS_SHARED};
        attempt("move a mount", syscall(SYS_move_mount, AT_FDCWD, at, AT_FDCWD, "/tmp", 0));
        attempt("make it writable", syscall(SYS_mount_setattr, AT_FDCWD, at, 0, &writable, sizeof writable));
        attempt("make all below it writable", syscall(SYS_mount_setattr, AT_FDCWD, at, AT_RECURSIVE, &writable, sizeof writable));
        attempt("clear nosuid and nodev", syscall(SYS_mount_setattr, AT_FDCWD, at, 0, &open, sizeof open));
        attempt("reconfigure its file system", syscall(SYS_fspick, AT_FDCWD, at, 0));
    }
    static const char *const systems[] = {"tmpfs", "proc", "sysfs", "overlay", "ext4", "devpts", "mqueue", "cgroup", "cgroup2",
                                          "fuse", "ramfs", "bpf", "debugfs", "binfmt_misc", "nfs", "9p"};
    for (size_t n = 0; n < sizeof systems / sizeof *systems; n++) {
        int fs = syscall(SYS_fsopen, systems[n], 0);
        if (!attempt("open a file system", fs))
            continue;
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
        attempt("mount it nowhere", syscall(SYS_fsmount, fs, 0, 0));
    }
    return 0;
}
