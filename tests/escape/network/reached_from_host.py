"""
title:   A listener inside is reached from the host, and so has a way to be spoken to
source:  tcp(7), udp(7), unix(7), vsock(7); a back door opens from within
expect:  ECONNREFUSED ENOENT ENETUNREACH
fires:   call
control: host
runs:    outside
"""
from lib import *

NAME = "escape-%d" % os.getpid()
TMP = "/tmp" if INSIDE else tempfile.gettempdir()
CODE = r"""
import os, socket, sys, time
port, name = int(sys.argv[1]), sys.argv[2]
held = []
def on(*kind):
    def work(address):
        try:
            s = socket.socket(*kind); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(address)
            if kind[1] != socket.SOCK_DGRAM: s.listen(5)
            held.append(s)
        except OSError as e: print(address, e, flush=True)
    return work
on(socket.AF_INET, socket.SOCK_STREAM)(("0.0.0.0", port))
on(socket.AF_INET, socket.SOCK_STREAM, 262)(("127.0.0.1", port + 1))
on(socket.AF_INET6, socket.SOCK_STREAM)(("::", port + 2))
on(socket.AF_INET, socket.SOCK_DGRAM)(("0.0.0.0", port))
on(socket.AF_UNIX, socket.SOCK_STREAM)("\0" + name)
on(socket.AF_UNIX, socket.SOCK_STREAM)("back.sock")
on(socket.AF_UNIX, socket.SOCK_STREAM)(sys.argv[3] + "/" + name)
on(socket.AF_UNIX, socket.SOCK_STREAM)("/dev/shm/" + name)
on(40, socket.SOCK_STREAM)((2**32 - 1, port))
os.write(1, b"ready\n")
time.sleep(4)
for path in ("back.sock", sys.argv[3] + "/" + name, "/dev/shm/" + name):
    try: os.unlink(path)
    except OSError: pass
"""
with Place() as place, socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    child = subprocess.Popen([os.environ["INSIDE"], "python3", "-c", CODE, str(port), NAME, TMP], cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    while b"ready" not in (line := child.stdout.readline()) and line:
        pass

    def reach(address, *kind):
        with socket.socket(*kind) as s:
            s.settimeout(2)
            s.connect(address)
            if kind[1] == socket.SOCK_DGRAM:
                s.send(b"x")
                time.sleep(0.1)
                s.send(b"x")

    attempt("tcp", lambda: reach(("127.0.0.1", port), socket.AF_INET, socket.SOCK_STREAM))
    attempt("multipath", lambda: reach(("127.0.0.1", port + 1), socket.AF_INET, socket.SOCK_STREAM))
    attempt("tcp, IPv6", lambda: reach(("::1", port + 2), socket.AF_INET6, socket.SOCK_STREAM))
    attempt("udp", lambda: reach(("127.0.0.1", port), socket.AF_INET, socket.SOCK_DGRAM))
    attempt("abstract", lambda: reach("\0" + NAME, socket.AF_UNIX, socket.SOCK_STREAM))
    attempt("path in the project", lambda: reach(place.project + "/back.sock", socket.AF_UNIX, socket.SOCK_STREAM))
    attempt("path in /tmp", lambda: reach(TMP + "/" + NAME, socket.AF_UNIX, socket.SOCK_STREAM))
    attempt("path in /dev/shm", lambda: reach("/dev/shm/" + NAME, socket.AF_UNIX, socket.SOCK_STREAM))
    child.wait()
