# title:   What a run sets by hand in its captured layer leads the next run of the session to hidden files
# source:  overlayfs.rst: redirect, metacopy, opaque, whiteouts and their xattrs; CVE-2023-32629
# expect:  EACCES
# fires:   read
# control: root
# runs:    outside
# only:    process
# seconds: 30
#
# The layer of a session is mounted again. What says in it "my content is that file below" must not be the program's to say:
# .env holds DIR/secret's word here. On the bare host root mounts such a layer.
from lib import *

MARK = """
import ctypes, os, stat
libc = ctypes.CDLL(None, use_errno=True)
def tries(name, *keys):
    for space in ("user.overlay.", "trusted.overlay.", "user.overlay.overlay.", "trusted.overlay.overlay."):
        for key, value in keys:
            try: os.setxattr(name, space + key, value)
            except OSError as e: pass
open("bait", "w").close(); os.truncate("bait", 64)
tries("bait", ("metacopy", b""), ("redirect", b"/.env"), ("origin", b""))
open("bait2", "w").close()
tries("bait2", ("metacopy", bytes(4)), ("redirect", b".env"))
for name, to in (("lead", b"/conf"), ("lead2", b"conf"), ("lead3", b"/../../.."), ("lead4", b"/")):
    os.makedirs(name, exist_ok=True)
    tries(name, ("redirect", to), ("impure", b"y"), ("opaque", b"n"))
tries("conf", ("opaque", b"n"), ("redirect", b"/conf"))
tries(".", ("redirect", b"/"), ("opaque", b"n"), ("impure", b"y"))
for name in (".env", "conf/.env", "white"):
    try: os.unlink(name)
    except OSError: pass
    try: os.mknod(name, stat.S_IFCHR, 0)
    except OSError: pass
# Made and removed, so that the layer has a word of its own about the name.
for name in (".env", "conf/.env"):
    try:
        open(name, "w").write("mine"); os.unlink(name)
        os.mkdir(name); os.rmdir(name)
        os.symlink("bait", name); os.unlink(name)
    except OSError: pass
os.rename("conf", "conf2") if os.path.isdir("conf") else None
os.mkdir("conf")
os.rename("conf2", "conf3")
"""
LOOK = """
import os
for top, dirs, files in os.walk("."):
    for name in files:
        try: print(top, name, open(os.path.join(top, name), errors="replace").read(100))
        except OSError as e: print(top, name, e)
for name in (".env", "conf/.env", "conf3/.env", "lead/.env", "lead2/.env", "lead3/secret", "lead4/.env", "bait", "bait2"):
    try: print(name, open(name).read(100))
    except OSError: pass
"""
word = open(DIR + "/secret").read()
with Place() as place:
    if INSIDE:
        for name in [".env", "conf/.env"]:
            place.write(name, word)
        place.write("conf/kept")
        name = ["--session", f"escape-{os.getpid()}"]
        for script in [LOOK, MARK, LOOK, MARK, LOOK]:
            told = place.captured("/usr/bin/python3", "-c", script, words=name)
            attempt("a hidden file is read", lambda: forbidden(errno.EACCES, b"CANARY-" in told and told))
        told = place.safe_run("diff").stdout
        attempt("a hidden file is in the diff", lambda: forbidden(errno.EACCES, b"CANARY-" in told and told))
        place.applied()
        for hidden in [".env", "conf/.env"]:
            attempt("a hidden file is gone", lambda: forbidden(errno.EACCES, not os.path.isfile(f"{place.project}/{hidden}")))
    else:
        # An upper layer whose file has no content but that of the lower's /secret, with a mask over that name.
        script = f"""
            mount -t tmpfs none {place.project} && cd {place.project} && mkdir upper work mask merged && mknod mask/secret c 0 0 &&
            truncate -s 24 upper/bait && python3 -c 'import os
os.setxattr("upper/bait", "trusted.overlay.metacopy", b""); os.setxattr("upper/bait", "trusted.overlay.redirect", b"/secret")' &&
            mount -t overlay none -o lowerdir={DIR},upperdir=upper,workdir=work,metacopy=on,redirect_dir=on merged && cat merged/bait
        """
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        attempt("a redirected file is read", lambda: forbidden(errno.EACCES, b"CANARY-" in done.stdout and done.stdout))
        if not b"CANARY-" in done.stdout:
            show(done.stdout)
