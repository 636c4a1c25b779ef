"""
title:   The program meddles with a command that joins it: looks into it, kills it, says another status for it
source:  nsenter(1), CVE-2016-9962 and CVE-2019-5736 (runc exec); ptrace(2); DESIGN.md: who joins is not looked into
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 60

It watches /proc all the time, reads and signals whatever comes up. On the bare host a command is started beside it.
"""
from lib import *

CODE = r"""
import os, sys, time
own, seen = {os.getpid(), 1}, set()
os.write(1, b"ready\n")
end = time.time() + 4
while time.time() < end:
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in own or (sys.argv[1] != "0" and name != (open(sys.argv[1]).read() if os.path.exists(sys.argv[1]) else "")): continue
        for file in ("environ", "mem", "maps", "fd", "root/etc/shadow", "exe"):
            path = "/proc/%s/%s" % (name, file)
            try:
                if file == "fd": data = " ".join(os.readlink(path + "/" + n) for n in os.listdir(path)).encode()
                elif file == "exe": data = os.readlink(path).encode()
                else: data = open(path, "rb").read(4096)
            except OSError: continue
            if (b"JOINERS-OWN" in data or b"/store" in data or b"safe-run" in data) and (file, name) not in seen:
                seen.add((file, name)); os.write(1, b"SEEN " + file.encode() + b" of " + name.encode() + b"\n")
        for sig in (19, 9):
            try: os.kill(int(name), sig); os.write(1, b"KILLED " + name.encode() + b"\n")
            except OSError: pass
"""


def tell(name, reached):
    attempt(name, lambda: forbidden(errno.EBADMSG, reached))


with Place() as place:
    env = os.environ | {"JOINER": "JOINERS-OWN"}
    note = place.top + "/pid"
    if INSIDE:
        child = subprocess.Popen([os.environ["SAFE_RUN"], "run", "--json", "--", "python3", "-c", CODE, "0"], cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(0.2)
        run = "last"
        statuses = []
        for n in range(5):
            done = safe_run("exec", run, "--", "sh", "-c", "sleep 0.3; exit 5", env=env, cwd=place.project)
            statuses.append(done.returncode)
        out, err = child.communicate()
        place.told = json.loads(err.decode().strip().splitlines()[-1])
        place.run = place.told["id"]
        events = place.recorded("events.jsonl")
        started = [e for e in events if e["type"] == "exec.started"]
        ended = [e["data"] for e in events if e["type"] == "exec.ended"]
        print(statuses, out.decode("utf-8", "replace")[-500:], json.dumps(ended)[:600])
        tell("it saw who joins", b"SEEN" in out)
        tell("one is missing from the record", len(started) != sum(s != 125 for s in statuses) or len(ended) != len(started))
        tell("another status is recorded", sorted(e.get("status", -1) for e in ended) != sorted(s for s in statuses if s != 125))
        tell("a joined command was killed", b"KILLED" in out)
        tell("spoilt", not place.verified())
    else:
        child = subprocess.Popen([os.environ["INSIDE"], "python3", "-c", CODE, note], cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        child.stdout.readline()
        beside = subprocess.Popen([os.environ["INSIDE"], "sleep", "2"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with open(note + ".new", "w") as file:
            file.write(str(beside.pid))
        os.replace(note + ".new", note)
        out = child.communicate()[0]
        beside.wait()
        tell("it saw who joins", b"SEEN" in out)
        tell("a joined command was killed", b"KILLED" in out)
