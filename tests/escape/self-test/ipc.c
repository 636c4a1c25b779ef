/* title:   What is shared between processes is emptied and changed
 * source:  a test of the runner
 * expect:  EPERM
 * fires:   ipc
 * control: host
 */
#include "lib.h"
#include <linux/keyctl.h>
#include <mqueue.h>
#include <sys/msg.h>
#include <sys/shm.h>

int run(void)
{
    struct { long type; char text[200]; } message;
    char path[300];
    long n = msgrcv(msgget(atoi(arg("msg")), 0), &message, sizeof message.text, 0, IPC_NOWAIT);
    if (attempt("message", n))
        found(message.text, n);
    n = mq_receive(mq_open(arg("mq"), O_RDONLY), buf, 8192, NULL);
    if (attempt("POSIX message", n))
        found(buf, n);
    char *segment = shmat(shmget(atoi(arg("sysv")), 0, 0), NULL, 0);
    attempt("segment", segment == (void *)-1 ? -1 : 0);
    if (segment != (void *)-1)
        *segment = 'x';
    snprintf(path, sizeof path, "/dev/shm/%s", arg("shm"));
    attempt("shared file", truncate(path, 0));
    long key = syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", arg("key"), 0);
    attempt("key", syscall(SYS_keyctl, KEYCTL_UPDATE, key, "x", 1));
    return 0;
}
