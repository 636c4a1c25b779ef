/* title:   The file behind /proc/self/exe is overwritten
 * source:  CVE-2019-5736
 * expect:  EACCES EROFS ETXTBSY ENOENT
 * fires:   call
 * control: host
 *
 * A program that was executed from a descriptor of the host's finds it again there. On the bare host the copy in the
 * project can be opened for writing once its process is gone, by the descriptor that was taken before.
 */
#include "lib.h"

int run(void)
{
    int self = open("/proc/self/exe", O_PATH);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", self);
    attempt("write while it runs", open("/proc/self/exe", O_WRONLY));
    attempt("truncate by path of descriptor", truncate(path, 0));
    for (int pid = 1; pid < 64; pid++) {
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        int fd = open(path, O_WRONLY);
        if (fd >= 0 || errno == EACCES || errno == EROFS)
            attempt("write another's", fd);
    }
    return 0;
}
