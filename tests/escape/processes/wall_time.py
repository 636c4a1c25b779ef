"""
title:   It goes on after the wall time is over
source:  signal(7), setitimer(2), setsid(2), vfork(2); timeout(1) can be outwitted so
expect:  ETIME
fires:   call
control: host
runs:    outside
flags:   --timeout 1s
seconds: 60

Each is a run of its own that says `outlived` after three seconds.
"""
from lib import *

START = "import ctypes, mmap, os, signal, sys, threading, time\ndef live(): time.sleep(3); os.write(1, b'out' + b'lived\\n'); os._exit(0)\n"
WAYS = {
    "asleep": "live()",
    "every signal ignored": "for s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n except (OSError, ValueError): pass\nlive()",
    "every signal blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); live()",
    "in a session of its own, an orphan": "os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); live()",
    "first thread gone": "threading.Thread(target=live).start(); ctypes.CDLL(None).syscall(60, 0)",
    "always another process": (
        "end = time.time() + 3\n"
        "while time.time() < end:\n"
        " if os.fork(): os._exit(0)\n"
        " time.sleep(0.01)\n"
        "os.write(1, b'out' + b'lived\\n')"
    ),
    "output that nobody may stop": "end = time.time() + 3\nwhile time.time() < end: os.write(2, b'x' * 4096)\nlive()",
    "stopped, woken by a child": "p = os.getpid()\nif os.fork() == 0: time.sleep(1.5); os.kill(p, signal.SIGCONT); os._exit(0)\nos.kill(p, signal.SIGSTOP); live()",
    "timers that come all the time": "signal.signal(14, lambda *a: None); signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001); live()",
}


def outlives(way):
    done = contained("python3", "-c", START + way, stderr=subprocess.DEVNULL)
    return forbidden(errno.ETIME, b"outlived" in done.stdout)


for name, way in WAYS.items():
    attempt(name, lambda: outlives(way))
