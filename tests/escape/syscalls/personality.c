/* title:   Personalities that take protections away
 * source:  personality(2); CVE-2009-1895 (MMAP_PAGE_ZERO, ADDR_COMPAT_LAYOUT kept over setuid), docker's default filter
 * expect:  EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * All memory executable, page zero mapped, addresses laid out as before; the personalities of other systems, each an old loader
 * and signal table of the kernel's. With the high half set too.
 */
#include "lib.h"

static long take(long persona)
{
    return syscall(SYS_personality, persona);
}

int run(void)
{
    static const struct {
        const char *name;
        long persona;
    } tries[] = {
        {"READ_IMPLIES_EXEC", 0x0400000}, {"ADDR_COMPAT_LAYOUT", 0x0200000}, {"MMAP_PAGE_ZERO", 0x0100000},
        {"ADDR_LIMIT_32BIT", 0x0800000}, {"SHORT_INODE", 0x1000000},
        {"STICKY_TIMEOUTS", 0x4000000}, {"ADDR_LIMIT_3GB", 0x8000000},
        {"PER_SVR4", 0x0001 | 0x4100000}, {"PER_BSD", 0x0006}, {"PER_LINUX32_3GB", 0x8000008},
        {"PER_SOLARIS", 0x000d | 0x4000000},
        {"READ_IMPLIES_EXEC with PER_LINUX32", 0x0400008}, {"READ_IMPLIES_EXEC, bit 32", 1L << 32 | 0x0400000},
        {"READ_IMPLIES_EXEC, bit 63", 1L << 63 | 0x0400000}, {"all bits but the query", 0x7fffffff},
    };
    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++)
        attempt_apart(tries[i].name, take, tries[i].persona);
    return 0;
}
