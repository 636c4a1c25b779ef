/* title:   What prctl gives only to those with capabilities
 * source:  prctl(2): PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_SET_MM
 * expect:  EPERM EINVAL EACCES ENODEV ENOMEM EBADF
 * fires:   call
 * control: namespaces
 * harmless: yes
 */
#include "lib.h"
#include <linux/capability.h>
#include <linux/securebits.h>

int run(void)
{
    attempt("drop from the bounding set", prctl(PR_CAPBSET_DROP, CAP_SYS_RAWIO, 0, 0, 0));
    attempt("securebits", prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP, 0, 0, 0));
    attempt("ambient capability", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
    attempt("where the heap starts", prctl(PR_SET_MM, PR_SET_MM_START_BRK, (unsigned long)buf, 0, 0));
    attempt("where arguments are", prctl(PR_SET_MM, PR_SET_MM_ARG_START, (unsigned long)buf, 0, 0));
    int other = open("/proc/self/exe", O_RDONLY);
    attempt("another executable", prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, other, 0, 0));
    attempt("a flusher of file systems", prctl(57 /* PR_SET_IO_FLUSHER */, 1, 0, 0, 0));
    attempt("machine checks of all", prctl(PR_MCE_KILL, 2, 0, 0, 0));
    return 0;
}
