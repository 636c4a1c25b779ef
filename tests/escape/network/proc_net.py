"""
title:   It learns what listens and who speaks on the host
source:  proc_pid_net(5), sysfs(5); landlock(7) knows nothing of it
expect:  ENOENT EACCES EPERM ENODATA ENOTDIR EINVAL
fires:   call
control: host

It is a success where the ground's listener, or another interface than a loopback, is named.
"""
from lib import *

PORT = "%04X" % int(ARGS["tcp"])
WANTED = [f":{PORT} ".encode(), ARGS["abstract"].encode(), (DIR + "/listen.sock").encode()]


def names(path):
    data = b""
    fd = os.open(path, os.O_RDONLY)
    try:
        while piece := os.read(fd, 1 << 16):
            data += piece
    finally:
        os.close(fd)
    return forbidden(errno.ENODATA, any(word in data for word in WANTED))


def interfaces(path):
    found = [n for n in os.listdir(path) if n not in ("lo", "all", "default", "bonding_masters")]
    return forbidden(errno.ENODATA, found)


for top in ("/proc/net", "/proc/self/net", f"/proc/self/task/{os.getpid()}/net", "/proc/1/net", f"/proc/{os.getppid()}/net", f"/proc/{VICTIM}/net"):
    for name in ("tcp", "tcp6", "unix", "udp"):
        attempt(f"{top}/{name}", lambda: names(f"{top}/{name}"))
for path in ("/sys/class/net", "/sys/devices/virtual/net", "/proc/sys/net/ipv4/conf", "/proc/net/dev_snmp6"):
    attempt(path, lambda: interfaces(path))


def other():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as s:
        s.bind((0, 0))
        s.send(struct.pack("=IHHII", 72, 20, 0x301, 1, 0) + struct.pack("=BBBBI", 2, 6, 0, 0, 1 << 10) + bytes(48))
        s.settimeout(2)
        data = s.recv(1 << 16)
        return forbidden(errno.ENODATA, struct.pack(">H", int(ARGS["tcp"])) in data)


attempt("socket diagnosis", other)
attempt("names of interfaces", lambda: forbidden(errno.ENODATA, [n for _, n in socket.if_nameindex() if n != "lo"]))
