/* title:   Namespaces and processes are opened by handles made up from their numbers
 * source:  Linux 6.14 (FD_PIDFS_ROOT) and 6.18 (FD_NSFS_ROOT): no mount is needed; open_by_handle_at(2)
 * expect:  EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * The first namespaces have well-known inode numbers.
 */
#include "lib.h"

enum { PIDFS_ROOT = -10002, NSFS_ROOT = -10003 };

struct made_up {
    struct file_handle head;
    unsigned char body[128];
};

static long by_handle(int root, struct made_up *it)
{
    return syscall(SYS_open_by_handle_at, root, it, O_RDONLY);
}

int run(void)
{
    static const unsigned inodes[] = {0xEFFFFFFF, 0xEFFFFFFE, 0xEFFFFFFD, 0xEFFFFFFC, 0xEFFFFFFB, 0xEFFFFFFA};
    static const int kinds[] = {CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWCGROUP, 0x80};
    for (unsigned i = 0; i < 6; i++) {
        struct made_up it = {.head = {.handle_bytes = 16, .handle_type = 0xf1}};
        char name[64];
        memcpy(it.body + 8, &kinds[i], 4);
        memcpy(it.body + 12, &inodes[i], 4);
        snprintf(name, sizeof name, "first namespace %#x", inodes[i]);
        attempt(name, by_handle(NSFS_ROOT, &it));
    }
    static const char *const own[] = {"/proc/self/ns/net", "/proc/self/ns/user", "/proc/self/ns/mnt"};
    for (unsigned i = 0; i < 3; i++) {
        struct made_up it = {.head.handle_bytes = 128};
        int mount_id;
        attempt(own[i], syscall(SYS_name_to_handle_at, AT_FDCWD, own[i], &it, &mount_id, AT_SYMLINK_FOLLOW) < 0
                            ? -1
                            : by_handle(NSFS_ROOT, &it));
    }
    for (int i = 0; i < 2; i++) {
        struct made_up it = {.head.handle_bytes = 128};
        int mount_id, pidfd = (int)syscall(SYS_pidfd_open, i ? victim() : getpid(), 0);
        attempt(i ? "the victim, by its pidfd's handle" : "oneself, by the pidfd's handle",
                syscall(SYS_name_to_handle_at, pidfd < 0 ? 0 : pidfd, "", &it, &mount_id, AT_EMPTY_PATH) < 0
                    ? -1
                    : by_handle(PIDFS_ROOT, &it));
    }
    return 0;
}
