/* title:   A file system is served by the program itself
 * source:  fuse(4); CVE-2023-0386, CVE-2018-10906 need one
 * expect:  ENOENT EPERM EACCES ENOSYS SIGSYS ENODEV EROFS
 * fires:   call
 * control: namespaces
 * control-user: void: /dev/fuse is root's alone on some hosts
 */
#include "lib.h"

int run(void)
{
    char options[128];
    static const char *const nodes[] = {"/dev/fuse", "./fuse", "/tmp/fuse"};
    for (size_t n = 0; n < sizeof nodes / sizeof *nodes; n++) {
        if (inside() && n)
            attempt("make the device", mknod(nodes[n], S_IFCHR | 0666, 10 << 8 | 229));
        int fd = open(nodes[n], O_RDWR);
        attempt(nodes[n], fd);
        snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, getuid(), getgid());
        if (attempt("mount", mount("fuse", ".", "fuse", MS_NOSUID | MS_NODEV, options)))
            umount2(".", MNT_DETACH);
        attempt("mount a disk's", mount("/dev/vda", ".", "fuseblk", 0, options));
        attempt("mount a worker's", mount("worker", ".", "virtiofs", 0, NULL));
        if (!inside())
            return 0;
    }
    /* The helper that is setuid root, where there is one; it says 0 if it mounted. */
    static const char *const helpers[] = {"/usr/bin/fusermount3", "/usr/bin/fusermount", "/bin/fusermount3"};
    for (size_t n = 0; n < sizeof helpers / sizeof *helpers; n++) {
        pid_t child = fork();
        if (!child) {
            int pair[2];
            char number[16];
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
                _exit(1);
            snprintf(number, sizeof number, "%d", pair[0]);
            setenv("_FUSE_COMMFD", number, 1);
            execl(helpers[n], helpers[n], "-o", "rw,nosuid,nodev", "--", ".", NULL);
            _exit(1);
        }
        int status;
        waitpid(child, &status, 0);
        errno = EPERM;
        attempt("by the helper", status ? -1 : 0);
    }
    return 0;
}
