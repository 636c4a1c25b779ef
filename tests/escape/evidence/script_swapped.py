"""
title:   The script is another one when it runs than when it was hashed
source:  CWE-367 (time of check, time of use); execve(2) on interpreter scripts; CVE-2018-15664's race
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 60
limit:   A script is opened by its interpreter, by its path: who may write its directory from outside can exchange it after it
    was hashed.

While it starts, again and again, somebody who may write to the mounted directory swaps two versions by rename. Each says which it is
and the report's digest must be of that one, or the run be refused.
"""
from lib import *
import hashlib

VERSIONS = {v: f"#!/bin/sh\nprintf 'version %s' {v}\nexit 0\n".encode() for v in "AB"}
DIGESTS = {"sha256:" + hashlib.sha256(text).hexdigest(): v for v, text in VERSIONS.items()}
TRIES = tries(40)


def put(place, name, version):
    with open(f"{place.project}/{name}", "wb") as file:
        file.write(VERSIONS[version])
    os.chmod(f"{place.project}/{name}", 0o755)


def swapper(place, stop):
    """RENAME_EXCHANGE of the script with the other version, at a pace that hits every part of a start."""
    a, b = (f"{place.project}/{n}".encode() for n in ("job.sh", "other.sh"))
    pause = 0
    while not stop.is_set():
        libc.renameat2(-100, c(a), -100, c(b), 2)
        pause = (pause + 37) % 2000
        time.sleep(pause / 200_000)


def lied():
    with Place() as place:
        put(place, "job.sh", "A")
        put(place, "other.sh", "B")
        if not INSIDE:
            # The naive order: hashed, swapped, run.
            said = hashlib.sha256(open(place.project + "/job.sh", "rb").read()).hexdigest()
            os.replace(place.project + "/other.sh", place.project + "/job.sh")
            ran = contained(place.project + "/job.sh").stdout[-1:].decode()
            return forbidden(errno.EBADMSG, DIGESTS["sha256:" + said] != ran)
        stop, counts = threading.Event(), {"true": 0, "refused": 0, "lied": 0}
        thread = threading.Thread(target=swapper, args=(place, stop))
        thread.start()
        try:
            for _ in range(TRIES):
                done = subprocess.run([os.environ["SAFE_RUN"], "run", "--json", "--mount", f"{place.project}:/job", "--", "/job/job.sh"], cwd=place.top + "/",
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                ran = done.stdout[-1:].decode()
                if done.returncode == 125 or not ran:
                    counts["refused"] += 1
                    continue
                told = json.loads(done.stderr.decode().strip().splitlines()[-1])
                with open(told["dir"] + "/run_report.json") as file:
                    script = json.load(file)["digests"]["script"]
                counts["true" if DIGESTS[script["digest"]] == ran else "lied"] += 1
        finally:
            stop.set()
            thread.join()
        print(counts)
        return forbidden(errno.EBADMSG, counts["lied"])


attempt("one script hashed, the other run", lied)
