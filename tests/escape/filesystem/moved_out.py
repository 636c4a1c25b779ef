# title:   The directory in which a program stands is moved out of what it may see, and it goes upwards from there
# source:  CVE-2015-2925 (the root of a bind mount left by rename)
# expect:  EACCES
# fires:   read
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# Who moves it is the user, on the host; the program waits in it. A writable mount, a read-only one and the captured project.
from lib import *

WAIT = f"""
import os, sys, time
at = sys.argv[1]
os.chdir(at)
fd = os.open(".", os.O_RDONLY)
print("ready", flush=True)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    for way in ("../" * n for n in range(1, 40)):
        for start in ("", "{DIR}/"[1:], "ground/"):
            try: print(open(way + start + "secret").read(), flush=True)
            except OSError: pass
    for name in ("..", "../..", "../../.."):
        try: print(open(os.open(name + "/secret", os.O_RDONLY, dir_fd=fd)).read(), flush=True)
        except OSError: pass
    time.sleep(0.05)
"""
for what in ["captured", "rw", "ro"]:
    with Place() as place:
        os.makedirs(place.top + "/data/sub/deep")
        os.makedirs(place.project + "/sub/deep")
        base = place.project if what == "captured" else place.top + "/data"
        words = [] if what == "captured" else ["--mount", f"{place.top}/data:/data:{what}"]
        at = "sub/deep" if what == "captured" else "/data/sub/deep"
        wall = [os.environ["SAFE_RUN"], "run", "--quiet", *words, "--"] if INSIDE else []
        if INSIDE and what == "rw" and os.geteuid() == 0:
            # A writable mount of root's own is refused.
            os.chown(base, 1000, 1000)
        place_at = at if INSIDE else f"{base}/sub/deep"
        ran = subprocess.Popen([*wall, "/usr/bin/python3", "-c", WAIT, place_at], cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        first = ran.stdout.readline()
        if first.strip() != b"ready":
            sys.exit(f"{what} did not start: {first}")
        # Beside DIR's own files; afterwards away again.
        os.rename(base + "/sub/deep", place.top + "/outside")
        with open(place.top + "/secret", "w") as file:
            file.write(open(DIR + "/secret").read())
        told = ran.stdout.read()
        ran.wait()
        attempt(what, lambda: forbidden(errno.EACCES, b"CANARY-" in told and told[:200]))
