"""
title:   More is written than the disk limit, or more files are made
source:  write(2), fallocate(2), mmap(2); tmpfs(5) size and nr_inodes; setrlimit(2) RLIMIT_FSIZE counts each file alone
expect:  ENOSPC EFBIG EDQUOT
fires:   call
control: host
flags:   --disk 16MB
seconds: 60

24 MB, or 4,500 files (the limit on those is 4,096), in each of the ways; all of it is removed again at once.
"""
from lib import *
import mmap, shutil

MB = b"x" * (1 << 20)
PLACES = [p for p in (os.getcwd(), "/tmp", "/dev/shm") if os.access(p, os.W_OK)]


def room(place):
    path = os.path.join(place, "escape-%d" % os.getpid())
    os.mkdir(path)
    return path


def within(places, work):
    rooms = [room(p) for p in places]
    try:
        work(rooms)
    finally:
        for path in rooms:
            shutil.rmtree(path)


def one(rooms):
    with open(rooms[0] + "/f", "wb", 0) as f:
        for _ in range(24):
            if f.write(MB) < len(MB):
                raise OSError(errno.ENOSPC, "")


def several(rooms):
    for n in range(8):
        with open(f"{rooms[n % len(rooms)]}/{n}", "wb", 0) as f:
            for _ in range(3):
                if f.write(MB) < len(MB):
                    raise OSError(errno.ENOSPC, "")


def allocated(rooms):
    for n in range(8):
        with open(f"{rooms[0]}/{n}", "wb", 0) as f:
            os.posix_fallocate(f.fileno(), 0, 3 << 20)


def unlinked(rooms):
    files = []
    for n in range(8):
        files.append(open(f"{rooms[n % len(rooms)]}/{n}", "wb", 0))
        os.unlink(files[-1].name)
        for _ in range(3):
            if files[-1].write(MB) < len(MB):
                raise OSError(errno.ENOSPC, "")


def holes(rooms):
    """Files that are full of holes are filled through a mapping; a process that finds no room for a page gets SIGBUS."""
    pid = os.fork()
    if pid == 0:
        for n in range(8):
            with open(f"{rooms[0]}/{n}", "wb+", 0) as f:
                f.truncate(3 << 20)
                m = mmap.mmap(f.fileno(), 3 << 20)
                for at in range(0, len(m), 4096):
                    m[at] = 1
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise OSError(errno.ENOSPC, "")


def sparse(rooms):
    with open(rooms[0] + "/f", "wb", 0) as f:
        f.truncate(1 << 30)


def names(rooms):
    for n in range(4500):
        os.close(os.open(f"{rooms[n % len(rooms)]}/{n}", os.O_CREAT | os.O_WRONLY))


def folders(rooms):
    for n in range(4500):
        os.mkdir(f"{rooms[n % len(rooms)]}/{n}")


for place in PLACES:
    for way in (one, several, allocated, unlinked, holes, sparse):
        attempt(f"{way.__name__} in {place}", lambda: within([place], way))
attempt("several over all places", lambda: within(PLACES, several))
attempt("unlinked over all places", lambda: within(PLACES, unlinked))
attempt("names over all places", lambda: within(PLACES, names))
attempt("folders over all places", lambda: within(PLACES, folders))
