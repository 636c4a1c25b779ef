/* title:   What is read-only is mounted writable
 * source:  CVE-2014-5206, CVE-2014-5207; mount(2)
 * expect:  EPERM ENOSYS SIGSYS EACCES EROFS ENOENT
 * fires:   change
 * control: namespaces
 *
 * In namespaces of its own DIR/targets is mounted read-only first.
 */
#include "lib.h"

static void loosen(const char *at)
{
    char elsewhere[] = "/tmp";
    attempt("remount", mount(NULL, at, NULL, MS_REMOUNT, NULL));
    attempt("remount the mount alone", mount(NULL, at, NULL, MS_REMOUNT | MS_BIND, NULL));
    attempt("remount with old magic", mount(NULL, at, NULL, 0xC0ED0000 | MS_REMOUNT | MS_BIND, NULL));
    attempt("remount with its flags kept", mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_RELATIME, NULL));
    if (!inside())
        return;
    attempt("bind over", mount("/tmp", at, NULL, MS_BIND | MS_REC, NULL));
    attempt("bind elsewhere", mount(at, elsewhere, NULL, MS_BIND, NULL));
    attempt("move", mount(at, elsewhere, NULL, MS_MOVE, NULL));
    attempt("share", mount(NULL, at, NULL, MS_SHARED | MS_REC, NULL));
    attempt("make private", mount(NULL, at, NULL, MS_PRIVATE | MS_REC, NULL));
    attempt("a tmpfs over", mount("tmpfs", at, "tmpfs", 0, NULL));
}

int run(void)
{
    if (!inside()) {
        const char *at = ground("targets");
        if (mount(at, at, NULL, MS_BIND, NULL) || mount(NULL, at, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL))
            return 1;
        attempt("write while it is read-only", open(ground("targets/written"), O_WRONLY | O_CREAT, 0644));
        loosen(at);
        attempt("write", open(ground("targets/written"), O_WRONLY | O_CREAT, 0644));
        return 0;
    }
    static const char *const places[] = {"/", "/usr", "/etc", "/dev", "/proc", "/proc/sys", "/escape", ".", "/tmp", "/sys", "/lib"};
    for (size_t n = 0; n < sizeof places / sizeof *places; n++) {
        loosen(places[n]);
        char path[64];
        snprintf(path, sizeof path, "%s/written", places[n]);
        if (strcmp(places[n], ".") && strcmp(places[n], "/tmp"))
            attempt("write", open(path, O_WRONLY | O_CREAT, 0644));
    }
    return 0;
}
