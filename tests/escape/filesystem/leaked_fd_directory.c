/* title:   A directory that the caller's shell left open leads out of the view
 * source:  CVE-2024-21626 (runc), CVE-2022-0185's write-ups; openat(2), fchdir(2)
 * expect:  EBADF ENOENT
 * fires:   read
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <dirent.h>

enum { LEAKED = 8 };

int run(void)
{
    attempt_read("below it", LEAKED, "secret");
    attempt_read("by /proc/self/fd", AT_FDCWD, "/proc/self/fd/8/secret");
    attempt_read("by /dev/fd", AT_FDCWD, "/dev/fd/8/secret");
    attempt_write("written below it", LEAKED, "target");
    attempt("made below it", openat(LEAKED, "targets/made", O_WRONLY | O_CREAT, 0644));
    attempt("removed below it", unlinkat(LEAKED, "target", 0));
    attempt("renamed below it", renameat(LEAKED, "public", LEAKED, "targets/public"));
    attempt("linked out of it", linkat(LEAKED, "secret", AT_FDCWD, "secret", 0));
    attempt("the host's root above it", openat(LEAKED, "../../../../../../../..", O_PATH | O_DIRECTORY));
    DIR *list = fdopendir(dup(LEAKED));
    attempt("listed", list ? 0 : -1);
    struct stat st;
    attempt("looked at", fstatat(LEAKED, "", &st, AT_EMPTY_PATH));
    if (attempt("as working directory", fchdir(LEAKED)))
        attempt_read("below the working directory", AT_FDCWD, "secret");
    return 0;
}
