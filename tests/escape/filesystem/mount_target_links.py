# title:   A run makes the place of the next run's mount a link that leads out
# source:  CVE-2024-42472 (Flatpak), CVE-2019-19921 (runc)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# In a session the second run begins with what the first left. A place for the mount must neither be made outside nor the mount
# lie elsewhere. On the bare host the place is made by its path.
from lib import *

with Place() as place:
    os.mkdir(place.top + "/data")
    with open(place.top + "/data/f", "w") as file:
        file.write("data\n")
    place.write("sub/kept")
    place.write("made/kept")
    for what, script, target in [
        ("a directory", f"rm -r sub; ln -s {DIR}/targets sub", "sub/place"),
        ("a directory, upwards", f"rm -rf sub; ln -s $(realpath --relative-to=. {DIR}/targets) sub", "sub/place"),
        ("the place itself", f"rm -rf made/place; ln -s {DIR}/targets made/place", "made/place"),
        ("the place as a file", f"rm -rf made/place; ln -s {DIR}/target made/place", "made/place"),
        ("a link into /proc", "rm -rf sub; ln -s /proc/1/cwd sub", "sub/place"),
        ("a link to the system", "rm -rf sub; ln -s /etc sub", "sub/place"),
    ]:
        # On the bare host only what leads to the ground.
        if not INSIDE and DIR not in script:
            continue
        name = f"escape-{os.getpid()}"
        place.captured("sh", "-c", script, words=["--session", name])
        if INSIDE:
            words = ["--session", name, "--mount", f"{place.top}/data:{place.project}/{target}:ro"]
            done = safe_run("run", "--quiet", *words, "--", "sh", "-c", f"ls -la sub made; cat {target}/f; echo changed >{target}/written; cat sub/secret", cwd=place.project)
            show(done.stdout)
        else:
            try:
                os.makedirs(f"{place.project}/{target}", exist_ok=True)
            except OSError:
                pass
        attempt(what, lambda: forbidden(errno.EACCES, os.listdir(DIR + "/targets") or "untouched" not in open(DIR + "/target").read()))
        attempt("made in the project", lambda: forbidden(errno.EACCES, INSIDE and [n for n in ("sub/place", "made/place") if os.path.lexists(f"{place.project}/{n}")]))
        if INSIDE:
            place.safe_run("discard")
