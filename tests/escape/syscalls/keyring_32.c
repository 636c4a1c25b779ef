/* title:   Keyrings by the compat calls, int 0x80 288 and 286
 * source:  security/keys/compat.c: another entry, with a number that a filter of x86-64 takes for accept4
 * expect:  SIGSYS
 * fires:   read
 * control: host
 */
#include "i386.h"
#include <linux/keyctl.h>

static long read_key(long ring)
{
    long key = int80(I386_KEYCTL, KEYCTL_SEARCH, ring, low_string("user"), low_string(arg("key")), 0);
    long n = key < 0 ? -1 : int80(I386_KEYCTL, KEYCTL_READ, key, (long)low, 4096, 0);
    found(low, n);
    return n;
}
static long add_key(long ring)
{
    return int80(I386_ADD_KEY, low_string("user"), low_string("escape-32"), low_string("planted"), 7, ring);
}

int run(void)
{
    make_low();
    attempt_apart("search and read, user keyring", read_key, KEY_SPEC_USER_KEYRING);
    attempt_apart("search and read, session keyring", read_key, KEY_SPEC_SESSION_KEYRING);
    attempt_apart("add to process keyring", add_key, KEY_SPEC_PROCESS_KEYRING);
    return 0;
}
