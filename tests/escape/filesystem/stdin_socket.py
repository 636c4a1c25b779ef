# title:   Standard input is a socket of the caller's: something is sent back through it
# source:  socket(2), unix(7) SCM_RIGHTS; inetd's way of starting servers
# expect:  ENOTSOCK EBADF ENOTCONN
# fires:   connect
# control: host
# stdin:   socket
# harmless: yes
import socket as sockets

from lib import *


def own():
    return sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM, fileno=os.dup(0))


attempt("written to", lambda: os.write(0, b"out"))
attempt("sent to", lambda: call(44 if platform.machine() == "x86_64" else 206, 0, c(b"out"), 3, 0x4000, 0, 0))
attempt("asked for its peer", lambda: own().getpeername() and None)
attempt("asked for its peer's credentials", lambda: own().getsockopt(sockets.SOL_SOCKET, 17, 12) and None)
attempt("given a descriptor", lambda: own().sendmsg([b"x"], [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, struct.pack("i", 1))]))
attempt("shut down", lambda: own().shutdown(sockets.SHUT_RD))
