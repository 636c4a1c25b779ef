"""What every case in Python begins with: `from lib import *`."""
import ctypes, errno, os, platform, signal, socket, stat, struct, subprocess, sys, threading, time

ARGS = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
INSIDE = ARGS.get("where") == "inside"
DIR = ARGS.get("dir", "/nonexistent")
VICTIM = int(ARGS.get("pid", "0"))
# As strerrorname_np says it; Python has the other name of this one.
NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}
libc = ctypes.CDLL(None, use_errno=True)
buf = ctypes.create_string_buffer(1 << 16)
c = ctypes.c_char_p


def call(nr, *args):
    """A system call by its number; OSError where it fails."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    answer = libc.syscall(ctypes.c_long(nr), *words)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def attempt(name, work):
    """Tries `work`, says how it ended and what it found. Gives whether it succeeded."""
    try:
        found = work()
        result = "GOT"
    except OSError as error:
        found, result = None, NAMES.get(error.errno, "EUNKNOWN")
    print(f"attempt {name}: {result}", flush=True)
    if found is not None and found is not True:
        show(found)
    return result == "GOT"


def show(found):
    """What was found, for the runner to look for canaries in."""
    if isinstance(found, bytes):
        found = found.decode("latin-1")
    print(f"found: {str(found)[:4000]!r}", flush=True)


def read(path, n=1 << 16):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, n)
    finally:
        os.close(fd)


def write(path, data=b"changed\n", flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, 0o644)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def forbidden(number, reached):
    """An attempt's work where no call says how it ended: what was `reached`, or the error."""
    if not reached:
        raise OSError(number, os.strerror(number))
    return reached


def contained(*command, **how):
    """In a driver (`runs: outside`): the command behind the wall under test, on the bare host as it is. Gives what it printed and
    how it ended."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
    return subprocess.run([os.environ["INSIDE"], *command], **how)


def safe_run(*words, **how):
    """In a driver of what only Safe-Run has (`only: process`): the program itself, which the variable SAFE_RUN names."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
    return subprocess.run([os.environ["SAFE_RUN"], *words], **how)
