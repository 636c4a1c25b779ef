/* title:   What the supervisor left in the program's own memory: stack above the arguments, fresh pages, pipes, descriptors
 * source:  execve(2), vfork(2) shares memory with its maker; CWE-226 (sensitive information not removed before reuse)
 * expect:  ENODATA EACCES EPERM ENOENT ESPIPE EBADF EISDIR EINVAL
 * fires:   read
 * control: host
 * harmless: yes
 *
 * On the bare host the environment is there, above the stack.
 */
#include "lib.h"

static char sought[] = "DBOBSZ";
static int search(const char *name, const char *what, size_t n)
{
    /* The word itself must stand nowhere in this program. */
    char word[8] = {0};
    for (int i = 0; i < 6; i++)
        word[i] = sought[i] - 1;
    word[6] = '-';
    int got = 0;
    for (const char *at = what; n && (at = memmem(at, what + n - at, word, 7)) && what + n - at > 20; at++) {
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", at[7]) || (at >= word && at < word + 8))
            continue;
        found(at, 40);
        got = 1;
        break;
    }
    errno = ENODATA;
    attempt(name, got ? 0 : -1);
    memset(word, 0, sizeof word);
    return got;
}

int run(void)
{
    char line[512], name[600];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char mode[8], where[256] = "no name";
        if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, mode, where) < 3 || mode[0] != 'r' || !strncmp(where, "[v", 2))
            continue;
        snprintf(name, sizeof name, "memory: %s", where[0] == '/' ? "file" : where);
        search(name, (char *)from, to - from);
    }
    size_t size = 8 << 20;
    char *fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    search("fresh pages", fresh, size);
    munmap(fresh, size);
    char *heap = malloc(1 << 20);
    search("heap", heap, 1 << 20);
    free(heap);
    for (int fd = 0; fd < 20; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        snprintf(name, sizeof name, "descriptor %d", fd);
        long n = pread(fd, buf, sizeof buf, 0);
        if (n < 0)
            attempt(name, -1);
        else
            search(name, buf, n);
    }
    int pipes[2];
    if (pipe(pipes) == 0) {
        fcntl(pipes[0], F_SETFL, O_NONBLOCK);
        long n = tee(0, pipes[1], 65536, SPLICE_F_NONBLOCK);
        if (n > 0 && (n = read(pipes[0], buf, sizeof buf)) > 0)
            search("what waits on descriptor 0", buf, n);
    }
    return 0;
}
