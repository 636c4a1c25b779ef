"""
title:   What was given as a secret variable stands in the evidence, or where the next run sees it
source:  CWE-532 (secrets in logs), CWE-214 (visible process information); DESIGN.md: no values of environment variables
expect:  ENOENT
fires:   call
control: host
runs:    outside
only:    process

The program uses the value without writing it. All that the run left is searched, exported evidence too. On the bare host a recorder
writes down what it started, as `env` prints it.
"""
from lib import *

CODE = "import hashlib, os\nprint(hashlib.sha256(os.environ.get('TOKEN', '').encode()).hexdigest())\nopen('made', 'w').write('x')\n"
SEEK = r"""
import glob, os, sys
word = bytes.fromhex(sys.argv[1])
for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ") + ["/etc/environment", "/etc/profile"] + [os.path.join(t, f) for top in (".", "/tmp", "/dev/shm") for t, _, fs in os.walk(top) for f in fs]:
    if path.startswith("/proc/%d/" % os.getpid()): continue
    try:
        if word in open(path, "rb").read(1 << 20): print("SEEN", path)
    except OSError: pass
"""


def holding(top, value):
    found = []
    for here, _, names in os.walk(top):
        for name in names:
            path = os.path.join(here, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    if value.encode() in file.read():
                        found.append(path)
    return found


WAYS = {
    "named with its value": lambda v: (["-e", f"TOKEN={v}"], {}),
    "passed on": lambda v: (["-e", "TOKEN"], {"TOKEN": v}),
    "in a policy": lambda v: (["--policy", "policy.yaml"], {}),
    "of a run that is refused": lambda v: (["-e", f"TOKEN={v}", "--mount", "/nonexistent:/x"], {}),
    "in a session": lambda v: (["--session", "one", "-e", f"TOKEN={v}"], {}),
}
for name, way in WAYS.items():
    with Place() as place:
        value = "value" + os.urandom(12).hex()
        store = place.top + "/store"
        if not INSIDE:
            os.mkdir(store)
            with open(store + "/run.log", "w") as log:
                subprocess.run(["sh", "-c", "env; exec \"$@\"", "log", "python3", "-c", CODE], env=os.environ | {"TOKEN": value}, cwd=place.project, stdout=log)
            attempt(f"{name}: in the evidence", lambda: forbidden(errno.ENOENT, holding(store, value)))
            continue
        words, more = way(value)
        env = os.environ | more | {"SAFE_RUN_WORKDIR_BASE": store, "SAFE_RUN_KEY_DIR": place.top + "/keys"}
        with open(place.top + "/policy.yaml", "w") as file:
            file.write(f"apiVersion: safe-run/v1\nmetadata: {{name: one}}\nextends: standard\nmounts: []\nruntime: {{command: python3, args: [-c, 'pass'], env: {{TOKEN: {value}}}}}\n")
        words = [place.top + "/policy.yaml" if w == "policy.yaml" else w for w in words]
        report = place.top + "/out/report.json"
        os.mkdir(place.top + "/out")
        command = [] if "--policy" in words else ["--", "python3", "-c", CODE]
        done = safe_run("run", *words, "--report", report, *command, env=env, cwd=place.project)
        print(name, done.returncode, done.stdout[-300:].decode("utf-8", "replace"))
        attempt(f"{name}: in the evidence", lambda: forbidden(errno.ENOENT, holding(store, value)))
        attempt(f"{name}: in what was taken out", lambda: forbidden(errno.ENOENT, holding(place.top + "/out", value)))
        attempt(f"{name}: said", lambda: forbidden(errno.ENOENT, value.encode() in done.stdout))
        session = ["--session", "one"] if "--session" in words else []
        seen = safe_run("run", *session, "--", "python3", "-c", SEEK, value.encode().hex(), env=env | {"TOKEN": ""}, cwd=place.project).stdout
        attempt(f"{name}: to the next run", lambda: forbidden(errno.ENOENT, b"SEEN" in seen))
