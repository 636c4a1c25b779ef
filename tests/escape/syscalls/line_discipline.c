/* title:   Another line discipline is put on a terminal, which loads a module or an old driver
 * source:  CVE-2017-2636 (n_hdlc), CVE-2014-0196, CVE-2020-14416 (slip); TIOCSETD
 * expect:  EPERM ENOTTY
 * fires:   call
 * control: host
 */
#include "lib.h"

static void set(const char *name, int fd, unsigned long request, int discipline)
{
    attempt(name, fd < 0 ? -1 : syscall(SYS_ioctl, fd, request, &discipline));
}

int run(void)
{
    int head = posix_openpt(O_RDWR | O_NOCTTY), tail = -1;
    if (head >= 0 && grantpt(head) == 0 && unlockpt(head) == 0)
        tail = open(ptsname(head), O_RDWR | O_NOCTTY);
    static const struct {
        const char *name;
        int number;
    } kinds[] = {{"n_hdlc", 13}, {"n_gsm", 21}, {"slip", 1}, {"ppp", 3}, {"slcan", 17}, {"null", 27}, {"the usual", 0}};
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s", kinds[i].name);
        set(name, tail, 0x5423, kinds[i].number);
        snprintf(name, sizeof name, "%s, high half set", kinds[i].name);
        set(name, tail, 1UL << 63 | 0x5423, kinds[i].number);
        snprintf(name, sizeof name, "%s, other end", kinds[i].name);
        set(name, head, 0x5423, kinds[i].number);
    }
    return 0;
}
