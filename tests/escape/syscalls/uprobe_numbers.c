/* title:   The calls of the kernel's own probes, which pass every filter
 * source:  Linux 6.14, seccomp_uprobe_exception() in kernel/seccomp.c: uretprobe and uprobe are let through unseen
 * expect:  SIGILL SIGSEGV SIGTRAP ENXIO ENOSYS
 * fires:   call
 * control: void: the kernel answers them only from a page that it maps itself for a probed program
 * harmless: yes
 *
 * 335 and 336, with arguments that look like the frame that the probe's trampoline makes.
 */
#include "lib.h"

static long probe(long nr)
{
    long frame[8] = {SYS_unshare, CLONE_NEWUSER, SYS_keyctl};
    return syscall(nr, frame, frame, frame, frame, frame, frame);
}

int run(void)
{
    attempt_apart("uretprobe", probe, 335);
    attempt_apart("uprobe", probe, 336);
    return 0;
}
