/* title:   A 32-bit program, made in memory and executed
 * source:  elf(5), memfd_create(2), execveat(2); personality changes at exec, not by a call that a filter sees
 * expect:  SIGSYS ENOEXEC
 * fires:   read
 * control: host
 * harmless: yes
 *
 * The program opens DIR/secret, reads it and writes it out, by int 0x80.
 */
#include "lib.h"
#include <elf.h>

static const unsigned char code[] = {
    0xb8, 5, 0, 0, 0, 0xbb, 0, 0, 0, 0, 0x31, 0xc9, 0x31, 0xd2, 0xcd, 0x80,             /* open(path, 0, 0) */
    0x89, 0xc3, 0xb8, 3, 0, 0, 0, 0x8d, 0x8c, 0x24, 0, 0xf0, 0xff, 0xff,
    0xba, 0, 8, 0, 0, 0xcd, 0x80, /* read(fd, esp-4096, 2048) */
    0x85, 0xc0, 0x78, 18,                                                               /* negative: exit */
    0x89, 0xc2, 0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xcd, 0x80,                         /* write(1, …, n) */
    0x31, 0xdb, 0xeb, 5,                                                                /* exit(0) */
    0xbb, 1, 0, 0, 0,                                                                   /* exit(1) */
    0xb8, 1, 0, 0, 0, 0xcd, 0x80,
};

static long start(long fd)
{
    char *none[] = {"i386", NULL};
    return syscall(SYS_execveat, fd, "", none, none + 1, AT_EMPTY_PATH);
}

int run(void)
{
    enum { BASE = 0x08048000, PATH = 512 };
    unsigned char image[4608] = {0};
    Elf32_Ehdr head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS32, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_EXEC,
                       .e_machine = EM_386, .e_version = EV_CURRENT, .e_entry = BASE + 128, .e_phoff = sizeof head,
                       .e_ehsize = sizeof head, .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1};
    Elf32_Phdr part = {.p_type = PT_LOAD, .p_vaddr = BASE, .p_paddr = BASE, .p_filesz = sizeof image, .p_memsz = sizeof image,
                       .p_flags = PF_R | PF_X, .p_align = 4096};
    uint32_t path = BASE + PATH;
    memcpy(image, &head, sizeof head);
    memcpy(image + sizeof head, &part, sizeof part);
    memcpy(image + 128, code, sizeof code);
    memcpy(image + 128 + 6, &path, 4);
    snprintf((char *)image + PATH, sizeof image - PATH, "%s", ground("secret"));
    int fd = memfd_create("i386", 0);
    if (fd < 0 || write(fd, image, sizeof image) != sizeof image)
        return attempt("a file in memory", -1), 0;
    /* Only a failed exec says something itself; one that worked printed what it found. */
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        attempt("execute", start(fd));
        _exit(2);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        printf("attempt run: SIG%s\n", sigabbrev_np(WTERMSIG(status)));
    else if (WEXITSTATUS(status) == 0)
        attempt("run", 0);
    else if (WEXITSTATUS(status) == 1)
        errno = ENOENT, attempt("run", -1);
    return 0;
}
