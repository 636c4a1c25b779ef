/* title:   Numbers that no filter knows: newer than its list, or nonsense
 * source:  filters that deny by list let new calls through until somebody adds them: CVE-2022-0185, by fsopen
 * expect:  ENOSYS SIGSYS
 * fires:   call
 * control: void: the kernel has no call of these numbers either
 *
 * A newer kernel would have some of them; 512 to 547 were x32's, and up to Linux 5.3 open without its bit. ENOSYS, not EPERM:
 * libraries fall back on that alone.
 */
#include "lib.h"

static long bare(long nr)
{
    return syscall(nr, 0, 0, 0, 0, 0, 0);
}

int run(void)
{
    static const long numbers[] = {337, 350, 423, 500, 511, 512, 521, 547, 548, 600, 999, 1023, 1024, 4095, 4096, 65535,
                                   0x3fffffff, 0x7fffffff, 0x80000000, 0xffffffff, -1, -2, 0xc0000000};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char name[32];
        snprintf(name, sizeof name, "number %ld", numbers[i]);
        attempt_apart(name, bare, numbers[i]);
    }
    /* What may come next, all of it. */
    for (long nr = 472; nr < 512; nr++) {
        char name[32];
        snprintf(name, sizeof name, "number %ld", nr);
        attempt_apart(name, bare, nr);
    }
    return 0;
}
