/* What a program can reach from where it runs, as `cargo xtask risk` counts it. Prints `call N` for each number of a system call that
 * answers (told `no-system`, it does not walk the system directories), `device PATH`, `setuid PATH`, `system N` for the readable files of the system directories, and `file SIZE TIME PATH`
 * for other readable ones. Nothing is changed: a call gets -1 for every argument, in a process of its own. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS = 480, PATIENCE_MS = 250 };

/* No function is returned from between the call and the end: what vfork makes shares the stack. */
static inline long raw(long number, long a, long b, long c) {
    long answer = number;
    register long d __asm__("r10") = -1;
    register long e __asm__("r8") = -1;
    register long f __asm__("r9") = -1;
    __asm__ volatile("syscall" : "+a"(answer) : "D"(a), "S"(b), "d"(c), "r"(d), "r"(e), "r"(f) : "rcx", "r11", "memory");
    return answer;
}

static int answers(int number) {
    volatile long *said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (said == MAP_FAILED) exit(2);
    *said = 1;
    pid_t child = fork();
    if (child < 0) exit(2);
    if (child == 0) {
        /* Without a terminal there is none to hang up. */
        setsid();
        /* With every flag this one would make a queue. */
        long rest = number == SYS_msgget ? 0 : -1;
        long answer = raw(number, -1, rest, rest);
        *said = answer;
        _exit(0);
    }
    int status = 0;
    for (int waited = 0; waitpid(child, &status, WNOHANG) == 0; waited++) {
        if (waited == PATIENCE_MS) kill(child, SIGKILL);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    long answer = *said;
    munmap((void *)said, 4096);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) return 0;
    return answer != -ENOSYS && answer != -EPERM;
}

static long readable;

static void walk(const char *path, void (*each)(const char *, const struct stat *)) {
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        char *below = NULL;
        struct stat meta;
        if (asprintf(&below, "%s/%s", strcmp(path, "/") ? path : "", entry->d_name) < 0) exit(2);
        if (lstat(below, &meta) == 0) {
            if (S_ISDIR(meta.st_mode)) walk(below, each);
            else each(below, &meta);
        }
        free(below);
    }
    closedir(dir);
}

static void device(const char *path, const struct stat *meta) {
    if (S_ISCHR(meta->st_mode) || S_ISBLK(meta->st_mode)) printf("device %s\n", path);
}

static void program(const char *path, const struct stat *meta) {
    if (!S_ISREG(meta->st_mode)) return;
    if (meta->st_mode & (S_ISUID | S_ISGID)) printf("setuid %s\n", path);
    readable += access(path, R_OK) == 0;
}

static void other(const char *path, const struct stat *meta) {
    program(path, meta);
    if (S_ISREG(meta->st_mode) && access(path, R_OK) == 0)
        printf("file %lld %lld %s\n", (long long)meta->st_size, (long long)meta->st_mtime, path);
}

int main(int argc, char **argv) {
    int walks = argc < 2 || strcmp(argv[1], "no-system");
    signal(SIGPIPE, SIG_IGN);
    for (int number = 0; number < NUMBERS; number++) {
        fflush(stdout);
        if (answers(number)) printf("call %d\n", number);
    }
    walk("/dev", device);
    static const char *const system[] = {"/usr", "/bin", "/sbin", "/lib", "/lib64"};
    for (size_t i = 0; walks && i < sizeof system / sizeof *system; i++) {
        struct stat meta;
        if (lstat(system[i], &meta) == 0 && S_ISDIR(meta.st_mode)) walk(system[i], program);
    }
    if (walks) printf("system %ld\n", readable);
    static const char *const others[] = {"/boot", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/var"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) walk(others[i], other);
    puts("end");
    return 0;
}
