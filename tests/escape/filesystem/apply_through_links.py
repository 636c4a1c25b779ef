# title:   Between the run and its apply, files and directories become links that lead out
# source:  CVE-2018-15664 (docker cp), CVE-2021-30465; symlink(7)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
#
# Each is named when it is applied, so that no conflict stands in the way. On the bare host the program itself writes, through
# the links.
from lib import *

# What stands at the names of the project when changes are applied.
TURNED = {
    "directory": (["sub/f", "sub/new"], lambda p: (os.rename(p("sub"), p("was")), os.symlink(DIR + "/targets", p("sub")))),
    "directory by a way up": (["sub/f", "sub/new"], lambda p: (os.rename(p("sub"), p("was")), os.symlink(os.path.relpath(DIR + "/targets", p("")), p("sub")))),
    "directory of directories": (["sub/deep/f"], lambda p: (os.rename(p("sub"), p("was")), os.mkdir(p("sub")), os.symlink(DIR + "/targets", p("sub/deep")))),
    "file": (["f"], lambda p: (os.unlink(p("f")), os.symlink(DIR + "/target", p("f")))),
    "file that goes": (["victim/target"], lambda p: (os.rename(p("victim"), p("was")), os.symlink(DIR, p("victim")))),
    "link in a chain": (["f"], lambda p: (os.unlink(p("f")), os.symlink("g", p("f")), os.symlink(DIR + "/target", p("g")))),
    "directory that goes": (["gone"], lambda p: (os.rename(p("gone"), p("was")), os.symlink(DIR + "/targets", p("gone")))),
    "mode of a directory": (["shut"], lambda p: (os.rename(p("shut"), p("was")), os.symlink(DIR + "/targets", p("shut")))),
}
SCRIPT = "echo changed >sub/f; echo changed >sub/new; echo changed >sub/deep/f; echo changed >f; rm -f victim/target; rm -rf gone; chmod 700 shut"


def ground():
    names = [DIR, DIR + "/targets", DIR + "/target"]
    modes = [(n, os.lstat(n).st_mode, os.lstat(n).st_uid) for n in names if os.path.lexists(n)]
    return modes, os.listdir(DIR + "/targets"), os.path.exists(DIR + "/target") and open(DIR + "/target").read()


for what, (names, turn) in TURNED.items():
    with Place() as place:
        for name in ["sub/f", "sub/deep/f", "f", "victim/target", "gone/f", "shut/f"]:
            place.write(name)
        at = lambda name: f"{place.project}/{name}"
        before = ground()
        if INSIDE:
            place.captured("sh", "-c", SCRIPT)
            turn(at)
            place.applied(*names)
            place.applied()
        else:
            turn(at)
            place.captured("sh", "-c", SCRIPT.replace("rm -rf gone", "rm -rf gone/"))
        attempt(what, lambda: forbidden(errno.EACCES, ground() != before))
