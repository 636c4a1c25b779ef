"""
title:   The command is a link, and leads elsewhere when it is executed than when it was hashed
source:  CWE-59, CWE-367; execveat(2) with a descriptor; fexecve(3)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 60

It leads to `true` and to `false` in turns: the status tells which ran, the report's digest which is said to have run.
"""
from lib import *
import hashlib, shutil

TRIES = tries(40)
TRUE, FALSE = (os.path.realpath(shutil.which(n)) for n in ("true", "false"))
DIGESTS = {"sha256:" + hashlib.sha256(open(p, "rb").read()).hexdigest(): s for p, s in ((TRUE, 0), (FALSE, 1))}


def link(place, to):
    os.symlink(to, place.project + "/fresh")
    os.replace(place.project + "/fresh", place.project + "/job")


def lied():
    with Place() as place:
        link(place, TRUE)
        if not INSIDE:
            said = DIGESTS["sha256:" + hashlib.sha256(open(place.project + "/job", "rb").read()).hexdigest()]
            link(place, FALSE)
            return forbidden(errno.EBADMSG, contained(place.project + "/job").returncode != said)
        stop, counts = threading.Event(), {"true": 0, "refused": 0, "lied": 0}

        def swap():
            n = 0
            while not stop.is_set():
                n += 1
                link(place, (TRUE, FALSE)[n % 2])
                time.sleep((n * 37 % 2000) / 200_000)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(TRIES):
                done = subprocess.run([os.environ["SAFE_RUN"], "run", "--json", "--mount", f"{place.project}:/job", "--", "/job/job"], cwd=place.top + "/",
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                if done.returncode not in (0, 1):
                    counts["refused"] += 1
                    continue
                told = json.loads(done.stderr.decode().strip().splitlines()[-1])
                with open(told["dir"] + "/run_report.json") as file:
                    said = json.load(file)["digests"]["executable"]["digest"]
                counts["true" if DIGESTS.get(said) == done.returncode else "lied"] += 1
        finally:
            stop.set()
            thread.join()
        print(counts)
        return forbidden(errno.EBADMSG, counts["lied"])


attempt("one program hashed, the other run", lied)
