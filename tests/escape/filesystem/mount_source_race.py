# title:   The source of a mount and a link out are exchanged while runs start
# source:  CVE-2021-30465 (runc); renameat2(2) RENAME_EXCHANGE
# expect:  EACCES
# fires:   read
# control: host
# runs:    outside
# only:    process
# seconds: 60
#
# The operator allows mounts of one folder alone (allowedPrefixes), and the link leads out of it: whatever is looked at must be
# what is mounted. On the bare host a path is looked at first, and opened then.
from lib import *
import multiprocessing, re


def exchange(stop, a, b):
    while not stop.value:
        libc.renameat2(-100, c(a.encode()), -100, c(b.encode()), 2)


with Place() as place:
    home, allowed = place.top + "/home", place.top + "/allowed"
    os.makedirs(home + "/.config/safe-run")
    os.makedirs(allowed + "/source/deep")
    os.makedirs(allowed + "/work")
    for at in ["source/secret", "source/deep/secret", "work/kept"]:
        with open(f"{allowed}/{at}", "w") as file:
            file.write("of no worth\n")
    with open(home + "/.config/safe-run/host.yaml", "w") as file:
        file.write(f"apiVersion: safe-run/v1\nkind: Host\nallowedPrefixes: [{allowed}]\n")
    os.symlink(DIR, allowed + "/out")
    env = os.environ | {"HOME": home}
    source = allowed + "/source"

    def run(mount, command):
        words = ["run", "--quiet", "--no-sign", *mount, "--", "/bin/sh", "-c", command]
        return subprocess.run([os.environ["SAFE_RUN"], *words], cwd=allowed + "/work", env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    kinds = {
        "read-only": ["--mount", f"{source}:/data:ro"],
        "a directory in it": ["--mount", f"{source}/deep:/data:ro"],
        "a file in it": ["--mount", f"{source}/secret:/data:ro"],
        "writable": ["--mount", f"{source}:/data:rw"],
        "captured": ["--mount", f"{source}:/data:captured"],
    }
    if INSIDE:
        # Without the race: the prefix counts, and what is allowed works.
        plain = run(kinds["read-only"], "cat /data/secret")
        if b"of no worth" not in plain.stdout:
            sys.exit(f"a mount that is allowed does not work: {plain.stderr}")
        outside = run(["--mount", f"{allowed}/out:/data:ro"], "cat /data/secret")
        if outside.returncode != 125:
            sys.exit(f"a mount that is not allowed works: {outside.returncode}")
    stop = multiprocessing.Value("b", 0)
    attacker = multiprocessing.Process(target=exchange, args=(stop, source, allowed + "/out"))
    attacker.start()
    time.sleep(0.1)
    try:
        for kind, mount in kinds.items():
            got, started, until = b"", 0, time.monotonic() + 5
            if INSIDE:
                for _ in range(tries(20)):
                    done = run(mount, "cat /data/secret /data 2>/dev/null; true")
                    started += done.returncode == 0
                    got += done.stdout
            # Beside other work, both may share a processor: the link is then seldom seen to change.
            while not INSIDE and b"CANARY-" not in got and time.monotonic() < until:
                if not os.path.islink(source):
                    try:
                        got = read(source + "/secret")
                    except OSError:
                        pass
            print(f"{kind}: {started} started")
            attempt(kind, lambda: forbidden(errno.EACCES, re.findall(rb"CANARY-\S+", got)))
    finally:
        stop.value = 1
        attacker.join()
