/* title:   A file that the caller's shell left open is read by its descriptor
 * source:  CVE-2024-21626 (runc), CVE-2016-9962; fcntl(2) FD_CLOEXEC
 * expect:  EBADF ENOENT
 * fires:   read
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <sys/sendfile.h>

enum { LEAKED = 7 };

static void found_in(const char *name, int fd)
{
    long n = fd < 0 ? -1 : pread(fd, buf, sizeof buf, 0);
    attempt(name, n);
    found(buf, n);
}

int run(void)
{
    found_in("read", LEAKED);
    found_in("of a copy", dup(LEAKED));
    found_in("opened anew by /proc/self/fd", open("/proc/self/fd/7", O_RDONLY));
    found_in("opened anew by /dev/fd", open("/dev/fd/7", O_RDONLY));
    found_in("opened anew by the thread's own", open("/proc/thread-self/fd/7", O_RDONLY));
    found_in("opened anew for writing", open("/proc/self/fd/7", O_RDWR));

    char *mapped = mmap(NULL, 64, PROT_READ, MAP_PRIVATE, LEAKED, 0);
    if (attempt("mapped", mapped == MAP_FAILED ? -1 : 0))
        found(mapped, 32);
    int way[2];
    if (pipe(way))
        return 1;
    if (attempt("sent into a pipe", sendfile(way[1], LEAKED, &(off_t){0}, 64)))
        found(buf, read(way[0], buf, sizeof buf));
    close(way[0]);
    close(way[1]);
    /* Whatever else is open. */
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            found_in("another descriptor", fd);
    attempt("any descriptor from 3 on", fcntl(LEAKED, F_GETFD));
    return 0;
}
