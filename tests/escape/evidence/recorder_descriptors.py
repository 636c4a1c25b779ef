"""
title:   Whatever descriptor leads to the recorder is written to: its log, its channel, its pipes
source:  open(2) O_CLOEXEC; proc_pid_fd(5); CVE-2024-21626, CVE-2016-9962 (descriptors left open in a container)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

On the bare host the recorder leaves its log open to what it starts, as many do.
"""
from lib import *

CODE = r"""
import os, socket
line = b'{"type":"escape.forged"}\n'
for pid in ["self"] + (["1", str(os.getppid())] if os.environ.get("SAFE_RUN") == "1" else []):
    for fd in range(0, 64):
        path = "/proc/%s/fd/%d" % (pid, fd)
        if pid == "self" and fd > 2:
            for work in (lambda: os.write(fd, line), lambda: os.pwrite(fd, line, 0), lambda: os.ftruncate(fd, 0) or os.write(fd, line), lambda: socket.socket(fileno=os.dup(fd)).send(line)):
                try: work()
                except OSError: pass
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR):
            try:
                if "pipe" in os.readlink(path): continue
                new = os.open(path, flags | os.O_NONBLOCK); os.write(new, line); os.close(new)
            except OSError: pass
print("done")
"""


def enters():
    with Place() as place:
        if INSIDE:
            place.captured("python3", "-c", CODE)
            forged = any(event.get("type") == "escape.forged" for event in place.recorded("events.jsonl"))
            return forbidden(errno.EBADMSG, forged or not place.verified())
        with open(place.top + "/events.jsonl", "w+b") as log:
            subprocess.run(["python3", "-c", CODE], pass_fds=[log.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            log.seek(0)
            return forbidden(errno.EBADMSG, b"escape.forged" in log.read())


attempt("a forged event in the record", enters)
