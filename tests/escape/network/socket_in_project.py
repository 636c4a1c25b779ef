"""
title:   A daemon of the host listens in the directory that is captured, and hands a descriptor to whoever connects
source:  unix(7) SCM_RIGHTS; overlayfs: a socket of the lower layer has another inode there
expect:  ECONNREFUSED ENOENT EACCES EPERM
fires:   call
control: host
runs:    outside

SECURITY.md calls a socket in a mounted directory reachable. In a captured one the overlay stands between.
"""
from lib import *

CODE = r"""
import array, os, socket, sys
for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
    for path in ("daemon.sock", os.getcwd() + "/daemon.sock", "link", "/proc/self/cwd/daemon.sock", "/proc/self/fd/%d/daemon.sock" % os.open(".", os.O_RDONLY)):
        s = socket.socket(socket.AF_UNIX, kind)
        s.settimeout(1)
        try:
            s.connect(path)
            s.send(b"hello")
            data, fds, _, _ = socket.recv_fds(s, 99, 4)
            print("REACHED", path)
            for fd in fds: print("PASSED", os.pread(fd, 99, 0))
        except OSError as e:
            print(path, e)
try:
    os.rename("daemon.sock", "moved.sock"); s = socket.socket(socket.AF_UNIX); s.connect("moved.sock"); print("REACHED moved")
except OSError as e: print("moved", e)
"""
with Place() as place:
    secret = open(place.top + "/held", "w+")
    secret.write("held by the daemon")
    secret.flush()
    server = socket.socket(socket.AF_UNIX)
    server.bind(place.project + "/daemon.sock")
    os.chmod(place.project + "/daemon.sock", 0o777)
    os.symlink("daemon.sock", place.project + "/link")
    server.listen(20)

    def serve():
        while True:
            try:
                got, _ = server.accept()
                socket.send_fds(got, [b"x"], [secret.fileno()])
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    out = contained("python3", "-c", CODE, cwd=place.project).stdout
    print(out.decode("utf-8", "replace"))
    attempt("connected", lambda: forbidden(errno.ECONNREFUSED, b"REACHED" in out))
    attempt("a descriptor passed", lambda: forbidden(errno.ECONNREFUSED, b"PASSED" in out))
