"""
title:   The disk under the run store is filled, so that what it did cannot be written down
source:  CWE-770, CWE-778; MITRE ATT&CK T1562.006; auditd.conf(5) disk_full_action
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 60

In a mount namespace of the driver's own the store lies on 8 MB. A run ends with 125, or its record is whole; it never ends well without
one. On the bare host a recorder writes behind the program, and loses the end.
"""
from lib import *

CODE = "import os, sys\ntry:\n for n in range(200):\n  with open('f%d' % n, 'wb', 0) as f: f.write(b'x' * (1 << 20))\nexcept OSError: pass\nsys.exit(0)"


def small(path):
    """8 MB at PATH, seen by nobody else."""
    os.makedirs(path, exist_ok=True)
    if os.getuid():
        uid, gid = os.getuid(), os.getgid()
        if libc.unshare(0x10020000) < 0:
            raise OSError(ctypes.get_errno(), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    elif libc.unshare(0x20000) < 0 or libc.mount(None, c(b"/"), None, 0x44000, None) < 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if libc.mount(c(b"none"), c(path.encode()), c(b"tmpfs"), 0, c(b"size=8m,mode=777")) < 0:
        raise OSError(ctypes.get_errno(), "mount")


with Place() as place:
    store = place.top + "/store"
    small(store)
    if INSIDE:
        env = os.environ | {"SAFE_RUN_WORKDIR_BASE": store, "SAFE_RUN_KEY_DIR": place.top + "/keys"}
        for name, words in (("a session, kept in the store", ["--session", "one"]), ("more disk than memory", ["--memory", "64MB", "--disk", "1GB"])):
            done = subprocess.run([os.environ["SAFE_RUN"], "run", "--json", *words, "--", "python3", "-c", CODE], cwd=place.project, env=env,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            verify = safe_run("report", "verify", "last", env=env, cwd=place.project)
            print(name, done.returncode, done.stderr[-300:].decode("utf-8", "replace"), verify.returncode, verify.stdout[-200:].decode("utf-8", "replace"))
            attempt(name, lambda: forbidden(errno.EBADMSG, done.returncode not in (125, 137) and verify.returncode != 0))
    else:
        contained("python3", "-c", CODE, cwd=store)
        try:
            with open(store + "/events.jsonl", "w") as file:
                file.write('{"type": "run.end"}\n' * 1000)
        except OSError:
            pass
        attempt("the end is lost", lambda: forbidden(errno.EBADMSG, '{"type": "run.end"}' not in open(store + "/events.jsonl").read()))
