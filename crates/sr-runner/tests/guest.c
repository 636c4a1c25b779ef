/* The first process of a guest that is not the agent: gcc -static -DWHAT=… ; the agent's own program may come behind this one
 * in its file, with its length in eight bytes at the end. x86-64. */
#define SILENT 1  /* fills the console and never says a word to the host */
#define ENDS 2    /* as the kernel must not see its first process do */
#define GARBAGE 3 /* says what is no frame, without end */
#define FLOOD 4   /* greets the host, without end */
/* Becomes the agent, and has a child that waits for a program called sleep: */
#define PANICS 5  /* and then has the kernel panic */
#define STARVES 6 /* and then has the kernel act as it does without memory: end what holds most of it */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void modules(void)
{
    char line[8192], path[8300];
    FILE *list = fopen("/modules/list", "r");
    while (list && fgets(line, sizeof line, list)) {
        line[strcspn(line, ":\n")] = 0;
        snprintf(path, sizeof path, "/modules/%s", line);
        int file = open(path, O_RDONLY);
        if (file >= 0)
            syscall(SYS_finit_module, file, "", 0);
        close(file);
    }
}

/* The one port that leads to the host. */
static int port(void)
{
    for (;; usleep(1000)) {
        DIR *dev = opendir("/dev");
        for (struct dirent *entry; dev && (entry = readdir(dev));) {
            char path[300];
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            int found = strncmp(entry->d_name, "vport", 5) ? -1 : open(path, O_RDWR);
            if (found >= 0)
                return found;
        }
        if (dev)
            closedir(dev);
    }
}

static _Noreturn void say(const char *what, size_t length)
{
    int to = port();
    for (;;)
        if (write(to, what, length) < 0)
            usleep(1000);
}

/* The process of that name, if there is one. */
static int runs(const char *name)
{
    DIR *proc = opendir("/proc");
    int found = 0;
    for (struct dirent *entry; proc && (entry = readdir(proc));) {
        char path[300], comm[32] = "";
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] >= '0' && entry->d_name[0] <= '9' ? fopen(path, "r") : 0;
        if (file && fgets(comm, sizeof comm, file))
            if (!strncmp(comm, name, strlen(name)) && comm[strlen(name)] == '\n')
                found = atoi(entry->d_name);
        if (file)
            fclose(file);
    }
    closedir(proc);
    return found;
}

static void set(const char *file, const char *text)
{
    if (write(open(file, O_WRONLY), text, strlen(text)) < 0)
        perror(file);
}

static void become_the_agent(char **words)
{
    static char piece[1 << 16];
    unsigned long long length = 0;
    int from = open("/init", O_RDONLY), to = open("/agent", O_WRONLY | O_CREAT, 0755);
    off_t end = lseek(from, -8, SEEK_END);
    if (read(from, &length, sizeof length) < 0)
        return;
    lseek(from, end - (off_t)length, SEEK_SET);
    for (ssize_t n; length && (n = read(from, piece, length < sizeof piece ? length : sizeof piece)) > 0; length -= n)
        if (write(to, piece, n) < 0)
            return;
    close(to);
    execv("/agent", words);
}

int main(int argc, char **argv)
{
    (void)argc;
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, 0);
    mount("proc", "/proc", "proc", 0, 0);
    switch (WHAT) {
    case SILENT:
        for (int console = open("/dev/console", O_WRONLY);;)
            if (write(console, "nothing to say to the host\n", 27) < 0)
                usleep(1000);
    case ENDS:
        return 7;
    case GARBAGE:
        modules();
        say("\x7f" "ELF\2\1\1", 7);
    case FLOOD:
        modules();
        say("H\7\0\0\0\1\0" "6.1.0", 12);
    case PANICS:
    case STARVES:
        if (!fork()) {
            while (!runs("sleep"))
                usleep(20000);
            set("/proc/sysrq-trigger", WHAT == PANICS ? "c" : "f");
            return 0;
        }
        become_the_agent(argv);
    }
    return 1;
}
