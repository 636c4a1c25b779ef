# title:   A root directory that a project brings has links where the supervisor will mount and make things
# source:  CVE-2019-19921, CVE-2023-27561, CVE-2023-28642 (runc: /proc as a link), CVE-2019-16884
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# /dev, /proc, /tmp, /etc and the place of a mount lead to the ground. On the bare host a place for a mount is made by its path.
from lib import *

LINKS = ["proc", "dev", "tmp", "etc", "sys", "work", "run", "var", "home", "dev/shm", "dev/pts", "etc/passwd", "etc/hosts", "etc/resolv.conf", "proc/sys",
         "proc/self", "dev/null", "usr/bin", "mnt/place"]
LOOK = """
for d in / /proc /dev /tmp /etc /sys /work /run /var /home /dev/shm /mnt/place; do
    cat $d/secret $d/public $d/ground/secret 2>/dev/null
    echo changed >$d/written 2>/dev/null; echo changed >$d/target 2>/dev/null; mkdir $d/made 2>/dev/null
done
echo done
"""


def ground():
    return sorted(os.listdir(DIR)), os.listdir(DIR + "/targets"), open(DIR + "/target").read()


with Place() as place:
    before = ground()
    for writable in ["readOnly", "overlay"]:
        for name in LINKS:
            for to in [DIR] if writable == "overlay" or not INSIDE else ["../" * 12 + DIR[1:]]:
                root = f"{place.top}/root"
                os.makedirs(root + "/usr")
                for link in ["bin", "lib", "lib64", "sbin"]:
                    if name != link:
                        os.symlink("usr/" + link, f"{root}/{link}")
                os.makedirs(os.path.dirname(f"{root}/{name}") or root, exist_ok=True)
                if name != "usr/bin":
                    os.symlink(to, f"{root}/{name}")
                if INSIDE:
                    policy = f"{place.top}/policy.yaml"
                    with open(policy, "w") as file:
                        file.write(f"apiVersion: safe-run/v1\nmetadata: {{name: rootfs}}\nextends: strict\nrootfs: {{source: dir, path: {root}, writable: {writable}}}\n"
                                   f"mounts: [{{source: /usr, target: /usr}}, {{source: {place.project}, target: /mnt/place/sub}}]\n")
                    done = safe_run("run", "--quiet", "--no-sign", "--policy", policy, "--", "/usr/bin/sh", "-c", LOOK, cwd=place.project)
                    if b"CANARY-" in done.stdout:
                        attempt(f"{name} is read through", lambda: done.stdout)
                    elif b"done" in done.stdout:
                        print(f"{name} -> {to}: started")
                else:
                    try:
                        os.mkdir(f"{root}/{name}/made")
                    except OSError:
                        pass
                attempt(name, lambda: forbidden(errno.EACCES, ground() != before))
                subprocess.run(["rm", "-rf", "--one-file-system", root])
        if not INSIDE:
            break
