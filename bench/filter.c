/* What a filter costs a system call. For each contender, which is a file with the filters that it loads, or `-` for none,
   a child that loads them; then, round by round, every child in turn measures every call. Prints a line for each
   measurement: contender, call, nanoseconds a call. All run on one processor, one at a time.

   filter ROUNDS CONTENDER... */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 4, BATCH = 2500, MOST = 16 };
static const char *const names[CALLS] = {"getppid", "read", "ioctl", "clone"};
static int zero;

static void once(int call) {
    static char byte;
    switch (call) {
    case 0: syscall(SYS_getppid); break;
    case 1: syscall(SYS_read, zero, &byte, 1); break;
    /* These fail in the kernel, after the filter, at once: of no file, and signal handlers shared without memory. */
    case 2: syscall(SYS_ioctl, -1, TCGETS, 0); break;
    case 3: syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0); break;
    }
}

static double measured(int call) {
    struct timespec from, to;
    for (int i = 0; i < 200; i++) once(call);
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < BATCH; i++) once(call);
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / BATCH;
}

static void fail(const char *what) {
    fprintf(stderr, "filter: %s: %s\n", what, strerror(errno));
    _exit(1);
}

/* The file holds, for each filter, its length in instructions as a little-endian 32-bit number, and the instructions. */
static void load(const char *path) {
    static struct sock_filter code[BPF_MAXINSNS];
    unsigned int length;
    int file = open(path, O_RDONLY);
    if (file < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail(path);
    while (read(file, &length, sizeof length) == sizeof length) {
        struct sock_fprog program = {.len = length, .filter = code};
        ssize_t bytes = length * sizeof *code;
        if (length > BPF_MAXINSNS || read(file, code, bytes) != bytes) fail(path);
        if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) fail(path);
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 2 ? atoi(argv[1]) : 0, contenders = argc - 2;
    int go[MOST][2], done[MOST][2];
    double (*times)[CALLS] = mmap(NULL, MOST * sizeof *times, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cpu_set_t here;
    zero = open("/dev/zero", O_RDONLY);
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    if (rounds < 1 || contenders > MOST || zero < 0 || times == MAP_FAILED || sched_setaffinity(0, sizeof here, &here)) {
        fprintf(stderr, "filter ROUNDS CONTENDER...\n");
        return 2;
    }
    for (int c = 0; c < contenders; c++) {
        if (pipe(go[c]) || pipe(done[c])) fail("pipe");
        pid_t child = fork();
        if (child < 0) fail("fork");
        if (child == 0) {
            char token;
            for (int other = 0; other <= c; other++) close(go[other][1]);
            if (strcmp(argv[c + 2], "-")) load(argv[c + 2]);
            while (read(go[c][0], &token, 1) == 1) {
                for (int call = 0; call < CALLS; call++) times[c][call] = measured(call);
                if (write(done[c][1], &token, 1) != 1) break;
            }
            _exit(0);
        }
        close(done[c][1]);
    }
    for (int round = 0; round < rounds; round++)
        for (int c = 0; c < contenders; c++) {
            char token = 0;
            if (write(go[c][1], &token, 1) != 1 || read(done[c][0], &token, 1) != 1) fail(argv[c + 2]);
            for (int call = 0; call < CALLS; call++) printf("%d %s %.2f\n", c, names[call], times[c][call]);
        }
    for (int c = 0; c < contenders; c++) close(go[c][1]);
    while (wait(NULL) > 0) {}
    return 0;
}
