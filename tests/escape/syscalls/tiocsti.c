/* title:   Input is pushed into a terminal, the request with its high half set
 * source:  CVE-2016-10124, CVE-2017-5226 (TIOCSTI); CVE-2019-7303: a filter compared 64 bits, the kernel takes 32
 * expect:  EPERM ENOTTY
 * fires:   call
 * control: host
 *
 * Into a terminal of one's own, which takes it if any does, and into what the program was given as descriptors 0 to 2.
 */
#include "tiocsti.h"
