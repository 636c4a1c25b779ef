"""
title:   More output than the limit reaches the caller
source:  pipe(7), fcntl(2) F_SETPIPE_SZ, splice(2), vmsplice(2); proc_pid_fd(5)
expect:  EFBIG
fires:   call
control: host
runs:    outside
flags:   --output 100KB
seconds: 30

Each is a run of its own that writes 2 MB; what arrives is counted.
"""
from lib import *

START = (
    "import ctypes, fcntl, os, sys, threading\n"
    "B = b'x' * 65535 + b'\\n'\n"
    "def put(fd, n=32):\n"
    " for _ in range(n):\n"
    "  v = memoryview(B)\n"
    "  while v: v = v[os.write(fd, v):]\n"
)
WAYS = {
    "standard output": "put(1)",
    "standard error": "put(2)",
    "both": "put(1, 16); put(2, 16)",
    "opened again": "put(os.open('/proc/self/fd/1', os.O_WRONLY)); put(os.open('/dev/stderr', os.O_WRONLY))",
    "a larger pipe": "fcntl.fcntl(1, 1031, 1 << 20); put(1)",
    "in packets": "fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT); put(1)",
    "children": "p = [os.fork() for _ in range(3)]; put(1, 8)",
    "an orphan": "os.fork() and os._exit(0); os.setsid(); put(2)",
    "spliced": "r, w = os.pipe()\nfor _ in range(40):\n n = os.write(w, B[1:])\n while n: n -= os.splice(r, 1, n)",
    "from a file": "f = os.memfd_create('m'); put(f)\nfor _ in range(40): os.lseek(f, 0, 0); os.sendfile(1, f, 0, 65536)",
}


def flood(way):
    code = START + f"try:\n exec({way!r})\nexcept OSError: pass\n"
    done = contained("python3", "-c", code)
    print(f"arrived: {len(done.stdout)}")
    return forbidden(errno.EFBIG, len(done.stdout) > 150_000)


for name, way in WAYS.items():
    attempt(name, lambda: flood(way))
