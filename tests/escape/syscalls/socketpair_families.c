/* title:   Pairs of sockets of other families than AF_UNIX
 * source:  socketpair(2): a rule for socket that forgets socketpair
 * expect:  EACCES
 * fires:   call
 * control: void: of this kernel's families only AF_UNIX makes pairs
 */
#include "lib.h"

int run(void)
{
    int pair[2];
    char name[64];
    for (long family = 0; family < 64; family++) {
        if (family == AF_UNIX)
            continue;
        snprintf(name, sizeof name, "family %ld", family);
        attempt(name, syscall(SYS_socketpair, family, SOCK_STREAM, 0, pair));
    }
    attempt("AF_INET, high half set", syscall(SYS_socketpair, 1L << 32 | AF_INET, SOCK_STREAM, 0, pair));
    attempt("AF_TIPC, high half set", syscall(SYS_socketpair, 1L << 32 | 30, SOCK_SEQPACKET, 0, pair));
    return 0;
}
