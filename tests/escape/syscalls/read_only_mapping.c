/* title:   A mapping of a file that may only be read is made writable
 * source:  mprotect(2), pkey_mprotect(2), remap_file_pages(2), proc(5) on map_files and mem; CVE-2016-5195
 * expect:  EACCES EPERM EIO EINVAL ENOENT ENOSYS EROFS ETXTBSY
 * fires:   change
 * control: root
 *
 * By the calls that change rights, by a forced write through /proc/self/mem, and by opening it anew below map_files, which needs
 * a capability of the machine's root. Inside it is the program's own executable, which a mount shows read-only.
 */
#include "lib.h"

int run(void)
{
    int fd = open(ground("target"), O_RDONLY), memory = open("/proc/self/mem", O_RDWR);
    if (fd < 0)
        fd = open("/proc/self/exe", O_RDONLY);
    char *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return 1;
    attempt("mprotect", mprotect(map, 4096, PROT_READ | PROT_WRITE));
    attempt("pkey_mprotect", syscall(SYS_pkey_mprotect, map, 4096L, PROT_READ | PROT_WRITE, -1));
    attempt("pkey_mprotect with a key", syscall(SYS_pkey_mprotect, map, 4096L, PROT_WRITE, syscall(SYS_pkey_alloc, 0, 0)));
    attempt("remap_file_pages", syscall(SYS_remap_file_pages, map, 4096L, PROT_WRITE, 0L, 0));
    attempt("a second mapping", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    attempt("write by /proc/self/mem", pwrite(memory, "changed\n", 8, (off_t)(uintptr_t)map));
    snprintf(buf, sizeof buf, "/proc/self/map_files/%lx-%lx", (unsigned long)map, (unsigned long)map + 4096);
    attempt_write("write by map_files", AT_FDCWD, buf);
    snprintf(buf, sizeof buf, "/proc/self/fd/%d", fd);
    if (inside())
        attempt_write("write by /proc/self/fd", AT_FDCWD, buf);
    return 0;
}
