# title:   What a run leaves running exchanges directories and links while its supervisor captures them
# source:  CVE-2018-15664 (docker cp), renameat2(2)
# expect:  EACCES
# fires:   read
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# The captured layer would hold DIR/secret. On the bare host a walk that follows links reads on meanwhile.
from lib import *

LEFT = f"""
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None)
os.makedirs("sub", exist_ok=True)
for n in range(40): open(f"sub/f{{n}}", "w").write("x")
open("sub/secret", "w").write("x")
try: os.symlink("{DIR}", "out")
except OSError: pass
if os.fork(): time.sleep(0.1); os._exit(0)
os.setsid()
for n in range(1, 65):
    try: signal.signal(n, signal.SIG_IGN)
    except (OSError, ValueError): pass
if os.fork(): os._exit(0)
null = os.open("/dev/null", os.O_RDWR)
for n in range(3): os.dup2(null, n)
end = time.monotonic() + 2
while time.monotonic() < end: libc.renameat2(-100, b"sub", -100, b"out", 2)
"""

for _ in range(4):
    with Place() as place:
        place.write("sub/kept")
        place.captured("/usr/bin/python3", "-c", LEFT)
        if INSIDE:
            told = place.safe_run("diff").stdout
            attempt("it is captured", lambda: b"CANARY-" in told and told or forbidden(errno.EACCES, None))
            place.applied("sub")
            path = place.project + "/sub/secret"
            attempt("it is applied", lambda: forbidden(errno.EACCES, not os.path.islink(place.project + "/sub") and os.path.exists(path) and "CANARY-" in open(path).read()))
        else:
            end, got = time.monotonic() + 1.5, b""
            while time.monotonic() < end and b"CANARY-" not in got:
                try:
                    got = read(place.project + "/sub/secret")
                except OSError:
                    pass
            attempt("it is read", lambda: b"CANARY-" in got and got or forbidden(errno.EACCES, None))
