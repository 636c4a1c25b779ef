/* title:   Files are opened and read by io_uring
 * source:  CVE-2023-2598, CVE-2022-29582; io_uring_setup(2): what a ring does passes no filter of system calls
 * expect:  ENOSYS EPERM
 * fires:   read
 * control: host
 * harmless: yes
 */
#include "ring.h"

int run(void)
{
    struct ring ring;
    if (!attempt("ring", ring_make(&ring)))
        return 0;
    struct io_uring_sqe request = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)ground("secret"),
                                   .open_flags = O_RDONLY};
    long fd = ring_do(&ring, request);
    attempt("open", fd);
    if (fd < 0)
        return 0;
    struct io_uring_sqe more = {.opcode = IORING_OP_READ, .fd = (int)fd, .addr = (uintptr_t)buf, .len = sizeof buf};
    long n = ring_do(&ring, more);
    attempt("read", n);
    found(buf, n);
    return 0;
}
