# title:   Standard input is a file that was opened for reading: it is opened anew, for writing
# source:  proc_pid_fd(5), open(2); "Reopening files" on LWN 2016
# expect:  EBADF ESPIPE EINVAL EPERM EACCES ENOENT EXDEV ENODEV
# fires:   change
# control: host
# stdin:   file
# harmless: yes
from lib import *
import mmap


def anew(path, flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags)
    try:
        # Of a pipe nothing can be written at an offset.
        return os.pwrite(fd, b"changed\n", 0)
    finally:
        os.close(fd)


attempt("written to", lambda: os.pwrite(0, b"changed\n", 0))
attempt("made shorter", lambda: os.ftruncate(0, 1))
for path in ["/proc/self/fd/0", "/dev/stdin", "/dev/fd/0", "/proc/thread-self/fd/0", f"/proc/{os.getpid()}/fd/0"]:
    attempt(f"opened anew by {path.replace(str(os.getpid()), 'PID')}", lambda: anew(path))
    attempt("opened anew and emptied", lambda: anew(path, os.O_TRUNC))
    attempt("emptied by name", lambda: os.truncate(path, 0))
attempt("mapped for writing", lambda: mmap.mmap(0, 8, access=mmap.ACCESS_WRITE).write(b"x") or None)
attempt("given a name", lambda: os.link("/proc/self/fd/0", "named", follow_symlinks=True))
attempt("an attribute", lambda: os.setxattr(0, "user.escape", b"x"))
