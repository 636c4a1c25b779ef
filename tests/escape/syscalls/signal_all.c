/* title:   A signal to all processes that may be signalled
 * source:  kill(2) with -1
 * expect:  ESRCH
 * fires:   call
 * control: host
 *
 * Only signal 0, which asks: on the bare host any other would end the machine. Behind the wall there is nobody else.
 */
#include "lib.h"

int run(void)
{
    attempt("kill(-1, 0)", kill(-1, 0));
    return 0;
}
