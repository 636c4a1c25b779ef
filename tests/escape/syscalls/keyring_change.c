/* title:   Keys are planted in, and taken from, keyrings of the host's user
 * source:  keyctl(2), add_key(2); CVE-2016-0728, CVE-2017-7472
 * expect:  EPERM
 * fires:   host
 * control: host
 */
#include "lib.h"
#include <linux/keyctl.h>

int run(void)
{
    const char *wanted = arg("key");
    attempt("join a session keyring", syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "escape-session"));
    attempt("add to user keyring", syscall(SYS_add_key, "user", "escape-planted", "planted", 7L, KEY_SPEC_USER_KEYRING));
    attempt("add to session keyring", syscall(SYS_add_key, "user", "escape-planted", "planted", 7L, KEY_SPEC_SESSION_KEYRING));
    attempt("add to user session keyring",
            syscall(SYS_add_key, "user", "escape-planted", "planted", 7L, KEY_SPEC_USER_SESSION_KEYRING));
    attempt("replace the key", syscall(SYS_add_key, "user", wanted, "changed", 7L, KEY_SPEC_USER_KEYRING));
    long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", wanted, 0);
    attempt("find the key", key);
    attempt("update", key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_UPDATE, key, "changed", 7L));
    attempt("link into the process keyring", key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_LINK, key, KEY_SPEC_PROCESS_KEYRING));
    attempt("permissions", key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_SETPERM, key, 0x3f3f3f3fL));
    attempt("invalidate", key < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_INVALIDATE, key));
    /* What was planted does not stay; that the key itself is gone does. */
    static const long rings[] = {KEY_SPEC_USER_KEYRING, KEY_SPEC_USER_SESSION_KEYRING};
    for (unsigned i = 0; i < 2; i++) {
        long planted = syscall(SYS_keyctl, KEYCTL_SEARCH, rings[i], "user", "escape-planted", 0);
        attempt("unlink what was planted", planted < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_UNLINK, planted, rings[i]));
    }
    attempt("session keyring to parent", syscall(SYS_keyctl, KEYCTL_SESSION_TO_PARENT));
    return 0;
}
