"""
title:   What the kernel counts for the user who started the run is used up: his other programs get no more of it
source:  user_namespaces(7), proc_sys_user(5) max_inotify_instances, mq_overview(7) RLIMIT_MSGQUEUE, pipe(7) pipe-user-pages-soft; kernel/ucount.c counts upwards
expect:  EMFILE
fires:   call
control: host
runs:    outside
alone:   yes
seconds: 40

What a namespace uses is charged to whoever made it too. While the program holds as much as it can get, the driver tries to get
one for itself. It is a success where that fails although it did not before. (Landlock keeps a queue from being opened, not
from being made.)
"""
from lib import *

START = "import ctypes, os, sys, time\nlibc = ctypes.CDLL(None, use_errno=True)\nhold = []\n"
END = "\nos.write(1, b'ready %d\\n' % n)\ntime.sleep(3)\n"
SPREAD = "n = 0\nfor p in range(20):\n r, w = os.pipe()\n if os.fork() == 0:\n  m = 0\n  while m < 600 and {one}: m += 1\n  os.write(w, b'%05d' % m); time.sleep(3); os._exit(0)\n n += int(os.read(r, 5)); os.close(w); os.close(r)\n"
QUEUE = (
    "class A(ctypes.Structure): _fields_ = [(k, ctypes.c_long) for k in 'fmscabcd']\n"
    "n = 0\n"
    "while n < 64:\n"
    " q = libc.syscall(240, ctypes.c_char_p(b'escape-%d-%d' % (os.getpid(), n)), 0o302, 0o600, ctypes.byref(A(0, 10, 8192)))\n"
    " if q < 0 and ctypes.get_errno() != 13: break\n"
    " n += 1\n"
    "import atexit; atexit.register(lambda: [libc.syscall(241, ctypes.c_char_p(b'escape-%d-%d' % (os.getpid(), k))) for k in range(n)])\n"
)


class Attr(ctypes.Structure):
    _fields_ = [(k, ctypes.c_long) for k in "fmscabcd"]


def watch():
    os.close(call(294, 0))


def queue():
    name = b"escape-own-%d" % os.getpid()
    fd = call(240, c(name), 0o302, 0o600, ctypes.byref(Attr(0, 10, 8192)))
    call(241, c(name))
    os.close(fd)


WAYS = {
    "instances of inotify": (SPREAD.format(one="libc.syscall(294, 0) >= 0"), watch),
    "bytes in message queues": (QUEUE, queue),
}


def starved(way, own):
    own()
    child = subprocess.Popen([os.environ["INSIDE"], "python3", "-c", START + way + END], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print("held:", child.stdout.readline().decode().strip())
    try:
        own()
    except OSError as error:
        print("the driver gets", errno.errorcode[error.errno])
        return True
    finally:
        child.stdout.read()
        child.wait()
    raise OSError(errno.EMFILE, "")


for name, (way, own) in WAYS.items():
    attempt(name, lambda: starved(way, own))
