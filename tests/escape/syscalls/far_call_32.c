/* title:   A far jump into the 32-bit code segment, and calls from there
 * source:  "Heaven's gate" backwards: segment 0x23, arch/x86/entry/entry_64_compat.S; seccomp(2) on AUDIT_ARCH
 * expect:  SIGSYS SIGILL
 * fires:   read
 * control: host
 * harmless: yes
 *
 * The process was started as 64-bit, and the jump itself is no call that a filter could see. `syscall` and `sysenter` from
 * 32-bit code enter the kernel by gates of their own; a processor that lacks one says SIGILL. They return to a page that only
 * a 32-bit program has, so what they did is seen by the directory that they make.
 */
#include "i386.h"

static struct {
    uint32_t offset;
    uint16_t segment;
} __attribute__((packed)) far;

/* At low + 49152: the gate's instruction and a far jump back; then, in 64-bit code, back to the caller. */
static void make_gate(unsigned char first, unsigned char second)
{
    unsigned char *code = (unsigned char *)low + 49152;
    uint32_t back = (uint32_t)(uintptr_t)code + 64;
    code[0] = first, code[1] = second;
    code[2] = 0xea;
    memcpy(code + 3, &back, 4);
    code[7] = 0x33, code[8] = 0;
    memcpy(code + 64, "\x4c\x89\xf4\x41\xff\xe7", 6); /* mov %r14, %rsp; jmp *%r15 */
    far.offset = (uint32_t)(uintptr_t)code;
    far.segment = 0x23;
}
static long from_32(long nr, long a, long b, long c)
{
    long answer;
    /* `syscall` takes its second argument from %ebp, and looks at the stack, which must lie below 4 GiB too. */
    asm volatile("mov %%rsp, %%r14\n\t"
                 "mov %%rbp, %%r13\n\t"
                 "mov %[stack], %%rsp\n\t"
                 "mov %%ecx, %%ebp\n\t"
                 "lea 1f(%%rip), %%r15\n\t"
                 "ljmp *(%[far])\n"
                 "1:\n\t"
                 "mov %%r13, %%rbp"
                 : "=a"(answer)
                 : "a"(nr), "b"(a), "c"(b), "d"(c), [far] "D"(&far), [stack] "S"(low + 45056)
                 : "memory", "cc", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
    return answer32(answer);
}
static long read_by_int80(long with)
{
    (void)with;
    make_gate(0xcd, 0x80);
    long fd = from_32(I386_OPEN, low_string(ground("secret")), O_RDONLY, 0);
    long n = fd < 0 ? -1 : from_32(I386_READ, fd, (long)low, 4096);
    found(low, n);
    return n;
}
static long getpid_by_int80(long with)
{
    make_gate(0xcd, 0x80);
    return from_32(I386_GETPID, with, 0, 0);
}
static long mkdir_by(long second)
{
    make_gate(0x0f, (unsigned char)second);
    return from_32(I386_MKDIR, low_string(ground(second == 0x05 ? "targets/syscall" : "targets/sysenter")), 0777, 0);
}

int run(void)
{
    make_low();
    attempt_apart("int 0x80: getpid", getpid_by_int80, 0);
    attempt_apart("int 0x80: open and read", read_by_int80, 0);
    attempt_apart("syscall", mkdir_by, 0x05);
    attempt_apart("sysenter", mkdir_by, 0x34);
    if (access(ground("targets/syscall"), F_OK) == 0)
        attempt("syscall made a directory", 0);
    if (access(ground("targets/sysenter"), F_OK) == 0)
        attempt("sysenter made a directory", 0);
    return 0;
}
