/* title:   The host's name is changed
 * source:  sethostname(2), setdomainname(2), uts_namespaces(7)
 * expect:  EPERM EROFS EACCES ENOENT
 * fires:   call
 * control: namespaces
 */
#include "lib.h"

int run(void)
{
    attempt("sethostname", sethostname("escape", 6));
    attempt("setdomainname", setdomainname("escape", 6));
    attempt_write("/proc/sys/kernel/hostname", AT_FDCWD, "/proc/sys/kernel/hostname");
    attempt_write("/proc/sys/kernel/domainname", AT_FDCWD, "/proc/sys/kernel/domainname");
    return 0;
}
