/* title:   Capabilities and other user ids are taken
 * source:  capabilities(7), credentials(7); CVE-2014-8989 (setgroups in a user namespace), CVE-2018-18955 (id maps)
 * expect:  EPERM EINVAL EACCES
 * fires:   call
 * control: namespaces
 * harmless: yes
 *
 * setfsuid answers with the id as it was: whether it took is asked again.
 */
#include "lib.h"
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>

static long put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    long n = fd < 0 ? -1 : write(fd, text, strlen(text));
    int e = errno;
    if (fd >= 0)
        close(fd);
    errno = e;
    return n;
}
static long fsuid(long id)
{
    setfsuid((uid_t)id);
    if (setfsuid((uid_t)-1) == (int)id && getuid() != (uid_t)id)
        return 0;
    errno = EPERM;
    return -1;
}

int run(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {0x1ff, 0x1ff, 0x1ff}};
    struct __user_cap_data_struct admin[2] = {{1 << CAP_SYS_ADMIN, 1 << CAP_SYS_ADMIN, 0}};
    gid_t none[1] = {0};
    attempt("one capability", syscall(SYS_capset, &head, admin));
    attempt("all capabilities", syscall(SYS_capset, &head, all));
    attempt("map of user ids", put("/proc/self/uid_map", "0 0 1\n"));
    attempt("map of group ids", put("/proc/self/gid_map", "0 0 1\n"));
    attempt("setgroups is allowed", put("/proc/self/setgroups", "allow"));
    attempt("no groups", setgroups(0, none));
    attempt("root's group", setgroups(1, none));
    attempt("file system id of root", fsuid(0));
    attempt("group id", setresgid(0, 0, 0));
    attempt("effective user id", setresuid((uid_t)-1, 0, (uid_t)-1));
    attempt("real and effective user id", setreuid(0, 0));
    attempt("user id", setuid(0));
    attempt("an id that is not mapped", setresuid(65533, 65533, 65533));
    return 0;
}
