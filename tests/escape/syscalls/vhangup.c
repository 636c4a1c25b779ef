/* title:   The terminal is hung up for all who use it
 * source:  vhangup(2)
 * expect:  EPERM
 * fires:   call
 * control: root
 *
 * From a session without a terminal, where it does nothing.
 */
#include "lib.h"

static long hang_up(long with)
{
    setsid();
    return syscall(SYS_vhangup, with);
}

int run(void)
{
    attempt_apart("vhangup", hang_up, 0);
    return 0;
}
