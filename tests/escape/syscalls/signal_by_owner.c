/* title:   A descriptor's owner gets the signal: SIGIO to a process outside
 * source:  fcntl(2) F_SETOWN, F_SETOWN_EX, F_SETSIG
 * expect:  ESRCH EPERM
 * fires:   process
 * control: host
 *
 * The kernel sends the signal, when something is written: no call names the process then.
 */
#include "lib.h"

int run(void)
{
    int ends[2];
    struct f_owner_ex owner = {F_OWNER_PID, victim()}, thread = {F_OWNER_TID, victim()}, group = {F_OWNER_PGRP, victim()};
    if (pipe(ends) < 0)
        return 1;
    attempt("owner, thread", fcntl(ends[0], F_SETOWN_EX, &thread));
    attempt("owner, group", fcntl(ends[0], F_SETOWN, -victim()));
    attempt("owner, group, extended", fcntl(ends[0], F_SETOWN_EX, &group));
    attempt("owner, extended", fcntl(ends[0], F_SETOWN_EX, &owner));
    int owned = fcntl(ends[0], F_SETOWN, victim());
    attempt("owner", owned);
    if (owned == 0) {
        fcntl(ends[0], F_SETSIG, SIGSTOP);
        fcntl(ends[0], F_SETFL, O_ASYNC | O_NONBLOCK);
        attempt("something to read", write(ends[1], "x", 1));
    }
    return 0;
}
