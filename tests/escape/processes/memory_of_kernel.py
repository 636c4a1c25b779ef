"""
title:   More memory than the limit, in what no process has mapped
source:  memfd_create(2), shmget(2), pipe(7), socket(7) SO_SNDBUF; CVE-2016-2847 (pipe buffers), CVE-2013-4312 (descriptors in flight)
expect:  ENOMEM
fires:   call
control: host
runs:    outside
flags:   --memory 64MB --timeout 2m
seconds: 60
limit-user: Without a control group that counts memory, what the kernel holds for a program and no process has mapped (memory
    files, segments, pipes, socket buffers) is not counted.

A watcher that adds up what processes have mapped sees none of it. Each is a run of its own: it holds 130 MB or more for a
second, and then says so.
"""
from lib import *

HOLD = "time.sleep(1.2); print('HE' + 'LD', flush=True)"
START = "import ctypes, fcntl, mmap, os, resource, socket, sys, time\nlibc = ctypes.CDLL(None, use_errno=True)\nM = b'x' * (1 << 20)\n"
WAYS = {
    "memory files": "f = [os.memfd_create('m') for _ in range(10)]\nfor fd in f:\n for _ in range(16): os.write(fd, M)",
    "one memory file": "fd = os.memfd_create('m')\nfor _ in range(160): os.write(fd, M)",
    "System V segments that are not attached": (
        "libc.shmat.restype = ctypes.c_void_p\n"
        "ids = [libc.shmget(0, 16 << 20, 0o1600) for _ in range(10)]\n"
        "assert min(ids) >= 0\n"
        "for i in ids:\n"
        " a = libc.shmat(i, None, 0); assert a != 2 ** 64 - 1; ctypes.memset(a, 1, 16 << 20); libc.shmdt(ctypes.c_void_p(a))\n"
        "import atexit; atexit.register(lambda: [libc.shmctl(i, 0, None) for i in ids])"
    ),
    "mapped, touched, unmapped file": (
        "fd = os.memfd_create('m'); os.ftruncate(fd, 160 << 20)\n"
        "for n in range(10):\n"
        " m = mmap.mmap(fd, 16 << 20, offset=n << 24)\n"
        " for i in range(0, len(m), 4096): m[i] = 1\n"
        " m.close()"
    ),
    "socket buffers": (
        "p = [socket.socketpair() for _ in range(450)]; n = 0\n"
        "for pair in p:\n"
        " for s in pair:\n"
        "  s.setblocking(False); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)\n"
        "  try:\n"
        "   while True: n += s.send(M[:65536])\n"
        "  except BlockingIOError: pass\n"
        "print(n >> 20); assert n > 100 << 20"
    ),
    "page tables": (
        "m = mmap.mmap(-1, 80 << 30, flags=0x4022); m.madvise(mmap.MADV_NOHUGEPAGE)\n"
        "t = 0\n"
        "for i in range(0, len(m), 2 << 20): t += m[i]"
    ),
}


def held(way):
    done = contained("python3", "-c", START + way + "\n" + HOLD)
    if b"HELD" not in done.stdout:
        show(done.stdout[-300:])
        ended_by_limit(done)


for name, way in WAYS.items():
    attempt(name, lambda: held(way))
