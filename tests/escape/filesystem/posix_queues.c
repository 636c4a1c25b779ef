/* title:   POSIX message queues of the host's are opened, listed, read
 * source:  mq_overview(7)
 * expect:  ENOENT EACCES EPERM ENOSYS EINVAL EROFS ENOTDIR SIGSYS
 * fires:   read
 * control: host
 */
#include "lib.h"
#include <dirent.h>
#include <mqueue.h>

int run(void)
{
    const char *name = arg("mq");
    mqd_t queue = mq_open(name, O_RDONLY | O_NONBLOCK);
    if (attempt("open to read", queue)) {
        struct mq_attr attr;
        mq_getattr(queue, &attr);
        long n = attr.mq_msgsize <= (long)sizeof buf ? mq_receive(queue, buf, sizeof buf, NULL) : -1;
        attempt("receive", n);
        found(buf, n);
    }
    if (!inside())
        return 0;
    queue = mq_open(name, O_WRONLY | O_NONBLOCK);
    if (attempt("open to write", queue))
        attempt("send", mq_send(queue, "changed", 7, 0));
    attempt("remove", mq_unlink(name));
    attempt("mount all queues", mount("mqueue", ".", "mqueue", 0, NULL));
    char path[512];
    static const char *const ways[] = {"/dev/mqueue%s", "/proc/1/root/dev/mqueue%s", "/mqueue%s"};
    for (size_t n = 0; n < sizeof ways / sizeof *ways; n++) {
        snprintf(path, sizeof path, ways[n], name);
        attempt_read("by its file", AT_FDCWD, path);
    }
    DIR *all = opendir("/dev/mqueue");
    attempt("list queues", all ? 0 : -1);
    return 0;
}
