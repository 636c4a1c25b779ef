/* title:   A Landlock domain that allows everything, over the one that holds
 * source:  landlock(7): domains only add up
 * expect:  ENOENT EACCES EROFS EPERM
 * fires:   change
 * control: host
 *
 * Rulesets of every kind that allow all below the root; then what lies outside is written.
 */
#include "lib.h"
#include <linux/landlock.h>

static void domain(unsigned long handled, unsigned flags)
{
    struct landlock_ruleset_attr ruleset = {.handled_access_fs = handled};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0);
    struct landlock_path_beneath_attr rule = {.allowed_access = handled, .parent_fd = open("/", O_PATH | O_CLOEXEC)};
    syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    syscall(SYS_landlock_restrict_self, fd, flags);
    close(rule.parent_fd);
    close(fd);
}
static void beyond(const char *after)
{
    char name[96];
    snprintf(name, sizeof name, "write the target, %s", after);
    attempt_write(name, AT_FDCWD, ground("target"));
    snprintf(name, sizeof name, "make a file beside it, %s", after);
    attempt(name, open(ground("targets/landlock"), O_WRONLY | O_CREAT, 0600));
    if (!inside())
        return;
    static const char *const paths[] = {"/etc/escape", "/usr/escape", "/escape-file", "/dev/escape", "/proc/1/oom_score_adj"};
    for (unsigned i = 0; i < sizeof paths / sizeof *paths; i++) {
        snprintf(name, sizeof name, "%s, %s", paths[i], after);
        attempt(name, open(paths[i], O_WRONLY | O_CREAT, 0600));
    }
}

int run(void)
{
    domain(0x1fff, 0);
    beyond("after a domain that allows all");
    domain(LANDLOCK_ACCESS_FS_EXECUTE, 0);
    beyond("after one that handles execution alone");
    domain(0xffff, 1 << 3 /* LANDLOCK_RESTRICT_SELF_TSYNC */);
    beyond("after one for all threads");
    for (int i = 0; i < 20; i++)
        domain(0x1fff, 0);
    beyond("after more domains than there may be");
    return 0;
}
