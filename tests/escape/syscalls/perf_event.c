/* title:   Performance events of oneself, of others and of whole processors
 * source:  CVE-2013-2094 (perf_swevent), CVE-2023-6931; perf_event_open(2)
 * expect:  EPERM ESRCH
 * fires:   call
 * control: host
 */
#include "lib.h"
#include <linux/perf_event.h>

static void open_event(const char *name, unsigned type, unsigned long config, int user_only, long pid, int cpu)
{
    struct perf_event_attr what = {.type = type, .size = sizeof what, .config = config, .exclude_kernel = user_only,
                                   .exclude_hv = user_only};
    attempt(name, syscall(SYS_perf_event_open, &what, pid, cpu, -1, 0));
}

int run(void)
{
    open_event("own time", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, 1, 0, -1);
    open_event("own page faults, kernel too", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, 0, 0, -1);
    open_event("victim's time", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, 1, victim(), -1);
    open_event("processor 0, all processes", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, 0, -1, 0);
    open_event("a negative event (CVE-2013-2094)", PERF_TYPE_SOFTWARE, 0xffffffffUL, 1, 0, -1);
    open_event("a tracepoint", PERF_TYPE_TRACEPOINT, 1, 1, 0, -1);
    open_event("a breakpoint", PERF_TYPE_BREAKPOINT, 0, 1, 0, -1);
    if (inside())
        open_event("init's time", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, 1, 1, -1);
    return 0;
}
