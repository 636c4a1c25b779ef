/* title:   Handles of files are made, to be opened elsewhere
 * source:  name_to_handle_at(2); Shocker (docker, 2014); open_by_handle_at is its other half
 * expect:  EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * A handle holds the inode number alone, and gives away the mount's id.
 */
#include "lib.h"

static void handle(const char *name, const char *path, int flags)
{
    struct {
        struct file_handle head;
        unsigned char room[128];
    } it = {.head.handle_bytes = 128};
    int mount_id;
    attempt(name, syscall(SYS_name_to_handle_at, AT_FDCWD, path, &it, &mount_id, flags));
}

int run(void)
{
    handle("root", "/", 0);
    handle("working directory", ".", 0);
    handle("working directory, by descriptor", "", AT_EMPTY_PATH);
    handle("its own namespace", "/proc/self/ns/net", AT_SYMLINK_FOLLOW);
    handle("for comparison only", ".", 0x200 /* AT_HANDLE_FID */);
    return 0;
}
