/* title:   Segments of one's own making in the local descriptor table
 * source:  CVE-2015-5157, CVE-2015-3290 (espfix by a 16-bit stack segment), CVE-2017-17053; modify_ldt(2)
 * expect:  EPERM
 * fires:   call
 * control: host
 * harmless: yes
 *
 * A 32-bit code segment made so is another way to the gates of i386; a 16-bit one, to old holes of the kernel's return path.
 */
#include "lib.h"
#include <asm/ldt.h>

static void make(const char *name, int function, int bits_32, int contents)
{
    struct user_desc entry = {.entry_number = 0, .base_addr = 0, .limit = 0xfffff, .seg_32bit = (unsigned)bits_32,
                              .contents = (unsigned)contents, .limit_in_pages = 1, .useable = 1};
    /* The kernel answers with 32 bits. */
    int answer = (int)syscall(SYS_modify_ldt, function, &entry, sizeof entry);
    if (answer < -1)
        errno = -answer;
    attempt(name, answer < 0 ? -1 : 0);
}

int run(void)
{
    make("32-bit code", 0x11, 1, MODIFY_LDT_CONTENTS_CODE);
    make("16-bit stack", 0x11, 0, MODIFY_LDT_CONTENTS_STACK);
    make("16-bit data, the old function", 1, 0, MODIFY_LDT_CONTENTS_DATA);
    attempt("read", syscall(SYS_modify_ldt, 0, buf, 4096));
    return 0;
}
