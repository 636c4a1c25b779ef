/* The planter, the victim and the holder: what `cargo xtask escape` needs beside it that takes raw calls.
 *
 *   ground plant UID DIR     plants what is no file, as user UID (-1: as it is), and says on demand what became of it
 *   ground sweep UID         takes away what a planter that was killed left
 *   ground victim WORD       a process that a case could harm; started by the planter
 *   ground hold UID SECONDS STDIN GUARD DIR COMMAND…
 *                            runs COMMAND as user UID in DIR/project to its end, with the leaked descriptors and STDIN as 0;
 *                            says how it ended and which of its processes stayed; kills them. The host's files are read-only to
 *                            it, all but what is below GUARD (-: they are as they are)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    fprintf(stderr, "ground: %s: %s\n", what, strerror(errno));
    exit(125);
}
#define MUST(call) ({ __auto_type answer_ = (call); if (answer_ == -1) die(#call); answer_; })

static void become(long uid)
{
    if (uid < 0)
        return;
    MUST(setgroups(0, NULL));
    MUST(setresgid(uid, uid, uid));
    MUST(setresuid(uid, uid, uid));
}

static void say(const char *form, ...)
{
    va_list list;
    va_start(list, form);
    vprintf(form, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
}

/* ---- the planter ---- */

/* What the runner gives: lines `NAME VALUE`. */
static char names[32][32], values[32][128];
static int given;

static char *value(const char *name)
{
    for (int i = 0; i < given; i++)
        if (!strcmp(names[i], name))
            return values[i];
    errno = ENOKEY;
    die(name);
    return NULL;
}

static int listening(int family, int type, const void *address, socklen_t length)
{
    int fd = MUST(socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    MUST(bind(fd, address, length));
    if (type == SOCK_STREAM)
        MUST(listen(fd, 64));
    return fd;
}

static int local(const char *name, int hidden)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + hidden, sizeof address.sun_path - hidden, "%s", name);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + hidden + strlen(name) + !hidden;
    return listening(AF_UNIX, SOCK_STREAM, &address, length);
}

static int loopback(int type, int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = listening(AF_INET, type, &address, length);
    MUST(getsockname(fd, (struct sockaddr *)&address, &length));
    *port = ntohs(address.sin_port);
    return fd;
}

/* A process with a word in its memory, its arguments, its environment and its descriptor 3. */
static int victim(char *word)
{
    (void)word;
    static char kept[4096];
    if (!fgets(kept, sizeof kept, stdin))
        return 1;
    kept[strcspn(kept, "\n")] = 0;
    say("memory %lu", (unsigned long)kept);
    close(0);
    close(1);
    for (;;)
        pause();
}

static pid_t start_victim(const char *secret, unsigned long *address)
{
    int in[2], out[2];
    MUST(pipe2(in, O_CLOEXEC));
    MUST(pipe2(out, O_CLOEXEC));
    pid_t pid = MUST(fork());
    if (!pid) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setsid();
        dup2(in[0], 0);
        dup2(out[1], 1);
        int fd = MUST(open(secret, O_RDONLY | O_CLOEXEC));
        dup2(fd, 3);
        fcntl(3, F_SETFD, 0);
        char environment[160];
        snprintf(environment, sizeof environment, "ESCAPE_VICTIM=%s", value("environment"));
        execve("/proc/self/exe", (char *[]){"ground", "victim", value("arguments"), NULL}, (char *[]){environment, NULL});
        _exit(125);
    }
    dprintf(in[1], "%s\n", value("memory"));
    FILE *answer = fdopen(out[0], "r");
    if (fscanf(answer, "memory %lu", address) != 1)
        die("the victim does not answer");
    fclose(answer);
    close(in[0]), close(in[1]), close(out[1]);
    return pid;
}

static int same_file(const char *path, const char *text)
{
    char is[256] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    long n = fd < 0 ? -1 : read(fd, is, sizeof is - 1);
    struct stat st = {0};
    int mode = fd >= 0 && !fstat(fd, &st) && (st.st_mode & 07777) == 0666 && st.st_nlink == 1;
    close(fd);
    return n == (long)strlen(text) && !strcmp(is, text) && mode;
}

static void be_given(void)
{
    char line[256];
    while (fgets(line, sizeof line, stdin) && strcmp(line, "plant\n")) {
        if (given == 32 || sscanf(line, "%31s %127s", names[given], values[given]) != 2)
            die("not NAME VALUE");
        given++;
    }
}

