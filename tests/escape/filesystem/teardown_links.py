# title:   A run leaves links, locked directories and odd names where its supervisor will look, compare and delete
# source:  CVE-2024-23652 (BuildKit removed what mount points had become), CVE-2018-15664
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 20
#
# Then `diff`, `apply --dry-run`, `gc` and `discard` walk it. On the bare host one link to the ground is followed, and one file
# there unlinked: no more, for a walk that follows whatever it meets is no control but an accident.
from lib import *


def ground():
    target = open(DIR + "/target").read() if os.path.exists(DIR + "/target") else None
    return sorted(os.listdir(DIR)), target, [os.lstat(f"{DIR}/{name}").st_mode for name in sorted(os.listdir(DIR))]


SCRIPT = f"""
    rm -r sub; ln -s {DIR} sub; rm -r deep/er; ln -s $(realpath {DIR}) deep/er; rm -r exchanged; ln -s {DIR}/targets exchanged
    ln -s {DIR}/target file; mkdir many; ln -s {DIR} many/0; ln -s {DIR} many/1
"""
# What leads further than the ground stays behind the wall.
BEHIND = f"""
    ln -s . loop; ln -s ../.. deep/up; ln -s /proc/self/root root; ln -s / slash
    mkdir -p locked/in/side; echo x >locked/in/side/f; ln -s {DIR} locked/in/link; chmod 000 locked/in/side locked/in locked
    mkdir layers work index; ln -s {DIR} layers/0; ln -s {DIR}/target run_report.json; ln -s {DIR} .safe-run
    mkdir ..x ... ./-rf ' '; ln -s {DIR} .../..x; echo x >./-rf/--no-preserve-root; ln -s {DIR} '#work'
    mkdir "$(printf 'a\\nb')"; ln -s {DIR} "$(printf 'a\\nb')/c"
    ln -s {DIR} manifest; ln -s {DIR} 0; ln -s {DIR} 0.manifest; ln -s {DIR}/target 0.applied; ln -s {DIR}/target changes.json
"""

with Place() as place:
    for name in ["sub/target", "sub/f", "deep/er/f", "deep/er/target", "exchanged/f"]:
        place.write(name)
    before = ground()
    place.captured("sh", "-c", SCRIPT + (BEHIND if INSIDE else ""))
    if INSIDE:
        for words in [("diff",), ("diff", "--names"), ("apply", "--dry-run"), ("gc",), ("apply", "--yes")]:
            place.safe_run(*words)
            attempt(" ".join(words), lambda: forbidden(errno.EACCES, ground() != before))
        done = place.safe_run("discard")
        attempt("discard", lambda: forbidden(errno.EACCES, ground() != before))
        attempt("something stays", lambda: forbidden(errno.EACCES, done.returncode))
    else:
        os.unlink(place.project + "/sub/target")
        attempt("a link is followed", lambda: forbidden(errno.EACCES, ground() != before))
