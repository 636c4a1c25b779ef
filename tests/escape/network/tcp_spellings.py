"""
title:   A listener of the host's is connected to, its address written in every way
source:  inet_aton(3), ipv6(7) mapped addresses, tcp(7); CVE-2021-29921 (octal addresses)
expect:  EACCES EPERM ENETUNREACH ECONNREFUSED EAFNOSUPPORT EADDRNOTAVAIL ENOENT EHOSTUNREACH
fires:   connect
control: host
harmless: yes
"""
from lib import *

PORT = int(ARGS["tcp"])
V4 = ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "0", "0.0.0.0", "localhost"]
V6 = ["::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "::", "::1"]


def connect(family, host, kind=socket.SOCK_STREAM, protocol=0):
    with socket.socket(family, kind, protocol) as s:
        s.settimeout(2)
        try:
            s.connect((host, PORT))
        except socket.gaierror:
            raise OSError(errno.ENOENT, host)


def without_waiting():
    with socket.socket() as s:
        s.setblocking(False)
        if s.connect_ex(("127.0.0.1", PORT)) not in (0, errno.EINPROGRESS):
            raise OSError(errno.ECONNREFUSED, "")
        time.sleep(0.1)
        s.send(b"x")


def from_a_thread():
    said = []

    def work():
        try:
            connect(socket.AF_INET, "127.0.0.1")
        except OSError as error:
            said.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if said:
        raise said[0]


def bound_first():
    with socket.socket() as s:
        s.bind(("127.0.0.2", 0))
        s.connect(("127.0.0.1", PORT))


def by_bash():
    done = subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{PORT}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise OSError(errno.ECONNREFUSED, "")


for host in V4:
    attempt(f"IPv4 {host}", lambda: connect(socket.AF_INET, host))
for host in V6:
    attempt(f"IPv6 {host}", lambda: connect(socket.AF_INET6, host))
attempt("multipath", lambda: connect(socket.AF_INET, "127.0.0.1", socket.SOCK_STREAM, 262))
attempt("close on exec, not blocking", lambda: connect(socket.AF_INET, "127.0.0.1", socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
attempt("without waiting", without_waiting)
attempt("from another thread", from_a_thread)
attempt("bound first", bound_first)
attempt("by a shell", by_bash)
