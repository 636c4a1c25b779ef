/* Makes the system calls of its standard input, each in a child of its own, and says which end otherwise than they should.
   A line: the entry (n: this machine's own, x: x32, i: int 0x80), the number, the errno that is wanted (0: none, -1: killed
   by SIGSYS), six arguments. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long call(char entry, long nr, const long *a) {
#ifdef __x86_64__
    if (entry == 'i') {
        long answer;
        __asm__ volatile("int $0x80"
                         : "=a"(answer)
                         : "a"(nr), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                         : "memory", "r8", "r9", "r10", "r11");
        return answer;
    }
    if (entry == 'x') nr |= 0x40000000;
#endif
    return syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]) == -1 ? -errno : 0;
}

int main(void) {
    char entry;
    long nr, a[6];
    int wanted, tried = 0;
    while (scanf(" %c %ld %d %lx %lx %lx %lx %lx %lx", &entry, &nr, &wanted, a, a + 1, a + 2, a + 3, a + 4, a + 5) == 9) {
        int status, seen;
        pid_t child = fork();
        if (child == 0) {
            long answer = call(entry, nr, a);
            _exit(answer < 0 ? (int)-answer : 0);
        }
        if (child < 0 || waitpid(child, &status, 0) != child) return 1;
        seen = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status) == SIGSYS ? -1 : -2;
        if (seen != wanted)
            printf("BAD %c %ld(%lx, %lx, %lx): wanted %d, saw %d\n", entry, nr, a[0], a[1], a[2], wanted, seen);
        tried++;
    }
    printf("tried %d\n", tried);
    return 0;
}
