# title:   A run makes its files setuid, or marks them, and the marks come to the host with apply
# source:  chmod(2), capabilities(7), acl(5); Docker's CVE-2014-6407 and CVE-2014-9356 (archives)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
#
# A file that is setuid to the user who applies gives everybody on the host that user's rights. On the bare host the file is in
# DIR/targets.
from lib import *

SCRIPT = """
    cp /usr/bin/env new; chmod 4755 new; cp /usr/bin/env both; chmod 6777 both; cp /usr/bin/env group; chmod 2755 group
    echo changed >>old; chmod u+s old; chmod u+s kept; mkdir sticky setgid; chmod 1777 sticky; chmod 2777 setgid; echo x >setgid/f
    ln both second; chmod 4711 second; cp -p setuid copied; echo '#!/bin/sh' >setuid; mv moved moved2
    mkdir late; cp /usr/bin/env late/x; chmod 4755 late/x; chmod 000 late
"""
MARK = """
import os, struct
n = 0xFFFFFFFF
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in [(1, 7, n), (2, 7, 65534), (4, 7, n), (16, 7, n), (32, 7, n)])
for name in ["marked", "old", "dir", "."]:
    for key, value in [("system.posix_acl_access", acl), ("system.posix_acl_default", acl), ("user.mark", b"y"), ("security.selinux", b"y\\0"),
                       ("security.capability", b"\\1\\0\\0\\2" + b"\\xff" * 16), ("user.overlay.redirect", b"/x"), ("trusted.mark", b"y"),
                       ("user.safe-run.whiteout", b"y"), ("user.xdg.origin.url", b"x")]:
        try: os.setxattr(name, key, value)
        except OSError: pass
"""

with Place() as place:
    if INSIDE:
        for name in ["old", "kept", "marked", "dir/f"]:
            place.write(name)
        # Setuid on the host already: with other content it is another program.
        place.write("setuid", "#!/bin/sh\nexit\n", 0o4755)
        place.write("moved", "#!/bin/sh\nexit\n", 0o4755)
        place.captured("sh", "-c", SCRIPT + "\necho changed >>marked; echo x >dir/new\n/usr/bin/python3 -c '" + MARK + "'")
        place.applied()
        place.applied("new", "both", "group", "old", "kept", "second", "setuid", "copied", "moved", "moved2", "late", "marked", "dir", "setgid")
        subprocess.run(["chmod", "u+rwx", place.project + "/late"], stderr=subprocess.DEVNULL)
        setuid, marked = [], []
        for top, dirs, files in os.walk(place.project):
            for name in dirs + files + ["."]:
                path = os.path.join(top, name)
                if os.path.isfile(path) and os.stat(path).st_mode & 0o6000:
                    setuid.append(os.path.relpath(path, place.project))
                marked += [f"{name} {key}" for key in os.listxattr(path, follow_symlinks=False) if key != "security.selinux"]
        attempt("a file is setuid or setgid", lambda: forbidden(errno.EACCES, [n for n in setuid if n not in ("moved",)]))
        attempt("a directory is setgid", lambda: forbidden(errno.EACCES, os.path.isdir(place.project + "/setgid") and os.stat(place.project + "/setgid").st_mode & 0o2000))
        attempt("a file is marked", lambda: forbidden(errno.EACCES, marked))
        if "changed" not in open(place.project + "/old").read():
            sys.exit("nothing was applied at all")
    else:
        path = DIR + "/targets/new"
        write(path, flags=os.O_CREAT)
        attempt("a file is setuid", lambda: os.chmod(path, 0o4755))
