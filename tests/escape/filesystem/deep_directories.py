# title:   Directories so deep, or names so many, that whoever walks them fails and leaves them behind
# source:  path_resolution(7) PATH_MAX; GNU tar's and coreutils' reports of stack exhaustion
# expect:  EACCES
# fires:   call
# control: host
# runs:    outside
# only:    process
# seconds: 60
#
# On the bare host Python's own removal, which recurses, fails at the same tree.
from lib import *
import shutil

MAKE = """
import os
for n in range(1100):
    os.mkdir("d" * 60); os.chdir("d" * 60)
open("bottom", "w").write("x")
os.symlink("../" * 1000, "up")
"""
MANY = "import os\nfor n in range(4000): open('f%d' % n, 'w').close()\n"


with Place() as place:
    place.captured("/usr/bin/python3", "-c", MAKE + ("" if not INSIDE else "os.chdir('" + place.project + "')\n" + MANY))
    if INSIDE:
        place.safe_run("diff", "--names")
        done = place.safe_run("discard")
        attempt("it cannot be discarded", lambda: forbidden(errno.EACCES, done.returncode))
        runs = os.environ["SAFE_RUN_WORKDIR_BASE"] + "/runs"
        attempt("its folder stays", lambda: forbidden(errno.EACCES, os.path.exists(f"{runs}/{place.run}")))
    else:
        try:
            shutil.rmtree(place.project + "/" + "d" * 60)
        except (OSError, RecursionError):
            pass
        attempt("it stays", lambda: forbidden(errno.EACCES, os.path.exists(place.project + "/" + "d" * 60)))
