/* title:   Limits of a process outside are read and lowered
 * source:  prlimit(2)
 * expect:  ESRCH EPERM
 * fires:   call
 * control: host
 */
#include "lib.h"
#include <sys/resource.h>

int run(void)
{
    static const int which[] = {RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_CPU, RLIMIT_MEMLOCK};
    for (unsigned i = 0; i < 4; i++) {
        struct rlimit was;
        char name[64];
        snprintf(name, sizeof name, "victim's limit %d", which[i]);
        if (attempt(name, prlimit(victim(), which[i], NULL, &was))) {
            snprintf(name, sizeof name, "set the victim's limit %d", which[i]);
            attempt(name, prlimit(victim(), which[i], &was, NULL));
        }
    }
    return 0;
}
