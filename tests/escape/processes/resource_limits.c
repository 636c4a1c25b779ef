/* title:   Limits of its own, of init and of others are raised
 * source:  getrlimit(2), prlimit(2)
 * expect:  EPERM ESRCH EINVAL ENOSYS
 * fires:   call
 * control: root
 * control-user: host
 * flags:   --open-files 64
 *
 * An ordinary user may change the limits of the victim, which is his too, within the hard ones.
 */
#include "lib.h"
#include <sys/resource.h>

static const struct { const char *name; int which; } KINDS[] = {
    {"core", RLIMIT_CORE}, {"open files", RLIMIT_NOFILE}, {"file size", RLIMIT_FSIZE}, {"locked memory", RLIMIT_MEMLOCK},
    {"queues", RLIMIT_MSGQUEUE}, {"pending signals", RLIMIT_SIGPENDING}, {"realtime priority", RLIMIT_RTPRIO},
    {"niceness", RLIMIT_NICE},
};

int run(void)
{
    char name[128];
    for (unsigned k = 0; k < sizeof KINDS / sizeof *KINDS; k++) {
        struct rlimit old, more;
        if (getrlimit(KINDS[k].which, &old) < 0 || old.rlim_max == RLIM_INFINITY)
            continue;
        more = (struct rlimit){old.rlim_max + 1, old.rlim_max + 1};
        snprintf(name, sizeof name, "%s, one more", KINDS[k].name);
        attempt(name, setrlimit(KINDS[k].which, &more));
        more = (struct rlimit){old.rlim_cur, RLIM_INFINITY};
        snprintf(name, sizeof name, "%s, no hard limit", KINDS[k].name);
        attempt(name, prlimit(0, KINDS[k].which, &more, NULL));
        more = (struct rlimit){old.rlim_max + 1, old.rlim_max};
        snprintf(name, sizeof name, "%s, soft above hard", KINDS[k].name);
        attempt(name, setrlimit(KINDS[k].which, &more));
    }
    pid_t others[] = {inside() ? 1 : victim(), inside() && getppid() > 1 ? getppid() : victim(), victim()};
    for (int n = 0; n < 3; n++) {
        struct rlimit low = {1, RLIM_INFINITY}, old;
        snprintf(name, sizeof name, "core of process %d read", n);
        attempt(name, prlimit(others[n], RLIMIT_CORE, NULL, &old));
        snprintf(name, sizeof name, "core of process %d raised", n);
        low.rlim_max = old.rlim_max;
        attempt(name, prlimit(others[n], RLIMIT_CORE, &low, NULL));
        snprintf(name, sizeof name, "cpu time of process %d cut", n);
        struct rlimit cpu = {3600, 3600};
        attempt(name, prlimit(others[n], RLIMIT_CPU, &cpu, NULL));
    }
    return 0;
}
