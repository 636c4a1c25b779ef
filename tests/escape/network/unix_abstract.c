/* title:   A socket with an abstract name, which no file system guards, is connected to
 * source:  CVE-2020-15257 (containerd-shim); unix(7); landlock(7): LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
 * expect:  ECONNREFUSED EPERM EACCES
 * fires:   connect
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <stddef.h>

static socklen_t named(struct sockaddr_un *to, const char *name, size_t pad)
{
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    memcpy(to->sun_path + 1, name, strlen(name));
    return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name) + pad;
}
static long reach(int type, const char *name, size_t pad, int bound)
{
    struct sockaddr_un to, own = {.sun_family = AF_UNIX};
    socklen_t n = named(&to, name, pad);
    int s = socket(AF_UNIX, type, 0);
    if (s < 0)
        return -1;
    /* An address of two bytes binds to a name that the kernel chooses. */
    if (bound && bind(s, (void *)&own, sizeof own.sun_family) < 0)
        return -1;
    long answer = type == SOCK_DGRAM ? sendto(s, "hello", 5, 0, (void *)&to, n) : connect(s, (void *)&to, n);
    int fault = errno;
    close(s);
    errno = fault;
    return answer;
}
static long apart(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        _exit(reach(SOCK_STREAM, arg("abstract"), 0, 0) < 0 ? errno : 0);
    }
    waitpid(pid, &status, 0);
    errno = WEXITSTATUS(status);
    return status ? -1 : 0;
}

int run(void)
{
    const char *name = arg("abstract");
    attempt("stream", reach(SOCK_STREAM, name, 0, 0));
    attempt("stream, bound first", reach(SOCK_STREAM, name, 0, 1));
    attempt("packets", reach(SOCK_SEQPACKET, name, 0, 0));
    attempt("datagram", reach(SOCK_DGRAM, name, 0, 0));
    attempt("stream, name with NULs", reach(SOCK_STREAM, name, 2, 0));
    attempt("from a session of its own", apart());
    struct sockaddr_un to;
    socklen_t n = named(&to, name, 0);
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    attempt("without waiting", s < 0 ? -1 : connect(s, (void *)&to, n));
    return 0;
}
