# title:   Links that a run left lead out of the project once they are applied, and what is written by them goes there
# source:  symlink(7); CVE-2021-32803 and CVE-2021-37701 (archives with links)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
from lib import *

with Place() as place:
    for name in ["sub/f", "a/b/f", "f", "dir/f"]:
        place.write(name)
    os.symlink("a/b", place.project + "/way")
    depth = "../" * 30
    script = f"""
        ln -s {DIR}/targets absolute; ln -s {depth}{DIR}/targets far; ln -s ../../../../../../../..{DIR}/targets up
        ln -s a/b/../../../x climbing; ln -s way/../../../{os.path.relpath(DIR, place.project)}/targets through
        ln -s ././/../x dots; ln -s .. above; ln -s ../.. sub/above; ln -s //{DIR}/targets slashes
        mkdir -p deep/er/est; ln -s ../../../x deep/er/est/inside; ln -s ../../../../x deep/er/est/outside
        mkdir -p m/n/o; ln -s ../../../x m/n/o/l; mv m/n/o o
        rm -r dir; ln -s {DIR}/targets dir
        rm f; ln -s {DIR}/target f
        ln -s absolute second; ln -s /proc/self/cwd/../.. magic; ln -s '' empty 2>/dev/null
        ln -s {DIR}/targets 'new
line'; ln -s {DIR}/targets "$(printf 'not\\377utf')"
        mkdir -p .git/objects/info .git/refs; ln -s {DIR}/targets .git/objects/aa; ln -s ../../../../.. .git/refs/up
        echo safe >safe
    """
    place.captured("sh", "-c", script)
    place.applied()
    place.applied()
    out = []
    for top, dirs, files in os.walk(place.project):
        for name in dirs + files:
            path = os.path.join(top, name)
            if os.path.islink(path) and not os.path.realpath(path).startswith(place.project):
                out.append(os.path.relpath(path, place.project))
    attempt("a link that leads out is there", lambda: forbidden(errno.EACCES, out))
    for name in ["absolute", "far", "up", "through", "slashes", "dir", "second"]:
        try:
            write(f"{place.project}/{name}/written", flags=os.O_CREAT)
        except OSError:
            pass
    attempt("a file is made by one", lambda: forbidden(errno.EACCES, os.listdir(DIR + "/targets")))
    if INSIDE and not os.path.exists(place.project + "/safe"):
        sys.exit("nothing was applied at all")
