# title:   A run leaves pipes, sockets and devices where files were, for whoever reads or applies them
# source:  fifo(7), mknod(2); CVE-2018-15664
# expect:  EACCES
# fires:   call
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# Who opens a pipe that nobody writes to waits for ever; who makes the device again gives it away.
from lib import *

MAKE = """
import errno, os, socket, stat
def made(work, *words):
    try: work(*words)
    except OSError as error:
        # A monitor that has none of them in what it shares.
        if error.errno != errno.ENXIO: raise
for name in ("pipe", "file", "dir/file", "Makefile"):
    try: os.unlink(name)
    except OSError: pass
    made(os.mkfifo, name, 0o666)
for name in ("socket", "other"):
    try: os.unlink(name)
    except OSError: pass
    made(socket.socket(socket.AF_UNIX).bind, name)
for n, (kind, device) in enumerate([(stat.S_IFCHR, 0), (stat.S_IFCHR, os.makedev(1, 3)), (stat.S_IFBLK, os.makedev(7, 0)), (stat.S_IFCHR, os.makedev(1, 1))]):
    try: os.mknod(f"device{n}", kind | 0o666, device)
    except OSError: pass
open("new", "w").write("x")
"""
with Place() as place:
    for name in ["file", "dir/file", "other"]:
        place.write(name)
    place.captured("/usr/bin/python3", "-c", MAKE)
    verbs = [("diff",), ("apply", "--dry-run"), ("apply", "--yes"), ("apply", "pipe", "file", "dir/file", "socket", "other", "device0", "--yes"), ("discard",)]
    for words in verbs if INSIDE else []:
        start = time.monotonic()
        place.safe_run(*words)
        # Nobody may hang: what is measured is not how fast it is.
        attempt(f"{words[0]} waits", lambda: forbidden(errno.EACCES, time.monotonic() - start > 20))
    special = [n for n in os.listdir(place.project) if not stat.S_ISREG(os.lstat(f"{place.project}/{n}").st_mode) and not os.path.isdir(f"{place.project}/{n}")]
    attempt("something special is there", lambda: forbidden(errno.EACCES, special))
    if INSIDE and not os.path.exists(place.project + "/new"):
        sys.exit("nothing was applied at all")
