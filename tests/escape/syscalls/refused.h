/* Calls of the machine's root, with arguments of which nothing comes. Whoever is let in is told so by another error than a
 * refusal: for these an answer that is no refusal is GOT. */
#include "lib.h"

static inline void attempt_admission(const char *name, long answer)
{
    int refused = answer < 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS);
    attempt(name, refused ? -1 : 0);
}