/* All of it is known by name: what is there no more was taken away already. */
static int sweep(void)
{
    char path[200];
    snprintf(path, sizeof path, "/dev/shm/%s", value("shm-name"));
    unlink(path);
    shmctl(shmget(atol(value("sysv-key")), 0, 0), IPC_RMID, NULL);
    msgctl(msgget(atol(value("msg-key")), 0), IPC_RMID, NULL);
    snprintf(path, sizeof path, "/%s", value("mq-name"));
    mq_unlink(path);
    long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", value("key-name"), 0);
    if (key >= 0)
        syscall(SYS_keyctl, KEYCTL_UNLINK, key, KEY_SPEC_USER_KEYRING);
    return 0;
}

static int plant(long uid, const char *dir)
{
    char line[256];
    be_given();
    become(uid);
    umask(0);
    MUST(chdir(dir));

    int listen_sock = local("listen.sock", 0), abstract = local(value("abstract-name"), 1);
    int tcp_port, udp_port;
    int tcp = loopback(SOCK_STREAM, &tcp_port), udp = loopback(SOCK_DGRAM, &udp_port);

    char shm[200];
    snprintf(shm, sizeof shm, "/dev/shm/%s", value("shm-name"));
    int fd = MUST(open(shm, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0666));
    MUST(write(fd, value("shm"), strlen(value("shm"))));
    close(fd);

    key_t sysv_key = strtol(value("sysv-key"), NULL, 10), msg_key = strtol(value("msg-key"), NULL, 10);
    int sysv = MUST(shmget(sysv_key, 4096, IPC_CREAT | IPC_EXCL | 0666));
    char *segment = shmat(sysv, NULL, 0);
    if (segment == (char *)-1)
        die("shmat");
    strcpy(segment, value("sysv"));
    int msg = MUST(msgget(msg_key, IPC_CREAT | IPC_EXCL | 0666));
    struct { long type; char text[128]; } message = {.type = 1};
    strcpy(message.text, value("msg"));
    MUST(msgsnd(msg, &message, strlen(message.text), 0));

    char mq_name[160];
    snprintf(mq_name, sizeof mq_name, "/%s", value("mq-name"));
    struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 128};
    mqd_t mq = MUST(mq_open(mq_name, O_CREAT | O_EXCL | O_RDWR, 0666, &attributes));
    MUST(mq_send(mq, value("mq"), strlen(value("mq")), 1));

    long key = MUST(syscall(SYS_add_key, "user", value("key-name"), value("key"), strlen(value("key")), KEY_SPEC_USER_KEYRING));
    MUST(syscall(SYS_keyctl, KEYCTL_SETPERM, key, 0x3f3f0000));

    unsigned long address = 0;
    pid_t pid = start_victim("secret", &address);
    say("pid %d\nmemory %lu\ntcp %d\nudp %d\nready", pid, address, tcp_port, udp_port);

    while (fgets(line, sizeof line, stdin)) {
        struct { const char *name; int fd; } listeners[] = {
            {"connect DIR/listen.sock", listen_sock}, {"connect the abstract socket", abstract}, {"connect TCP on loopback", tcp}};
        for (int i = 0; i < 3; i++)
            if ((fd = accept4(listeners[i].fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                say(listeners[i].name);
                close(fd);
            }
        if (recv(udp, line, sizeof line, 0) >= 0)
            say("connect UDP on loopback");
        if (!same_file(shm, value("shm")))
            say("ipc the file in /dev/shm");
        struct shmid_ds segment_is;
        if (shmctl(sysv, IPC_STAT, &segment_is) || (segment_is.shm_perm.mode & ~07000) != 0666 || strcmp(segment, value("sysv")))
            say("ipc the shared memory segment");
        struct msqid_ds queue_is;
        if (msgctl(msg, IPC_STAT, &queue_is) || queue_is.msg_qnum != 1 || (queue_is.msg_perm.mode & 0777) != 0666 ||
            queue_is.msg_cbytes != strlen(value("msg")))
            say("ipc the message queue");
        struct mq_attr mq_is;
        mqd_t again = mq_open(mq_name, O_RDONLY);
        if (again < 0 || mq_getattr(mq, &mq_is) || mq_is.mq_curmsgs != 1)
            say("ipc the POSIX queue");
        if (again >= 0)
            mq_close(again);
        char payload[256] = "";
        long n = syscall(SYS_keyctl, KEYCTL_READ, key, payload, sizeof payload);
        if (n != (long)strlen(value("key")) || memcmp(payload, value("key"), n))
            say("host the user key");
        say("end");
    }
    /* The runner is done, or gone. */
    sweep();
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}

/* ---- the holder ---- */

struct process { pid_t pid, parent; char state, name[64]; };

/* The living processes below this one. */
static int below(struct process *found, int most)
{
    static struct process all[65536];
    int n = 0, count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc)) && n < 65536;) {
        char path[300], text[512] = "";
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        long length = read(fd, text, sizeof text - 1);
        close(fd);
        char *end = length > 0 ? strrchr(text, ')') : NULL, *name = strchr(text, '(');
        struct process *p = &all[n];
        if (!end || !name || sscanf(end, ") %c %d", &p->state, &p->parent) != 2)
            continue;
        p->pid = atoi(text);
        snprintf(p->name, sizeof p->name, "%.*s", (int)(end - name - 1), name + 1);
        n++;
    }
    if (proc)
        closedir(proc);
    /* Parents first: whoever descends from one that is taken is taken too. */
    static char taken[65536];
    memset(taken, 0, sizeof taken);
    for (int more = 1; more;) {
        more = 0;
        for (int i = 0; i < n; i++) {
            int of_ours = all[i].parent == getpid();
            for (int k = 0; k < n && !of_ours && !taken[i]; k++)
                of_ours = taken[k] && all[k].pid == all[i].parent;
            if (of_ours && !taken[i])
                taken[i] = more = 1;
        }
    }
    for (int i = 0; i < n; i++)
        if (taken[i] && all[i].state != 'Z' && all[i].state != 'X' && count < most)
            found[count++] = all[i];
    return count;
}

