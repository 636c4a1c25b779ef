/* title:   The kernel's log is read
 * source:  syslog(2); kernel addresses in it have helped many an exploit
 * expect:  EPERM ENOENT EACCES
 * fires:   call
 * control: root
 *
 * kernel.dmesg_restrict keeps an ordinary user out.
 */
#include "lib.h"

int run(void)
{
    attempt("read all", syscall(SYS_syslog, 3, buf, 4096));
    attempt("size", syscall(SYS_syslog, 10, NULL, 0));
    attempt("unread", syscall(SYS_syslog, 9, NULL, 0));
    attempt("/dev/kmsg", open("/dev/kmsg", O_RDONLY | O_NONBLOCK));
    attempt("/proc/kmsg", open("/proc/kmsg", O_RDONLY | O_NONBLOCK));
    return 0;
}
