"""
title:   Credentials that lie in the project are read: .env, .netrc, .npmrc, .pypirc, those of .git/config
source:  dotenv; git-config(1) url, http.extraHeader; overlayfs: whiteouts, user.overlay.*; MITRE ATT&CK T1552.001
expect:  ENOENT
fires:   read
control: host
runs:    outside

Hidden is by a layer of an overlay, so the ways are those around one: directories moved, whiteouts replaced, attributes set, links, a
second overlay's names, the copy that git makes.
"""
from lib import *

CODE = r"""
import glob, os, subprocess, sys
names = sys.argv[1:]
def see(how, path):
    try:
        data = open(path, "rb").read()
    except OSError: return
    if b"CANARY-" in data: print("READ", how, path, data.decode("latin-1"), flush=True)
def every(how):
    for top, _, files in os.walk("."):
        for name in files: see(how, os.path.join(top, name))
def quiet(work, *args):
    try: return work(*args)
    except OSError: return None
for name in names:
    see("name", name); see("cwd", "/proc/self/cwd/" + name); see("case", name.upper()); see("dots", "sub/../" + name)
    quiet(os.link, name, "linked"); see("link", "linked"); quiet(os.unlink, "linked")
    quiet(os.symlink, name, "soft"); see("symlink", "soft"); quiet(os.unlink, "soft")
    fd = quiet(os.open, name, os.O_PATH)
    if fd is not None: see("handle", "/proc/self/fd/%d" % fd)
every("walk")
quiet(os.rename, "sub", "moved"); every("directory moved")
quiet(os.rename, ".git", "git-moved"); every("repository moved")
quiet(os.rename, "git-moved", ".git")
for name in names:
    quiet(os.mkdir, name) or quiet(os.rmdir, name); see("whiteout replaced", name)
    fd = quiet(os.open, name, os.O_CREAT | os.O_RDWR)
    if fd is not None: os.close(fd); see("made anew", name); quiet(os.unlink, name); see("removed again", name)
    for key in ("user.overlay.opaque", "user.overlay.redirect", "user.overlay.metacopy", "user.overlay.whiteout", "user.overlay.overlay.whiteout"):
        quiet(os.setxattr, ".", key, b"y"); quiet(os.removexattr, ".", key); quiet(os.setxattr, "moved", key, b"n"); quiet(os.removexattr, "moved", key)
    see("attributes", name)
every("at the end")
for command in (["git", "config", "--list"], ["git", "remote", "-v"], ["git", "show", "HEAD:.env"], ["tar", "cf", "-", "."], ["grep", "-r", "CANARY", "."]):
    try: out = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired): continue
    if b"CANARY-" in out: print("READ by", command, out[:500], flush=True)
"""
NAMES = [".env", ".env.local", ".env.production", ".netrc", ".npmrc", ".pypirc", "sub/.env", "sub/deep/.npmrc", ".git/config"]
with Place() as place:
    secret = open(DIR + "/secret").read().strip()
    for name in NAMES[:-1]:
        place.write(name, f"TOKEN={secret}\n")
    place.write("sub/other")
    subprocess.run(["git", "init", "-q", "."], cwd=place.project, stderr=subprocess.DEVNULL)
    place.write(".git/config", f'[core]\n\trepositoryformatversion = 0\n[remote "origin"]\n\turl = https://user:{secret}@example.com/x.git\n'
                f'[http "https://example.com/"]\n\textraHeader = Authorization: Basic {secret}\n[credential]\n\thelper = "!f() {{ echo password={secret}; }}; f"\n')
    out = contained("python3", "-c", CODE, *NAMES, cwd=place.project).stdout.decode("utf-8", "replace")
    print(out)
    attempt("any of them", lambda: forbidden(errno.ENOENT, "READ " in out))
