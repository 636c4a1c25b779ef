/* title:   Device nodes are made where the program may write
 * source:  mknod(2); devices.txt: /dev/mem is 1:1, the first virtio disk 254:0
 * expect:  EPERM EACCES EROFS ENOSYS SIGSYS ENOENT
 * fires:   change
 * control: root
 *
 * On the bare host only a node of /dev/null is made, in DIR/targets.
 */
#include "lib.h"
#include <sys/sysmacros.h>

int run(void)
{
    static const struct {
        mode_t kind;
        int major, minor;
    } devices[] = {{S_IFCHR, 1, 1},  {S_IFCHR, 1, 2},   {S_IFCHR, 1, 4},    {S_IFCHR, 1, 11},   {S_IFCHR, 1, 3},   {S_IFCHR, 5, 1},
                   {S_IFCHR, 5, 2},  {S_IFCHR, 10, 229}, {S_IFCHR, 10, 232}, {S_IFCHR, 10, 200}, {S_IFCHR, 202, 0}, {S_IFBLK, 254, 0},
                   {S_IFBLK, 253, 0}, {S_IFBLK, 8, 0},   {S_IFBLK, 7, 0},    {S_IFBLK, 259, 0}};
    static const char *const places[] = {".", "/tmp", "/dev", "/dev/shm", "/", "/proc", "/escape"};
    if (!inside()) {
        attempt("make a node", mknod(ground("targets/null"), S_IFCHR | 0666, makedev(1, 3)));
        return 0;
    }
    for (size_t at = 0; at < sizeof places / sizeof *places; at++)
        for (size_t n = 0; n < sizeof devices / sizeof *devices; n++) {
            char path[64];
            snprintf(path, sizeof path, "%s/node%zu", places[at], n);
            dev_t device = makedev(devices[n].major, devices[n].minor);
            if (attempt("make a node", mknod(path, devices[n].kind | 0666, device)))
                attempt("open it", open(path, O_RDWR | O_NONBLOCK));
            if (attempt("make it by mknodat", mknodat(AT_FDCWD, path, devices[n].kind | 0666, device)))
                attempt("open it", open(path, O_RDONLY | O_NONBLOCK));
        }
    return 0;
}
