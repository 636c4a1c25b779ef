/* Calls by the gates of i386. What they are given must lie below 4 GiB: in `low`. */
#include "lib.h"

static char *low;

static inline void make_low(void)
{
    low = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (low == MAP_FAILED) {
        perror("no memory below 4 GiB");
        exit(1);
    }
}
static inline long answer32(long answer)
{
    int value = (int)answer;
    if (value >= 0 || value < -4095)
        return (unsigned)value;
    errno = -value;
    return -1;
}
static inline long int80(long nr, long a, long b, long c, long d, long e)
{
    long answer;
    asm volatile("int $0x80"
                 : "=a"(answer)
                 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
                 : "memory", "cc", "r8", "r9", "r10", "r11");
    return answer32(answer);
}
/* A string below 4 GiB. */
static inline long low_string(const char *text)
{
    static size_t used = 4096;
    size_t n = strlen(text) + 1;
    if (used + n > 32768)
        used = 4096;
    char *at = memcpy(low + used, text, n);
    used += n;
    return (long)at;
}
enum { I386_EXIT = 1, I386_READ = 3, I386_WRITE = 4, I386_OPEN = 5, I386_GETPID = 20, I386_SOCKETCALL = 102, I386_UNSHARE = 310,
       I386_MKDIR = 39, I386_IOCTL = 54, I386_KEYCTL = 288, I386_ADD_KEY = 286, I386_PTRACE = 26 };