static long milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void reap(pid_t main_child, int *status, int *ended)
{
    int s;
    for (pid_t pid; (pid = waitpid(-1, &s, WNOHANG)) > 0;)
        if (pid == main_child)
            *status = s, *ended = 1;
}

/* A control is a real attack, begun by root where root starts the run: one that follows a link too many must not find a host
 * that it can write to. What is left writable is the runner's own directory, and what is no file of the host's: /proc, /sys and /dev. */
static void guard(const char *dir)
{
    MUST(unshare(CLONE_NEWNS));
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    MUST(mount(dir, dir, NULL, MS_BIND, NULL));
    struct mount_attr set = {.attr_set = MOUNT_ATTR_RDONLY}, clear = {.attr_clr = MOUNT_ATTR_RDONLY};
    MUST(mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &set, sizeof set));
    MUST(mount_setattr(AT_FDCWD, dir, 0, &clear, sizeof clear));
    const char *no_files[] = {"/proc", "/sys", "/dev"};
    for (int i = 0; i < 3; i++)
        MUST(mount_setattr(AT_FDCWD, no_files[i], AT_RECURSIVE, &clear, sizeof clear));
}

static char kept_errors[1 << 20];
static long kept_length;

/* Takes what there is to read; the pipe is -1 once it has ended. */
static void keep(int *pipe)
{
    char more[65536];
    for (long n; *pipe >= 0 && ((n = read(*pipe, more, sizeof more)) >= 0 || errno == EINTR);) {
        if (n == 0) {
            close(*pipe);
            *pipe = -1;
        } else if (n > 0) {
            long room = (long)sizeof kept_errors - kept_length;
            n = n < room ? n : room;
            memcpy(kept_errors + kept_length, more, n);
            kept_length += n;
        }
    }
}

