/* title:   A file is given capabilities, or a setuid bit, that its next executor gains
 * source:  capabilities(7), "File capabilities"; setxattr(2)
 * expect:  EPERM EOPNOTSUPP EACCES ENOSYS EROFS ENODATA EINVAL SIGSYS
 * fires:   change
 * control: namespaces
 *
 * Setting them is the crime here; what becomes of a setuid bit when the run is over is another case.
 */
#include "lib.h"
#include <sys/xattr.h>

int run(void)
{
    static const struct {
        const char *name, *value;
        size_t size;
    } forms[] = {{"of the second form", "\1\0\0\2\377\377\377\377\0\0\0\0\377\377\377\377\0\0\0\0", 20},
                 {"of the third form", "\1\0\0\3\377\377\377\377\0\0\0\0\377\377\377\377\0\0\0\0\0\0\0\0", 24},
                 {"of the first form", "\1\0\0\1\377\377\377\377\0\0\0\0", 12}};
    static const char *const places[] = {"./tool", "/tmp/tool", "/dev/shm/tool"};
    for (size_t at = 0; at < (inside() ? 3 : 1); at++) {
        const char *path = inside() ? places[at] : ground("targets/tool");
        int fd = open(path, O_RDWR | O_CREAT, 0755);
        if (fd < 0)
            continue;
        for (size_t n = 0; n < sizeof forms / sizeof *forms; n++) {
            attempt(forms[n].name, setxattr(path, "security.capability", forms[n].value, forms[n].size, 0));
            attempt("by descriptor", fsetxattr(fd, "security.capability", forms[n].value, forms[n].size, 0));
        }
        static const char *const labels[] = {"security.ima", "security.evm", "security.SMACK64EXEC", "security.apparmor",
                                             "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.x"};
        for (size_t n = 0; inside() && n < sizeof labels / sizeof *labels; n++)
            attempt(labels[n], setxattr(path, labels[n], "y", 1, 0));
        if (inside()) {
            attempt("give it to root", chown(path, 0, 0));
            attempt("give it to another", chown(path, 1001, -1));
            attempt("give it to another group", chown(path, -1, 0));
        }
        close(fd);
    }
    return 0;
}
