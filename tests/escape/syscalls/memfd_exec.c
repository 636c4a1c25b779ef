/* title:   A program from memory, executed by descriptor
 * source:  memfd_create(2), fexecve(3), execveat(2): what runs was never a file; the filter must stay over exec
 * expect:  EPERM EACCES ENOSYS
 * fires:   call
 * control: host
 * harmless: yes
 */
#include "lib.h"
#include <linux/memfd.h>

static int copy_of_oneself(unsigned flags)
{
    int self = open("/proc/self/exe", O_RDONLY), fd = memfd_create("copy", flags);
    ssize_t n;
    while (self >= 0 && fd >= 0 && (n = read(self, buf, sizeof buf)) > 0)
        if (write(fd, buf, (size_t)n) != n)
            break;
    close(self);
    return fd;
}
static void start(const char *how, int fd, int by_path)
{
    char word[64], path[64];
    snprintf(word, sizeof word, "stage=%s", how);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char *const again[] = {"copy", word, NULL};
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (by_path)
            execve(path, again, again + 2);
        else
            syscall(SYS_execveat, fd, "", again, again + 2, AT_EMPTY_PATH);
        attempt(how, -1);
        _exit(1);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    attempt_died(how, status);
}

int run(void)
{
    const char *stage = arg("stage");
    if (*stage) {
        char name[96];
        snprintf(name, sizeof name, "keyctl, %s", stage);
        attempt(name, syscall(SYS_keyctl, 0, -2, 1));
        snprintf(name, sizeof name, "socket, %s", stage);
        attempt(name, syscall(SYS_socket, AF_INET, SOCK_STREAM, 0));
        return 0;
    }
    int plain = copy_of_oneself(0), closing = copy_of_oneself(MFD_CLOEXEC), sealed = copy_of_oneself(MFD_ALLOW_SEALING);
    fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    start("by descriptor", plain, 0);
    start("by its path", plain, 1);
    start("closed on exec", closing, 0);
    start("sealed", sealed, 0);
    return 0;
}
