"""
title:   It shows another name and other arguments than it was started with
source:  prctl(2) PR_SET_NAME, PR_SET_MM; proc_pid_cmdline(5): the program may overwrite it; setproctitle(3)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

The report names what was started, by its digest. On the bare host the reader looks into /proc while it runs.
"""
from lib import *
import hashlib

CODE = r"""
import ctypes, time
libc = ctypes.CDLL(None)
libc.prctl(15, b"innocent", 0, 0, 0)
stat = open("/proc/self/stat").read().rsplit(") ", 1)[1].split()
start, end = int(stat[45]), int(stat[46])
ctypes.memset(start, 0, end - start); ctypes.memmove(start, b"/bin/innocent", 14)
print("ready", flush=True)
time.sleep(0.5)
"""
with Place() as place:
    if INSIDE:
        place.captured("python3", "-c", CODE)
        report = place.recorded("run_report.json")
        attempt("its arguments", lambda: forbidden(errno.EBADMSG, report["command"]["argv"] != ["python3", "-c", CODE]))
        path = report["digests"]["executable"]["path"]
        with open(path, "rb") as file:
            digest = "sha256:" + hashlib.sha256(file.read()).hexdigest()
        attempt("its executable", lambda: forbidden(errno.EBADMSG, "python" not in path or report["digests"]["executable"]["digest"] != digest))
        attempt("spoilt", lambda: forbidden(errno.EBADMSG, not place.verified()))
    else:
        child = subprocess.Popen(["python3", "-c", CODE], stdout=subprocess.PIPE)
        child.stdout.readline()
        seen = open(f"/proc/{child.pid}/cmdline").read() + open(f"/proc/{child.pid}/comm").read()
        child.wait()
        attempt("its arguments", lambda: forbidden(errno.EBADMSG, "innocent" in seen))
