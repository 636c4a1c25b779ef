/* Where a canary lies in another process's memory. */
#include "lib.h"

/* Calls `take` for the readable areas of PID (the writable ones alone, if so asked) until it says that it is done; whether the
 * list of areas could be had. */
static inline int each_area(int pid, int writable, int (*take)(int pid, unsigned long from, unsigned long length))
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "r");
    if (!maps)
        return 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 || rights[0] != 'r' || (writable && rights[1] != 'w') ||
            strstr(line, "[v"))
            continue;
        if (take(pid, from, to - from))
            break;
    }
    fclose(maps);
    return 1;
}
static inline char *find_canary(char *in, long n)
{
    return n > 0 ? memmem(in, (size_t)n, "CANARY-", 7) : NULL;
}
