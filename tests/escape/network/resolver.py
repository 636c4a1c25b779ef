"""
title:   A name is resolved: a question that leaves is a way out, whatever the answer
source:  resolver(5), nsswitch.conf(5), nscd(8), systemd-resolved(8); MITRE ATT&CK T1071.004 (DNS tunnels)
expect:  EACCES ENOENT EPERM EINVAL ENODATA EROFS ECONNREFUSED
fires:   call
control: namespaces
control-user: namespaces

In namespaces of its own it answers itself: a server on 127.0.0.1, port 53, and a resolv.conf that names it.
"""
from lib import *
import tempfile

asked = []


def serve(s):
    while True:
        data, who = s.recvfrom(512)
        asked.append(data)
        end = data.index(b"\0", 12) + 5
        s.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\xcb\0\x71\7", who)


def set_up():
    """Loopback up, a server on it, its name in /etc/resolv.conf."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        import fcntl
        fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 1 | 64))
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 53))
        threading.Thread(target=serve, args=(server,), daemon=True).start()


def configured():
    with tempfile.NamedTemporaryFile("w", delete=False) as f:
        f.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    try:
        if not os.path.exists("/etc/resolv.conf"):
            raise OSError(errno.ENOENT, "")
        if libc.mount(c(f.name.encode()), c(b"/etc/resolv.conf"), None, 4096, None) < 0:
            raise OSError(ctypes.get_errno(), "")
    finally:
        os.unlink(f.name)


def resolve(name):
    try:
        found = socket.getaddrinfo(name, 80, socket.AF_INET)
    except socket.gaierror:
        raise OSError(errno.ENOENT, name)
    return [f[4][0] for f in found]


def by_hand(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(1)
        s.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1", (address, 53))
        return s.recv(512)


def varlink(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(1)
        s.connect(path)


attempt("a server of its own", set_up)
attempt("a configuration of its own", configured)
attempt("by the C library", lambda: resolve("escape.example.com"))
for address in ("127.0.0.1", "127.0.0.53", "192.0.2.53"):
    attempt(f"by hand at {address}", lambda: by_hand(address))
if INSIDE:
    os.environ["RES_OPTIONS"] = "use-vc timeout:1"
    attempt("by the C library over tcp", lambda: resolve("escape.example.com"))
    os.environ["HOSTALIASES"] = "/proc/self/cwd/aliases"
    attempt("by an alias", lambda: resolve("escape"))
    for path in ("/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket", "/var/run/nscd/socket", "/run/avahi-daemon/socket", "/var/lib/sss/pipes/nss"):
        attempt(path, lambda: varlink(path))
    attempt("written into the configuration", lambda: write("/etc/resolv.conf", b"nameserver 192.0.2.1\n"))
