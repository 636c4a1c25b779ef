/* title:   System V shared memory, queues and semaphores of the host's are found and read
 * source:  sysvipc(7), shmctl(2) SHM_STAT_ANY, msgrcv(2) MSG_COPY
 * expect:  ENOENT EINVAL EACCES EPERM ENOSYS ENOMSG EIDRM SIGSYS
 * fires:   read
 * control: host
 */
#include "lib.h"
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

static void attach(const char *name, int id)
{
    char *at = shmat(id, NULL, SHM_RDONLY);
    if (attempt(name, at == (char *)-1 ? -1 : 0))
        found(at, 64);
}

int run(void)
{
    key_t memory = strtol(arg("sysv"), NULL, 0), queue = strtol(arg("msg"), NULL, 0);
    int id = shmget(memory, 0, 0);
    if (attempt("memory by its key", id))
        attach("attach it", id);
    id = msgget(queue, 0);
    struct {
        long type;
        char text[256];
    } message;
    if (attempt("queue by its key", id) && inside()) {
        long n = msgrcv(id, &message, sizeof message.text, 0, IPC_NOWAIT | MSG_NOERROR | 040000 /* MSG_COPY */);
        attempt("copy a message", n);
        found(message.text, n);
    }
    for (int index = 0; inside() && index < 128; index++) {
        struct shmid_ds shm;
        struct msqid_ds msg;
        struct semid_ds sem;
        id = shmctl(index, SHM_STAT, &shm);
        if (attempt("memory by its place", id))
            attach("attach it", id);
        id = shmctl(index, 15 /* SHM_STAT_ANY */, &shm);
        attempt("memory by its place, whoever may read it", id);
        attach("attach by number", index);
        id = msgctl(index, MSG_STAT, &msg);
        if (attempt("queue by its place", id))
            attempt("copy a message", msgrcv(id, &message, sizeof message.text, 0, IPC_NOWAIT | MSG_NOERROR | 040000));
        attempt("copy by number", msgrcv(index, &message, sizeof message.text, 0, IPC_NOWAIT | MSG_NOERROR | 040000));
        attempt("semaphores by their place", semctl(index, 0, SEM_STAT, &sem));
    }
    return 0;
}
