"""
title:   More memory of a program's own than the limit
source:  mmap(2), mlock(2), MAP_POPULATE; setrlimit(2) RLIMIT_AS counts each process alone
expect:  ENOMEM
fires:   call
control: host
runs:    outside
flags:   --memory 64MB --timeout 2m
seconds: 60

Each is a run of its own: it holds 160 MB for a second, longer than any sample, and then says so.
"""
from lib import *

HOLD = "time.sleep(1.2); print('HE' + 'LD', flush=True)"
TOUCH = "import mmap, os, sys, time\ndef touch(m):\n for i in range(0, len(m), 4096): m[i] = 1\n"
WAYS = {
    "one mapping": "m = mmap.mmap(-1, 160 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); touch(m)",
    "shared mapping": "m = mmap.mmap(-1, 160 << 20); touch(m)",
    "heap in small pieces": "m = [bytes(1000) for _ in range(160 * 1024)]",
    "populated": "m = mmap.mmap(-1, 160 << 20, flags=0x8022)",
    "many small processes": (
        "p = [os.pipe() for _ in range(8)]\n"
        "for r, w in p:\n"
        " if os.fork() == 0:\n"
        "  m = mmap.mmap(-1, 20 << 20, flags=34); touch(m); os.write(w, b'x'); time.sleep(1.2); os._exit(0)\n"
        "for r, w in p: os.read(r, 1)\n"
    ),
    "a copy after a fork": (
        "m = mmap.mmap(-1, 40 << 20, flags=34); touch(m)\n"
        "for n in range(3):\n"
        " if os.fork() == 0: touch(m); time.sleep(1.5); os._exit(0)\n"
        "time.sleep(0.3)"
    ),
}


def held(way):
    done = contained("python3", "-c", TOUCH + way + "\n" + HOLD)
    if b"HELD" not in done.stdout:
        ended_by_limit(done)


for name, way in WAYS.items():
    attempt(name, lambda: held(way))
