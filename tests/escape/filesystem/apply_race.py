# title:   While changes are applied, a directory and a link out are exchanged again and again
# source:  renameat2(2) RENAME_EXCHANGE; CVE-2018-15664 (docker cp)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 40
#
# The one who exchanges is a process of the same user. On the bare host a copy that opens by path is what loses.
from lib import *
import multiprocessing

FILES, ROUNDS = 60, 3


def exchange(stop, *pairs):
    while not stop.value:
        for a, b in pairs:
            libc.renameat2(-100, c(a.encode()), -100, c(b.encode()), 2)


for round in range(ROUNDS):
    with Place() as place:
        for n in range(FILES):
            place.write(f"sub/f{n}")
            place.write(f"g{n}")
        script = "for f in sub/* g*; do echo changed >$f; done; for n in 1 2 3 4 5 6 7 8 9; do echo new >sub/new$n; rm sub/f$n; done"
        os.symlink(DIR + "/targets", place.top + "/out")
        os.symlink(DIR + "/target", place.top + "/file")
        if INSIDE:
            place.captured("sh", "-c", script)
        stop = multiprocessing.Value("b", 0)
        pairs = [(place.project + "/sub", place.top + "/out")] + [(f"{place.project}/g{n}", place.top + "/file") for n in range(8)]
        attacker = multiprocessing.Process(target=exchange, args=(stop, *pairs))
        attacker.start()
        time.sleep(0.05)
        try:
            # Conflicts are to be expected, and are overridden by name: the more is written.
            for _ in range(4):
                if INSIDE:
                    place.applied("sub", *[f"g{n}" for n in range(FILES)])
                    place.applied()
                else:
                    place.captured("sh", "-c", script, stderr=subprocess.DEVNULL)
        finally:
            stop.value = 1
            attacker.join()
        attempt("written outside", lambda: forbidden(errno.EACCES, os.listdir(DIR + "/targets") or "untouched" not in open(DIR + "/target").read()))
