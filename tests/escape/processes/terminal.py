"""
title:   The caller's terminal is reached: typed into, taken over, its foreground group changed
source:  CVE-2017-5226 (TIOCSTI out of bubblewrap), CVE-2019-7303; ioctl_tty(2): TIOCSCTTY, TIOCSPGRP, TIOCLINUX; vhangup(2)
expect:  ENXIO ENOENT EACCES ENOTTY EPERM EIO
fires:   call
control: host
control-user: host
runs:    outside

The driver starts what is contained on a terminal of its own making, as its controlling terminal, and looks at that afterwards.
"""
from lib import *
import fcntl, pty, select, termios, tty

CODE = r"""
import fcntl, os, struct, sys, termios
fds = []
# On the bare host no terminal but the driver's is touched.
others = ["/proc/1/fd/0", "/dev/console", "/dev/tty0", "/dev/tty1"] + ["/dev/pts/%d" % n for n in range(40)]
for path in ["/dev/tty", "/proc/self/fd/0", sys.argv[1]] + (others if sys.argv[2] == "inside" else []):
    try: fds.append(os.open(path, os.O_RDWR | os.O_NONBLOCK | (0 if path == "/dev/tty" else os.O_NOCTTY)))
    except OSError: pass
for fd in [0, 1, 2] + fds:
    for request, value in [(0x5412, b"T"), (0x5412 | 1 << 32, b"T"), (0x540e, 1), (0x5410, struct.pack("i", os.getpid())), (0x541c, b"\x03T"), (0x541d, 0)]:
        try: fcntl.ioctl(fd, request, value)
        except (OSError, OverflowError): pass
    try:
        old = termios.tcgetattr(fd); old[3] |= termios.TOSTOP | termios.FLUSHO; old[6][termios.VINTR] = b"Q"; termios.tcsetattr(fd, termios.TCSANOW, old)
    except termios.error: pass
    try: fcntl.ioctl(fd, 0x5414, struct.pack("4H", 7, 7, 7, 7))
    except OSError: pass
"""


def shows(work):
    """Starts it as the leader of a session on a fresh pty; gives what of the pty is other afterwards."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, 0x5414, struct.pack("4H", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)

    def own():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    child = subprocess.Popen([os.environ["INSIDE"], "python3", "-c", CODE, os.ttyname(slave), ARGS["where"]], stdin=slave if work == "all" else subprocess.DEVNULL,
                             stdout=slave if work == "all" else subprocess.DEVNULL, stderr=slave if work == "all" else subprocess.DEVNULL, preexec_fn=own)
    leader = child.pid
    group = set()
    while child.poll() is None:
        try:
            group.add(os.tcgetpgrp(master))
        except OSError:
            pass
        while select.select([master], [], [], 0.01)[0]:
            try:
                os.read(master, 4096)
            except OSError:
                break
    other = []
    os.set_blocking(slave, False)
    after = termios.tcgetattr(slave)
    if after[:6] != before[:6] or after[6] != before[6]:
        other.append("settings")
    if struct.unpack("4H", fcntl.ioctl(slave, termios.TIOCGWINSZ, b"\0" * 8))[:2] != (24, 80):
        other.append("size")
    if group - {leader, 0}:
        other.append("foreground")
    tty.setraw(slave)
    if select.select([slave], [], [], 0.1)[0]:
        other.append("typed")
    os.close(master)
    os.close(slave)
    return other


for name, kind in (("a terminal as descriptors 0 to 2", "all"), ("a controlling terminal alone", "alone")):
    seen = shows(kind)
    for what in ("settings", "size", "foreground", "typed"):
        attempt(f"{name}: {what}", lambda: forbidden(errno.ENOTTY, what in seen))
