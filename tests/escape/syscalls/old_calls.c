/* title:   Calls that nobody uses any more, and that nobody looks at
 * source:  unimplemented(2), sysfs(2), ustat(2), lookup_dcookie(2), nfsservctl(2)
 * expect:  EPERM ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"

int run(void)
{
    struct stat st;
    attempt("sysfs: how many file systems", syscall(139, 3));
    attempt("sysfs: the name of the first", syscall(139, 2, 0, buf));
    stat(".", &st);
    attempt("ustat", syscall(136, st.st_dev, buf));
    attempt("lookup_dcookie", syscall(212, 1L, buf, 4096L));
    attempt("nfsservctl", syscall(180, 0, NULL, NULL));
    attempt("uselib", syscall(134, "/nonexistent"));
    attempt("_sysctl", syscall(156, NULL));
    attempt("set_thread_area", syscall(205, NULL));
    attempt("get_thread_area", syscall(211, NULL));
    static const int gone[] = {174, 177, 178, 181, 182, 183, 184, 185, 214, 215, 236};
    for (unsigned i = 0; i < sizeof gone / sizeof *gone; i++) {
        char name[64];
        snprintf(name, sizeof name, "number %d, gone", gone[i]);
        attempt(name, syscall(gone[i], 0, 0, 0, 0, 0));
    }
    return 0;
}
