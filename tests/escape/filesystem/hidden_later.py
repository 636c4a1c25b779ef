# title:   A file that would be hidden comes into being while the program runs
# source:  overlayfs.rst: "Changes to underlying filesystems"; the hide list of a policy
# expect:  EACCES
# fires:   read
# control: host
# runs:    outside
# only:    process
# seconds: 30
# limit:   Names that are to be hidden are searched for once, before the program starts: a file that gets such a name later,
#          from outside, is seen.
#
# Somebody writes .env while the program that must not see it waits. DIR/secret's word is in each of them.
from lib import *

NAMES = [".env", "sub/.env", ".env.local", "new/.env", ".netrc", "sub/.npmrc", "moved/.env"]
WAIT = f"""
import os, time
names = {NAMES}
# Not to be remembered as absent: half of them are asked for at once, half only later.
for name in names[::2]: os.path.exists(name)
print("ready", flush=True)
time.sleep(1)
end = time.monotonic() + 3
while time.monotonic() < end:
    for name in names:
        try: print(name, open(name).read(), flush=True)
        except OSError: pass
    try: os.listdir("."), os.listdir("sub")
    except OSError: pass
    time.sleep(0.05)
"""
word = open(DIR + "/secret").read()
with Place() as place:
    place.write("sub/kept")
    wall = [os.environ["SAFE_RUN"], "run", "--quiet", "--"] if INSIDE else []
    ran = subprocess.Popen([*wall, "/usr/bin/python3", "-c", WAIT], cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ran.stdout.readline()
    os.makedirs(place.top + "/aside")
    with open(place.top + "/aside/.env", "w") as file:
        file.write(word)
    os.rename(place.top + "/aside", place.project + "/moved")
    for name in NAMES[:-1]:
        place.write(name, word)
    told = ran.stdout.read()
    ran.wait()
    for name in NAMES:
        lines = [line for line in told.splitlines() if line.startswith(name.encode() + b" ") and b"CANARY-" in line]
        attempt(f"{name} is read", lambda: forbidden(errno.EACCES, lines[:1]))
