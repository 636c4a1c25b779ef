/* title:   A filter is switched off again
 * source:  prctl(2) PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS; seccomp(2)
 * expect:  EINVAL EPERM EACCES EFAULT ENOSYS
 * fires:   call
 * control: void: the kernel takes no filter and no no_new_privs back; on the bare host it is tried on a filter of one's own
 * harmless: yes
 */
#include "lib.h"
#include <linux/filter.h>
#include <linux/seccomp.h>

int run(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_keyctl, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = code}, empty = {.len = 0, .filter = code};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    attempt("PR_SET_SECCOMP, disabled", prctl(PR_SET_SECCOMP, SECCOMP_MODE_DISABLED, 0, 0, 0));
    attempt("PR_SET_SECCOMP, an older mode", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0));
    attempt("PR_SET_SECCOMP, an empty filter", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &empty, 0, 0));
    attempt("PR_SET_SECCOMP, no filter", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, 0, 0, 0));
    attempt("seccomp, an older mode", syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL));
    attempt("seccomp, no such operation", syscall(SYS_seccomp, 99, 0, &program));
    attempt("seccomp, no such flag", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1 << 30, &program));
    attempt("PR_SET_NO_NEW_PRIVS, 0", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    attempt("PR_SET_NO_NEW_PRIVS, a high bit", prctl(PR_SET_NO_NEW_PRIVS, 1L << 32, 0, 0, 0));
    attempt("keyctl after all that", syscall(SYS_keyctl, 0, -2, 1));
    return 0;
}
