"""
title:   What is typed at the caller's terminal is read, although the program has another standard input
source:  ioctl_tty(2), proc_pid_fd(5), sudo(8) on reading passwords; CVE-2017-5226's other direction
expect:  ENXIO
fires:   read
control: host
runs:    outside

The driver types the ground's canary at a terminal of its own making, the controlling one of what it starts.
"""
from lib import *
import fcntl, pty, termios

CODE = r"""
import os, select, sys, time
fds = []
# On the bare host no terminal but the driver's is touched.
others = ["/proc/self/fd/2", "/proc/1/fd/0", "/dev/console", "/dev/tty0"] + ["/dev/pts/%d" % n for n in range(64)]
for path in ["/dev/tty", sys.argv[1]] + (others if sys.argv[2] == "inside" else []):
    try: fds.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if path == "/dev/tty" else os.O_NOCTTY)))
    except OSError: pass
fds = [fd for fd in fds if os.isatty(fd)]
end = time.time() + 2
while time.time() < end and fds:
    for fd in select.select(fds, [], [], 0.1)[0]:
        try: data = os.read(fd, 999)
        except OSError: data = b""
        if data: os.write(1, b"READ " + data + b"\n")
        else: fds.remove(fd)
"""
secret = open(DIR + "/secret", "rb").read().strip()
for name, error in (("standard input elsewhere", subprocess.DEVNULL), ("standard error on the terminal", None)):
    master, slave = pty.openpty()
    mode = termios.tcgetattr(slave)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, mode)

    def own():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    child = subprocess.Popen([os.environ["INSIDE"], "python3", "-c", CODE, os.ttyname(slave), ARGS["where"]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=slave if error is None else error, preexec_fn=own)
    time.sleep(0.7)
    os.write(master, secret + b"\n")
    out = child.stdout.read()
    child.wait()
    os.close(master)
    os.close(slave)
    print(out.decode("utf-8", "replace"))
    attempt(name, lambda: forbidden(errno.ENXIO, b"READ " in out))
