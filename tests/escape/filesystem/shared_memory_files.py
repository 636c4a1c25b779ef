# title:   Shared memory of the host's in /dev/shm is read, written, listed
# source:  shm_open(3), shm_overview(7)
# expect:  ENOENT EACCES EPERM EROFS ENOTDIR
# fires:   read
# control: host
from lib import *

name = ARGS["shm"]
ways = [f"/dev/shm/{name}", f"/run/shm/{name}", f"/proc/1/root/dev/shm/{name}", f"/dev/fd/../../../dev/shm/{name}"]
for path in ways:
    attempt("read", lambda: read(path))


def opened(flags):
    fd = libc.shm_open(c(f"/{name}".encode()), flags, 0o600)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "shm_open")
    return os.read(fd, 100)


if hasattr(libc, "shm_open"):
    attempt("read by its name", lambda: opened(os.O_RDONLY))
if INSIDE:
    for path in ways:
        attempt("write", lambda: write(path))
        attempt("unlink", lambda: os.unlink(path))
    # Whatever is there is somebody else's: nothing was made yet.
    attempt("others' names", lambda: forbidden(errno.ENOENT, os.listdir("/dev/shm")))
    files = [line.split()[-1] for line in open("/proc/self/maps") if "/dev/shm/" in line]
    attempt("others' mappings", lambda: forbidden(errno.ENOENT, files))
