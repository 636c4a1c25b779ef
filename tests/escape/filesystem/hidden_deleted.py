# title:   A run deletes, replaces or moves what it was not shown, and apply carries it over
# source:  overlayfs.rst: whiteouts and opaque directories
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 40
#
# .env is hidden in a directory that the program may delete. On the bare host the directory is in DIR/targets.
from lib import *

WAYS = {
    "rm -r": "rm -r conf",
    "rm -r and mkdir": "rm -r conf; mkdir conf; echo x >conf/f",
    "a file in its place": "rm -r conf; echo x >conf",
    "a link in its place": "rm -r conf; ln -s other conf",
    "moved": "mv conf conf2",
    "moved, another in its place": "mv conf conf2; mkdir conf; echo x >conf/g",
    "the name itself": "echo mine >conf/.env",
    "the name as a directory": "mkdir conf/.env; echo x >conf/.env/f",
    "the name as a link": "ln -s other conf/.env",
    "the name, made and removed": "echo x >conf/.env; rm conf/.env",
    "marked as gone": "python3 -c 'import os; open(\"conf/.env\", \"w\").close(); os.setxattr(\"conf/.env\", \"user.safe-run.whiteout\", b\"y\")'",
    "marked as a device": "python3 -c 'import os, stat; os.mknod(\"conf/.env\", stat.S_IFCHR, 0)'",
    "marked by rename": "python3 -c 'import ctypes; open(\"conf/.env\", \"w\").close(); ctypes.CDLL(None).renameat2(-100, b\"conf/.env\", -100, b\"conf/x\", 4)'",
    "marked opaque": "python3 -c 'import os; [os.setxattr(\"conf\", k, b\"y\") for k in (\"user.overlay.opaque\", \"user.overlay.whiteouts\")]'; echo x >conf/f",
    "all of it": "rm -rf ./* ./.??*",
}
for what, script in WAYS.items():
    with Place() as place:
        if not INSIDE:
            place.project = tempfile.mkdtemp(dir=DIR + "/targets")
        place.write("conf/.env", "KEY=of worth\n")
        place.write("conf/f")
        place.captured("sh", "-c", f"({script}) 2>/dev/null; echo x >new")
        place.applied()
        kept = place.project + "/conf/.env"
        attempt(what, lambda: forbidden(errno.EACCES, not os.path.isfile(kept) or os.path.islink(kept) or "of worth" not in open(kept).read()))
