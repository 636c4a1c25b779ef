/* title:   Standard input is a directory of the host's
 * source:  openat(2), fchdir(2); CVE-2024-21626 (runc) by another descriptor
 * expect:  ENOTDIR ENOENT EINVAL
 * fires:   read
 * control: host
 * stdin:   dir
 * harmless: yes
 */
#include "lib.h"
#include <dirent.h>

int run(void)
{
    attempt_read("below it", 0, "secret");
    attempt_read("by /proc/self/fd", AT_FDCWD, "/proc/self/fd/0/secret");
    attempt_read("by /dev/stdin", AT_FDCWD, "/dev/stdin/secret");
    attempt("made below it", openat(0, "targets/made", O_WRONLY | O_CREAT, 0644));
    attempt("above it", openat(0, "..", O_PATH | O_DIRECTORY));
    attempt("opened anew as a directory", open("/proc/self/fd/0", O_RDONLY | O_DIRECTORY));
    DIR *list = fdopendir(dup(0));
    attempt("listed", list ? 0 : -1);
    if (attempt("as working directory", fchdir(0)))
        attempt_read("below the working directory", AT_FDCWD, "secret");
    return 0;
}
