/* title:   A core dump that only root may read, and that root's directories take
 * source:  CVE-2006-2451: PR_SET_DUMPABLE 2 let anybody write into /etc/cron.d
 * expect:  EINVAL EPERM
 * fires:   call
 * control: void: the kernel refuses 2 since 2.6.17.4
 * harmless: yes
 */
#include "lib.h"

int run(void)
{
    attempt("2", prctl(PR_SET_DUMPABLE, 2, 0, 0, 0));
    attempt("2, high half set", prctl(PR_SET_DUMPABLE, 1L << 32 | 2, 0, 0, 0));
    attempt("3", prctl(PR_SET_DUMPABLE, 3, 0, 0, 0));
    attempt("-1", prctl(PR_SET_DUMPABLE, -1L, 0, 0, 0));
    return 0;
}
