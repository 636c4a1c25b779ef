/* title:   Mounts of other namespaces are listed and described
 * source:  listmount(2), statmount(2) (Linux 6.8); ioctl_nsfs(2), NS_MNT_GET_NEXT (6.12)
 * expect:  ENOSYS EPERM ENOENT EACCES EINVAL ENOTTY SIGSYS EBADF
 * fires:   call
 * control: host
 * harmless: yes
 *
 * They name the host's directories, and need no path.
 */
#include "lib.h"

struct request {
    uint32_t size, spare;
    uint64_t mount, param, space;
};

int run(void)
{
    static uint64_t ids[512];
    for (uint64_t space = 0; space < 4; space++) {
        struct request all = {.size = 32, .mount = UINT64_MAX, .space = space};
        long n = syscall(458, &all, ids, 512, 0);
        attempt("list mounts", n);
        for (long at = 0; at < n && at < 512; at++) {
            struct request one = {.size = 32, .mount = ids[at], .param = 0x3f, .space = space};
            attempt("describe one", syscall(457, &one, buf, sizeof buf, 0));
        }
    }
    for (uint64_t id = 1; inside() && id < 64; id++) {
        struct request one = {.size = 24, .mount = id, .param = 0x3f};
        attempt("describe one by its old number", syscall(457, &one, buf, sizeof buf, 0));
        one.mount = (1ULL << 31) + id;
        attempt("describe one by its number", syscall(457, &one, buf, sizeof buf, 0));
    }
    int space = open("/proc/self/ns/mnt", O_RDONLY);
    char info[16] = {16};
    attempt("the next namespace", ioctl(space, _IOR(0xb7, 11, char[16]), info));
    attempt("the previous namespace", ioctl(space, _IOR(0xb7, 12, char[16]), info));
    /* The sandbox's own user namespace may be had; the one above it not. */
    int owner = ioctl(space, _IO(0xb7, 1));
    attempt("the namespace above", owner < 0 ? -1 : ioctl(owner, _IO(0xb7, 2)));
    return 0;
}
