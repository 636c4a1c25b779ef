"""
title:   Times of files are set so that its version looks older, or newer, than what the host changed meanwhile
source:  utimensat(2), touch(1); rsync(1) --update and make(1) trust modification times
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

The host changes a file while it runs. Its own version must be a conflict whatever times it gives it. On the bare host the newer of two
versions wins, as with `cp --update`.
"""
from lib import *

CODE = "import os, sys, time\nos.write(1, b'ready\\n')\nsys.stdin.readline()\nopen('shared', 'w').write('of the program')\nos.utime('shared', (int(sys.argv[1]), int(sys.argv[1])))\nos.utime('.', (int(sys.argv[1]), int(sys.argv[1])))\n"
for name, when in (("long ago", 1), ("far ahead", 4_000_000_000), ("just now", int(time.time())), ("before the epoch", -1000)):
    with Place() as place:
        path = place.write("shared", "before")
        command = ["python3", "-c", CODE, str(when)]
        where = place.project
        if INSIDE:
            command = [os.environ["SAFE_RUN"], "run", "--json", "--", *command]
        else:
            where = place.top + "/copy"
            os.mkdir(where)
        child = subprocess.Popen(command, cwd=where, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.readline()
        place.write("shared", "of the host")
        err = child.communicate(b"go\n")[1]
        if INSIDE:
            place.told = json.loads(err.decode().strip().splitlines()[-1])
            place.run = place.told["id"]
            print(place.safe_run("apply", "--yes").stdout[-300:].decode("utf-8", "replace"))
        else:
            subprocess.run(["cp", "--update", "--preserve=timestamps", where + "/shared", path])
        attempt(f"lost what the host wrote, {name}", lambda: forbidden(errno.EBADMSG, open(path).read() != "of the host"))
