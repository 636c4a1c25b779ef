/* title:   The layers of an overlay are reached past it, by the paths that mountinfo shows
 * source:  "Digging into the OverlayFS docker escape", upperdir in /proc/self/mountinfo with the release_agent exploit (2019);
 *          kernel: Documentation/filesystems/overlayfs.rst
 * expect:  ENOENT EACCES EPERM EROFS ENOTDIR
 * fires:   change
 * control: namespaces
 *
 * What is written to a layer directly is seen by nobody's rules. In namespaces of its own an overlay over DIR/project is
 * mounted first, with its layers in DIR/targets.
 */
#include "lib.h"

static void try(const char *name, const char *layer)
{
    static const char *const ways[] = {"%s", "/proc/1/root/%s", "/proc/1/cwd/%s", "/proc/self/cwd/%s", "/%s", "/tmp/../%s", "/dev/shm/../../%s"};
    char path[4200], written[4300];
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        snprintf(path, sizeof path, ways[way], layer);
        if (name)
            attempt(name, open(path, O_RDONLY | O_DIRECTORY));
        snprintf(written, sizeof written, "%s/written", path);
        attempt("write there", open(written, O_WRONLY | O_CREAT, 0644));
    }
}

int run(void)
{
    char options[9000], line[9000];
    if (!inside()) {
        mkdir(ground("targets/upper"), 0755);
        mkdir(ground("targets/work"), 0755);
        snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,userxattr", ground("project"), ground("targets/upper"),
                 ground("targets/work"));
        if (mount("overlay", ground("project"), "overlay", 0, options))
            return 1;
    }
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    int seen = 0;
    while (mounts && fgets(line, sizeof line, mounts)) {
        static const char *const keys[] = {"upperdir=", "workdir=", "lowerdir=", "lowerdir+=", "datadir+="};
        char *kind = strstr(line, " - overlay ");
        for (size_t n = 0; kind && n < sizeof keys / sizeof *keys; n++) {
            char *at = strstr(kind, keys[n]);
            if (!at)
                continue;
            at += strlen(keys[n]);
            snprintf(options, sizeof options, "%.*s", (int)strcspn(at, ",: \n"), at);
            try(keys[n], options);
            seen++;
        }
        /* What part of which file system is shown, tried as a path to write to: /w/u0 beside /w/s1. A guest shows the project, which
         * may be written, as the part of that path. */
        char root[4096], own[4096];
        if (sscanf(line, "%*s %*s %*s %4095s", root) == 1 && strlen(root) > 1 && getcwd(own, sizeof own) && strcmp(root, own))
            try(NULL, root + 1);
    }
    static const char *const guesses[] = {"w/u0", "w/k0", "l0", "u0", "w", "upper", "work", "old", ".old", "oldroot", "newroot"};
    for (size_t n = 0; inside() && n < sizeof guesses / sizeof *guesses; n++)
        try("a guess", guesses[n]);
    return 0;
}
