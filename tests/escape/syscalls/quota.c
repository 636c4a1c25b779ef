/* title:   Quotas of the host's file systems are asked for and synced
 * source:  quotactl(2), quotactl_fd(2) (Linux 5.14)
 * expect:  EPERM
 * fires:   call
 * control: host
 */
#include "lib.h"
#include <sys/quota.h>

int run(void)
{
    struct dqblk quota;
    int here = open(".", O_RDONLY | O_DIRECTORY);
    attempt("sync all", syscall(SYS_quotactl, QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL));
    attempt("sync all, high half set", syscall(SYS_quotactl, 1L << 32 | QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL));
    attempt("sync this", syscall(443 /* quotactl_fd */, here, QCMD(Q_SYNC, USRQUOTA), 0, NULL));
    attempt("one's own", syscall(SYS_quotactl, QCMD(Q_GETQUOTA, USRQUOTA), "/dev/vda", getuid(), &quota));
    attempt("one's own, by descriptor", syscall(443, here, QCMD(Q_GETQUOTA, USRQUOTA), getuid(), &quota));
    return 0;
}