static int hold(long uid, long seconds, const char *kind, const char *own, const char *dir, char **command)
{
    char project[4200], path[4200];
    snprintf(project, sizeof project, "%s/project", dir);
    /* First of all: every descriptor that the command gets is of the guarded mounts. */
    if (strcmp(own, "-"))
        guard(own);
    MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    MUST(sigprocmask(SIG_BLOCK, &set, NULL));
    int signals = MUST(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));

    /* High numbers, so that none of them is where another is to be. */
    int input, peer = -1, master = -1, slave = -1;
    if (!strcmp(kind, "null")) {
        input = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
    } else if (!strcmp(kind, "dir")) {
        input = MUST(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    } else if (!strcmp(kind, "file")) {
        snprintf(path, sizeof path, "%s/target", dir);
        input = MUST(open(path, O_RDONLY | O_CLOEXEC));
    } else if (!strcmp(kind, "socket")) {
        int pair[2];
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
        peer = pair[0];
        input = pair[1];
        fcntl(input, F_SETFL, 0);
    } else {
        struct termios raw;
        MUST(openpty(&master, &slave, NULL, NULL, NULL));
        fcntl(master, F_SETFD, FD_CLOEXEC);
        fcntl(slave, F_SETFD, FD_CLOEXEC);
        MUST(tcgetattr(slave, &raw));
        cfmakeraw(&raw);
        MUST(tcsetattr(slave, TCSANOW, &raw));
        if (uid >= 0)
            MUST(fchown(slave, uid, -1));
        /* The terminal's session is the holder's: it would be hung up, and what was pushed lost, with the command's. */
        MUST(setsid());
        MUST(ioctl(slave, TIOCSCTTY, 0));
        signal(SIGTTOU, SIG_IGN);
        input = slave;
    }
    input = MUST(fcntl(input, F_DUPFD_CLOEXEC, 20));
    snprintf(path, sizeof path, "%s/secret", dir);
    int secret = MUST(fcntl(MUST(open(path, O_RDONLY | O_CLOEXEC)), F_DUPFD_CLOEXEC, 20));
    int ground = MUST(fcntl(MUST(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)), F_DUPFD_CLOEXEC, 20));

    /* What the command says on standard error comes after the rest: attempts are whole lines then. */
    int errors[2];
    MUST(pipe2(errors, O_CLOEXEC));
    MUST(fcntl(errors[0], F_SETFL, O_NONBLOCK));

    long deadline = milliseconds() + seconds * 1000;
    pid_t child = MUST(fork());
    if (!child) {
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        if (slave >= 0) {
            MUST(setpgid(0, 0));
            MUST(tcsetpgrp(slave, getpid()));
            signal(SIGTTOU, SIG_DFL);
        } else {
            setsid();
        }
        signal(SIGPIPE, SIG_DFL);
        MUST(dup2(input, 0));
        MUST(dup2(2, 1));
        MUST(dup2(errors[1], 2));
        MUST(dup2(secret, 7));
        MUST(dup2(ground, 8));
        close_range(3, 6, 0);
        close_range(9, ~0U, 0);
        become(uid);
        MUST(chdir(project));
        execvp(command[0], command);
        die(command[0]);
    }

    close(errors[1]);
    int status = 0, ended = 0, over = 0;
    while (!ended && !over) {
        struct pollfd wait[] = {{.fd = signals, .events = POLLIN}, {.fd = 0, .events = POLLIN}, {.fd = master, .events = POLLIN}, {.fd = errors[0], .events = POLLIN}};
        long left = deadline - milliseconds();
        poll(wait, 4, left > 0 ? left : 0);
        char drained[4096];
        while (read(signals, drained, sizeof drained) > 0)
            ;
        if (master >= 0 && wait[2].revents & POLLIN)
            (void)!read(master, drained, sizeof drained);
        keep(&errors[0]);
        reap(child, &status, &ended);
        over = !ended && (milliseconds() >= deadline || wait[1].revents);
    }
    if (over)
        say("over");
    else if (WIFSIGNALED(status))
        say("signal %d", WTERMSIG(status));
    else
        say("exit %d", WEXITSTATUS(status));

    static struct process left[4096];
    int n;
    for (long until = milliseconds() + (over ? 0 : 1000); (n = below(left, 4096)) && milliseconds() < until;) {
        usleep(20000);
        reap(child, &status, &ended);
    }
    for (int i = 0; i < n && !over; i++)
        say("left %s", left[i].name);
    for (long until = milliseconds() + 10000; (n = below(left, 4096)) && milliseconds() < until;) {
        for (int i = 0; i < n; i++)
            kill(left[i].pid, SIGKILL);
        usleep(10000);
        reap(child, &status, &ended);
    }
    for (int i = 0; i < n; i++)
        say("stuck %s", left[i].name);

    keep(&errors[0]);
    for (long n, at = 0; at < kept_length && (n = write(2, kept_errors + at, kept_length - at)) > 0;)
        at += n;
    char bytes[4096];
    if (peer >= 0 && recv(peer, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        say("arrived");
    int pushed = 0;
    if (slave >= 0 && !ioctl(slave, FIONREAD, &pushed) && pushed > 0)
        say("pushed");
    say("end");
    return 0;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && !strcmp(argv[1], "victim"))
        return victim(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "plant"))
        return plant(atol(argv[2]), argv[3]);
    if (argc == 3 && !strcmp(argv[1], "sweep")) {
        be_given();
        become(atol(argv[2]));
        return sweep();
    }
    if (argc > 7 && !strcmp(argv[1], "hold"))
        return hold(atol(argv[2]), atol(argv[3]), argv[4], argv[5], argv[6], argv + 7);
    fprintf(stderr, "ground: not for people, see tests/escape/README.md\n");
    return 2;
}
