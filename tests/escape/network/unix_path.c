/* title:   A Unix socket of the host's is connected to by its path, and by what leads around it
 * source:  unix(7); proc_pid_fd(5), proc_pid_root(5)
 * expect:  ENOENT ECONNREFUSED EACCES EPERM ENOTDIR EPROTOTYPE EBADF ELOOP ENOTCONN
 * fires:   connect
 * control: host
 * harmless: yes
 */
#include "lib.h"

static long reach(int type, const char *path)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int s = socket(AF_UNIX, type, 0);
    if (s < 0 || strlen(path) >= sizeof to.sun_path)
        return -1;
    strcpy(to.sun_path, path);
    long n = type == SOCK_DGRAM ? sendto(s, "hello", 5, 0, (void *)&to, sizeof to) : connect(s, (void *)&to, sizeof to);
    int fault = errno;
    close(s);
    errno = fault;
    return n;
}

int run(void)
{
    char path[4200], link[] = "listen-link";
    snprintf(path, sizeof path, "%s", ground("listen.sock"));
    attempt("path", reach(SOCK_STREAM, path));
    attempt("path, packets", reach(SOCK_SEQPACKET, path));
    attempt("path, datagram", reach(SOCK_DGRAM, path));
    attempt("relative path", reach(SOCK_STREAM, "../listen.sock"));
    if (symlink(ground("listen.sock"), link) == 0)
        attempt("link", reach(SOCK_STREAM, link));
    unlink(link);
    snprintf(path, sizeof path, "/proc/1/root%s", ground("listen.sock"));
    attempt("root of process 1", reach(SOCK_STREAM, path));
    snprintf(path, sizeof path, "/proc/%d/root%s", victim(), ground("listen.sock"));
    attempt("root of the victim", reach(SOCK_STREAM, path));
    snprintf(path, sizeof path, "/proc/%d/cwd/../listen.sock", getppid());
    attempt("working directory of the parent", reach(SOCK_STREAM, path));
    attempt("leaked folder", reach(SOCK_STREAM, "/proc/self/fd/8/listen.sock"));
    int here = open(".", O_RDONLY), fd = openat(8, "listen.sock", O_PATH);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    attempt("descriptor of its file", fd < 0 ? -1 : reach(SOCK_STREAM, path));
    attempt("after a change of directory", fchdir(8) < 0 ? -1 : reach(SOCK_STREAM, "listen.sock"));
    if (fchdir(here) < 0)
        return 1;
    for (int n = 3; n < 20; n++) {
        char what[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d/listen.sock", n);
        if (n == 8 || access(path, F_OK) < 0)
            continue;
        snprintf(what, sizeof what, "descriptor %d", n);
        attempt(what, reach(SOCK_STREAM, path));
    }
    return 0;
}
