/* title:   io_uring without a ring of one's own making
 * source:  io_uring_register(2) (IORING_REGISTER_USE_REGISTERED_RING, blind calls on descriptor -1), IORING_SETUP_SQPOLL
 * expect:  ENOSYS EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * A thread of the kernel's would carry out the requests of a polled ring: no call is made at all. Since Linux 6.12 messages
 * can be sent by io_uring_register with descriptor -1, without a ring.
 */
#include "ring.h"

static long setup(unsigned flags)
{
    struct io_uring_params p = {.flags = flags, .sq_thread_idle = 1};
    return syscall(SYS_io_uring_setup, 4, &p);
}

int run(void)
{
    attempt("setup", setup(0));
    attempt("setup, polled by the kernel", setup(IORING_SETUP_SQPOLL));
    attempt("setup, switched off", setup(IORING_SETUP_R_DISABLED));
    struct {
        struct io_uring_probe head;
        struct io_uring_probe_op ops[64];
    } probe;
    memset(&probe, 0, sizeof probe);
    attempt("register on no ring", syscall(SYS_io_uring_register, -1, IORING_REGISTER_PROBE, &probe, 64));
    attempt("register on standard input", syscall(SYS_io_uring_register, 0, IORING_REGISTER_PROBE, &probe, 64));
    attempt("enter on standard input", syscall(SYS_io_uring_enter, 0, 1, 0, 0, NULL, 0));
    attempt("register a ring by -1, flag set",
            syscall(SYS_io_uring_register, -1, 0x80000000u | IORING_REGISTER_PROBE, &probe, 64));
    return 0;
}
