/* title:   A filter of one's own that allows everything
 * source:  seccomp(2): all filters are asked, and the strictest answer counts
 * expect:  EPERM EACCES ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 *
 * There are kernels to which each filter is more work than the one before it: as many as go into three seconds.
 */
#include "lib.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <time.h>

static struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
static struct sock_fprog program = {.len = 1, .filter = all};

static void denied(const char *after)
{
    char name[96], params[256] = {0};
    snprintf(name, sizeof name, "keyctl, %s", after);
    attempt(name, syscall(SYS_keyctl, 0, -2, 1));
    snprintf(name, sizeof name, "socket, %s", after);
    attempt(name, syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
    snprintf(name, sizeof name, "io_uring_setup, %s", after);
    attempt(name, syscall(SYS_io_uring_setup, 1, params));
}

int run(void)
{
    static const struct {
        const char *name;
        unsigned flags;
    } tries[] = {{"by seccomp", 0}, {"for all threads", SECCOMP_FILTER_FLAG_TSYNC}, {"logged", SECCOMP_FILTER_FLAG_LOG},
                 {"speculation allowed", SECCOMP_FILTER_FLAG_SPEC_ALLOW}};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    denied("after one by prctl");
    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, tries[i].flags, &program);
        denied(tries[i].name);
    }
    time_t end = time(NULL) + 3;
    int more = 0;
    while (more < 200 && time(NULL) < end && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0)
        more++;
    printf("%d\n", more);
    denied("after many more");
    return 0;
}
