# title:   Files that are huge and empty fill the disk, or keep their reader busy for ever
# source:  lseek(2) SEEK_HOLE, fallocate(2), truncate(2)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 60
#
# The disk limit is 8 MiB. On the bare host there is none.
from lib import *

MAKE = """
import os
def tries(work):
    try: work()
    except OSError as e: print(e)
for n in range(40):
    tries(lambda: os.truncate(f"huge{n}", (1 << 43) - 1) if os.path.exists(f"huge{n}") else (open(f"huge{n}", "w").close(), os.truncate(f"huge{n}", (1 << 43) - 1)))
for size in (1 << 62, (1 << 63) - 1, 1 << 44, 1 << 50):
    tries(lambda: (open(f"s{size}", "w").close(), os.truncate(f"s{size}", size)))
with open("combed", "w") as f:
    for n in range(200): tries(lambda: os.pwrite(f.fileno(), b"x", n << 30))
tries(lambda: os.posix_fallocate(os.open("allocated", os.O_CREAT | os.O_RDWR, 0o644), 0, 64 << 20))
tries(lambda: [os.link("huge0", f"name{n}") for n in range(200)])
with open("dense", "wb") as f:
    for n in range(64): tries(lambda: f.write(bytes(range(256)) * 4096) and f.flush())
"""


def used(top):
    return sum(os.lstat(os.path.join(path, name)).st_blocks * 512 for path, _, files in os.walk(top) for name in files)


with Place() as place:
    if not INSIDE:
        path = DIR + "/targets/allocated"
        attempt("64 MiB", lambda: os.posix_fallocate(os.open(path, os.O_CREAT | os.O_RDWR, 0o644), 0, 64 << 20))
        sys.exit()
    place.write("kept")
    before = used(os.environ["SAFE_RUN_WORKDIR_BASE"])
    place.captured("/usr/bin/python3", "-c", MAKE, words=["--disk", "8MiB", "--timeout", "20s"])
    # The limit, and once as much for what is noted of it.
    attempt("the store holds more than the limit", lambda: forbidden(errno.EACCES, used(os.environ["SAFE_RUN_WORKDIR_BASE"]) - before > 16 << 20))
    place.safe_run("diff")
    place.applied()
    attempt("the project holds more than the limit", lambda: forbidden(errno.EACCES, used(place.project) > 16 << 20))
    done = place.safe_run("discard")
    attempt("it cannot be discarded", lambda: forbidden(errno.EACCES, done.returncode))
