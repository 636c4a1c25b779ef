"""
title:   The one attempt that matters is hidden among thousands, or among more kinds than are told apart
source:  CWE-778 (insufficient logging), CWE-770; auditd(8) backlog; MITRE ATT&CK T1562.006
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 60

Every denied call is counted, and the last kind is named or falls under the others of its call. On the bare host a log of a hundred lines is
kept, as rings of the kernel's do.
"""
from lib import *

CODE = r"""
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(family, n=1):
    for _ in range(n):
        assert libc.syscall(41, ctypes.c_long(family), ctypes.c_long(1), ctypes.c_long(0)) < 0 or int(sys.argv[1])
kind = sys.argv[2]
if kind == "many": tried(2, 20000)
elif kind == "kinds":
    for family in range(46, 300): tried(family)
else:
    for high in range(1, 100): tried(2 | high << 32)
tried(17)
print("done")
"""
for kind, count in (("many", 20001), ("kinds", 255), ("high bits", 100)):
    with Place() as place:
        if INSIDE:
            out = place.captured("python3", "-c", CODE, "0", kind)
            report = place.recorded("run_report.json")
            denied = report["denied"]
            total = sum(d["count"] for d in denied) if isinstance(denied, list) else sum((denied or {}).values()) if isinstance(denied, dict) else denied
            print(kind, out, json.dumps(denied)[:300])
            named = "AF_PACKET" in json.dumps(denied) or "socket (others)" in json.dumps(denied)
            attempt(f"{kind}: fewer than there were", lambda: forbidden(errno.EBADMSG, total != count))
            attempt(f"{kind}: the last is not named", lambda: forbidden(errno.EBADMSG, not named))
            attempt(f"{kind}: spoilt", lambda: forbidden(errno.EBADMSG, not place.verified()))
        else:
            import collections
            log = collections.deque(maxlen=100)
            log.append("AF_PACKET")
            log.extend(["AF_INET"] * min(count, 1000))
            attempt(f"{kind}: the first is not named", lambda: forbidden(errno.EBADMSG, "AF_PACKET" not in log))
