/* title:   A key of the host's user is searched for, listed and read
 * source:  keyrings(7), CVE-2016-0728; docker's default filter denies keyctl because keyrings know no namespaces
 * expect:  EPERM ENOENT
 * fires:   read
 * control: host
 *
 * Keyrings belong to user ids and sessions, and are inherited: /proc/keys names what can be seen, ids are guessed from it.
 */
#include "lib.h"
#include <linux/keyctl.h>

static void read_key(const char *name, long key)
{
    long n = key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_READ, key, buf, sizeof buf, 0);
    attempt(name, n);
    found(buf, n < (long)sizeof buf ? n : (long)sizeof buf);
}

int run(void)
{
    static const struct {
        const char *name;
        long ring;
    } rings[] = {
        {"thread", KEY_SPEC_THREAD_KEYRING}, {"process", KEY_SPEC_PROCESS_KEYRING}, {"session", KEY_SPEC_SESSION_KEYRING},
        {"user", KEY_SPEC_USER_KEYRING}, {"user session", KEY_SPEC_USER_SESSION_KEYRING}, {"group", KEY_SPEC_GROUP_KEYRING},
    };
    const char *wanted = arg("key");
    char name[96];
    for (unsigned i = 0; i < sizeof rings / sizeof *rings; i++) {
        snprintf(name, sizeof name, "search %s", rings[i].name);
        read_key(name, syscall(SYS_keyctl, KEYCTL_SEARCH, rings[i].ring, "user", wanted, 0));
        snprintf(name, sizeof name, "list %s", rings[i].name);
        read_key(name, rings[i].ring);
    }
    read_key("request_key", syscall(SYS_request_key, "user", wanted, NULL, 0));
    read_key("request_key with a callout", syscall(SYS_request_key, "user", wanted, "x", KEY_SPEC_USER_KEYRING));
    attempt("persistent keyring", syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, -1, KEY_SPEC_PROCESS_KEYRING));
    attempt("persistent keyring of uid 0", syscall(SYS_keyctl, KEYCTL_GET_PERSISTENT, 0, KEY_SPEC_PROCESS_KEYRING));

    /* What is listed, and the key that bears the wanted name, by its id. */
    FILE *list = fopen("/proc/keys", "r");
    if (!list)
        attempt("/proc/keys", -1);
    while (list && fgets(buf, sizeof buf, list)) {
        if (!*wanted || !strstr(buf, wanted))
            continue;
        long id = strtol(buf, NULL, 16);
        attempt("listed in /proc/keys", 0);
        read_key("read by id", id);
    }
    if (list)
        fclose(list);
    return 0;
}
