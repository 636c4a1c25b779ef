"""
title:   The signing key and the evidence of other runs are read, where the store lies below what is mounted
source:  OPERATIONS.md: the run store, keys; in-toto and cosign keys left in work trees: CWE-312
expect:  ENOENT
fires:   call
control: host
runs:    outside
only:    process

Store and keys lie in a directory that is captured, that is mounted, or that holds the project; the program walks all it sees. On the
bare host files stand for them.
"""
from lib import *

CODE = r"""
import os, sys
seen = 0
for top in ["/", "/proc/self/cwd/..", "/proc/self/fd/3", *sys.argv[1:]]:
    for here, folders, files in os.walk(top):
        folders[:] = [f for f in folders if not os.path.join(here, f).startswith(("/proc", "/usr", "/sys", "/dev", "/etc", sys.prefix))]
        for name in files:
            seen += 1
            if seen > 20000: sys.exit()
            try: data = open(os.path.join(here, name), "rb").read(100000)
            except OSError: continue
            if b"PRIVATE KEY" in data: print("KEY", os.path.join(here, name), flush=True)
            if b'"run.begin"' in data or b'"run.launch"' in data or b'"RunReport"' in data: print("EVIDENCE", os.path.join(here, name), flush=True)
for fd in range(20):
    try:
        data = os.pread(fd, 4096, 0)
        if b"PRIVATE KEY" in data: print("KEY descriptor", fd)
    except OSError: pass
"""


def seen(name, word, out):
    attempt(name, lambda: forbidden(errno.ENOENT, word.encode() in out))


for kind in ("captured", "mounted", "writable", "session"):
    with Place() as place:
        base = place.project if kind == "captured" else place.top
        store, keys = base + "/store", base + "/keys"
        env = os.environ | {"SAFE_RUN_WORKDIR_BASE": store, "SAFE_RUN_KEY_DIR": keys}
        if INSIDE:
            safe_run("run", "--", "true", env=env, cwd=place.project if kind != "captured" else place.top)
            words = {"mounted": ["--mount", f"{place.top}:/outer:ro"], "writable": ["--mount", f"{place.top}:/outer:rw"], "session": ["--session", "one"]}.get(kind, [])
            done = safe_run("run", *words, "--", "python3", "-c", CODE, "/outer", place.top, store, keys, env=env, cwd=place.project)
            out = done.stdout
            print(kind, "ended with", done.returncode, out[-300:].decode("utf-8", "replace"))
        else:
            for path, text in ((keys + "/default.pem", "PRIVATE KEY"), (store + "/runs/x/events.jsonl", '"run.launch"')):
                os.makedirs(os.path.dirname(path))
                with open(path, "w") as file:
                    file.write(text)
            out = subprocess.run(["python3", "-c", CODE.replace('"/", ', ""), store, keys], stdout=subprocess.PIPE, cwd=place.project).stdout
        seen(f"key, {kind}", "KEY", out)
        seen(f"evidence of another run, {kind}", "EVIDENCE", out)
