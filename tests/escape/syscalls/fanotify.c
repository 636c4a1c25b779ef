/* title:   What happens on a file system is listened to, and held up, by fanotify
 * source:  fanotify(7); a permission event stops every process of the host that opens a file
 * expect:  EPERM
 * fires:   call
 * control: host
 *
 * Marks on a mount or a file system reach beyond one's own directories.
 */
#include "lib.h"
#include <sys/fanotify.h>

static void group(const char *name, unsigned flags, unsigned marks, unsigned long mask)
{
    int fd = (int)syscall(SYS_fanotify_init, flags, O_RDONLY);
    char words_of[96];
    snprintf(words_of, sizeof words_of, "group: %s", name);
    attempt(words_of, fd);
    snprintf(words_of, sizeof words_of, "mark: %s", name);
    attempt(words_of, syscall(SYS_fanotify_mark, fd, FAN_MARK_ADD | marks, mask, AT_FDCWD, "."));
    if (fd >= 0)
        close(fd);
}

int run(void)
{
    group("by file ids, as anybody may", FAN_CLASS_NOTIF | FAN_REPORT_FID, 0, FAN_OPEN);
    group("by names", FAN_CLASS_NOTIF | 0x00000c00 /* FAN_REPORT_DFID_NAME */, 0, FAN_CREATE | FAN_ONDIR);
    group("descriptors", FAN_CLASS_NOTIF, 0, FAN_OPEN);
    group("a whole mount", FAN_CLASS_NOTIF, FAN_MARK_MOUNT, FAN_OPEN);
    group("a whole file system", FAN_CLASS_NOTIF, FAN_MARK_FILESYSTEM, FAN_OPEN);
    return 0;
}
