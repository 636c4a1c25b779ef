/* A ring of io_uring's, without its library. */
#include "lib.h"
#include <linux/io_uring.h>

struct ring {
    int fd;
    unsigned *sq_tail, *sq_array, *cq_head, *cq_tail, sq_mask, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
};

static inline int ring_make(struct ring *ring)
{
    struct io_uring_params p = {0};
    ring->fd = (int)syscall(SYS_io_uring_setup, 8, &p);
    if (ring->fd < 0)
        return -1;
    char *sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
    char *cq = mmap(NULL, p.cq_off.cqes + p.cq_entries * sizeof *ring->cqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
                    IORING_OFF_CQ_RING);
    ring->sqes = mmap(NULL, p.sq_entries * sizeof *ring->sqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQES);
    if (sq == MAP_FAILED || cq == MAP_FAILED || ring->sqes == MAP_FAILED)
        return -1;
    ring->sq_tail = (unsigned *)(sq + p.sq_off.tail);
    ring->sq_array = (unsigned *)(sq + p.sq_off.array);
    ring->sq_mask = *(unsigned *)(sq + p.sq_off.ring_mask);
    ring->cq_head = (unsigned *)(cq + p.cq_off.head);
    ring->cq_tail = (unsigned *)(cq + p.cq_off.tail);
    ring->cq_mask = *(unsigned *)(cq + p.cq_off.ring_mask);
    ring->cqes = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
    return 0;
}
/* One request, and what it answered: as a system call would. */
static inline long ring_do(struct ring *ring, struct io_uring_sqe what)
{
    if (ring->fd < 0)
        return -1;
    unsigned tail = *ring->sq_tail;
    ring->sqes[tail & ring->sq_mask] = what;
    ring->sq_array[tail & ring->sq_mask] = tail & ring->sq_mask;
    __atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
        return -1;
    unsigned head = *ring->cq_head;
    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) {
        errno = EAGAIN;
        return -1;
    }
    int answer = ring->cqes[head & ring->cq_mask].res;
    __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
    if (answer >= 0)
        return answer;
    errno = -answer;
    return -1;
}
