/* title:   Input is pushed into the terminal that the program was given
 * source:  CVE-2016-10124, CVE-2017-5226 (TIOCSTI); CVE-2019-7303: a filter compared 64 bits, the kernel takes 32
 * expect:  EPERM ENOTTY
 * fires:   call
 * control: host
 * flags:   --tty
 *
 * With a pty between it is not the caller's; what is pushed into it is refused all the same.
 */
#include "tiocsti.h"
