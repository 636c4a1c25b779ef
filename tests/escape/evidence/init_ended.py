"""
title:   What watches over the program ends first, so that nobody tells how the program ended
source:  pid_namespaces(7); setrlimit(2) RLIMIT_CPU kills an init too; the out-of-memory killer's choice, proc_pid_oom_score_adj(5)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 60

It would exit with 7. Whatever becomes of its init, the report must not say that it ended well, nor blame a limit that was not met. On
the bare host a shell watches, and is killed by what it started.
"""
from lib import *

KILL = "import os\nfor pid in ({1, os.getppid()} if %r else {os.getppid()}):\n for sig in (9, 19, 15, 6, 11, 31):\n  try: os.kill(pid, sig)\n  except OSError: pass\n"
WAYS = {
    "killed": KILL + "os._exit(7)",
    "no processor time": (
        "import os, resource, time\n"
        "try: resource.prlimit(1, resource.RLIMIT_CPU, (0, 1))\n"
        "except (OSError, ValueError): os._exit(7)\n"
        "end = time.time() + 8\n"
        "while time.time() < end:\n"
        " for _ in range(50):\n"
        "  if os.fork() == 0:\n"
        "   if os.fork() == 0: os._exit(0)\n"
        "   os._exit(0)\n"
        " try:\n"
        "  while os.waitpid(-1, 0): pass\n"
        " except OSError: pass\n"
        "os._exit(7)"
    ),
    "no files, no memory": (
        "import os, resource\n"
        "for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_STACK, resource.RLIMIT_NPROC):\n"
        " try: resource.prlimit(1, kind, (0, 0))\n"
        " except (OSError, ValueError): pass\n"
        "for _ in range(100):\n"
        " pid = os.fork()\n"
        " if pid == 0:\n"
        "  if os.fork() == 0: os._exit(0)\n"
        "  os._exit(0)\n"
        " os.waitpid(pid, 0)\n"
        "os._exit(7)"
    ),
    "killed for memory": (
        "import os\n"
        "for path in ('/proc/self/oom_score_adj', '/proc/1/oom_score_adj'):\n"
        " try: open(path, 'w').write('-1000' if 'self' in path else '1000')\n"
        " except OSError: pass\n"
        "os._exit(7)"
    ),
}


def ends(name, code):
    with Place() as place:
        if INSIDE:
            place.captured("python3", "-c", code % True if "%r" in code else code, words=["--timeout", "9s"])
            result = place.recorded("run_report.json")["result"]
            print(result)
            return forbidden(errno.EBADMSG, result["status"] != 7 or result["limitsHit"] or not place.verified())
        # The watcher writes down how it ended, once it has.
        note = place.top + "/note"
        code = (code % False if "%r" in code else code).replace("prlimit(1,", "prlimit(os.getppid(),").replace("/proc/1/", "/proc/self/")
        subprocess.run(["sh", "-c", f'"$@"; echo $? > {note}', "watch", os.environ["INSIDE"], "python3", "-c", code], stdin=subprocess.DEVNULL)
        return forbidden(errno.EBADMSG, not os.path.exists(note))


for name, code in WAYS.items():
    attempt(name, lambda: ends(name, code))
