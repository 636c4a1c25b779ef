"""
title:   Something that stays behind writes into the captured layer after its manifest was made
source:  CWE-367; mmap(2) MAP_SHARED; daemon(7); the manifest is what `apply` vouches for
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 40

What is stored must be what was listed, a second after the end too. On the bare host the list is made when the first process ends.
"""
from lib import *
import hashlib

CODE = r"""
import mmap, os, sys, time
def writer(how):
    end, n = time.time() + 3, 0
    fd = os.open("late-" + how, os.O_CREAT | os.O_RDWR, 0o644)
    os.ftruncate(fd, 4096)
    m = mmap.mmap(fd, 4096)
    while time.time() < end:
        n += 1
        if how == "mapped": m[:8] = b"%08d" % n
        elif how == "held": os.pwrite(fd, b"%08d" % n, 0)
        elif how == "unlinked":
            os.unlink("late-unlinked"); fd = os.open("late-unlinked", os.O_CREAT | os.O_RDWR, 0o644); os.pwrite(fd, b"%08d" % n, 0)
        else:
            with open("late-new-%d" % (n % 50), "w") as f: f.write(str(n))
    os._exit(0)
for how in ("mapped", "held", "unlinked", "new"):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(3): os.dup2(null, fd)
            writer(how)
        os._exit(0)
time.sleep(0.3)
"""


def tree(top):
    return {os.path.relpath(os.path.join(here, n), top): hashlib.sha256(open(os.path.join(here, n), "rb").read()).hexdigest() for here, _, names in os.walk(top) for n in names if os.path.isfile(os.path.join(here, n))}


for kind, words in (("a run", []), ("a session", ["--session", "one"])):
    with Place() as place:
        if INSIDE:
            place.captured("python3", "-c", CODE, words=words)
            time.sleep(1)
            done = place.applied(".")
            print(done.stdout.decode("utf-8", "replace")[-300:])
            attempt(f"other than listed in {kind}", lambda: forbidden(errno.EBADMSG, done.returncode != 0 and b"differs" in done.stdout))
            attempt(f"spoilt in {kind}", lambda: forbidden(errno.EBADMSG, not place.verified()))
            before = tree(place.project)
        else:
            contained("python3", "-c", CODE, cwd=place.project)
            before = tree(place.project)
        time.sleep(1)
        attempt(f"written afterwards in {kind}", lambda: forbidden(errno.EBADMSG, tree(place.project) != before))
        if not INSIDE:
            time.sleep(2.5)
