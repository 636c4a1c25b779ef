/* title:   The machine is restarted, or what Ctrl-Alt-Del does is changed
 * source:  reboot(2), pid_namespaces(7)
 * expect:  EPERM
 * fires:   host
 * control: rig
 * control-user: void: the kernel wants CAP_SYS_BOOT
 *
 * Only Ctrl-Alt-Del is switched, which shows as much: kernel.ctrl-alt-del is other then. The others need the same capability,
 * and are tried only with a magic number that is wrong.
 */
#include "lib.h"

int run(void)
{
    static const long second[] = {0x28121969, 0x05121996, 0x16041998, 0x20112000};
    for (unsigned i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "Ctrl-Alt-Del off, magic %#lx", second[i]);
        attempt(name, syscall(SYS_reboot, 0xfee1deadL, second[i], 0L /* CAD_OFF */, NULL));
    }
    attempt("restart, wrong magic", syscall(SYS_reboot, 0xfee1deadL, 1L, 0x01234567L, NULL));
    attempt("kexec, wrong magic", syscall(SYS_reboot, 0xfee1deadL, 1L, 0x45584543L, NULL));
    return 0;
}
