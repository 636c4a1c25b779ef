# title:   Standard input is the caller's terminal: what is typed there next is pushed into it
# source:  CVE-2017-5226 (bubblewrap), CVE-2019-10063 and CVE-2019-7303 (high bits of the request); ioctl_tty(2) TIOCSTI
# expect:  EPERM ENOTTY ENXIO EIO EBADF ENOENT
# fires:   change
# control: host
# stdin:   terminal
#
# The control is an ordinary user's only where dev.tty.legacy_tiocsti is on.
import fcntl

from lib import *

TIOCSTI, TIOCSCTTY, TIOCSWINSZ = 0x5412, 0x540E, 0x5414
IOCTL = 16 if platform.machine() == "x86_64" else 29

for high in (0, 1 << 32, 1 << 63, 0x7FFFFFFF << 32):
    for fd in (0, 1, 2):
        attempt(f"pushed into {fd}, request {high | TIOCSTI:#x}", lambda: call(IOCTL, fd, high | TIOCSTI, c(b"x")) and None)
attempt("its controlling terminal", lambda: os.open("/dev/tty", os.O_RDWR))
attempt("taken as controlling terminal", lambda: os.setsid() and None or fcntl.ioctl(0, TIOCSCTTY, 1))
attempt("its size", lambda: fcntl.ioctl(0, TIOCSWINSZ, struct.pack("4H", 1, 1, 0, 0)) and None)
attempt("opened anew", lambda: fcntl.ioctl(os.open("/proc/self/fd/0", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK), TIOCSTI, b"x") and None)
