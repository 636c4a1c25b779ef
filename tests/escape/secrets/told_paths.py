"""
title:   The kernel tells where the host keeps things: the store's place, host paths in mounts, groups, descriptors
source:  proc_pid_mountinfo(5), proc_pid_cgroup(5), proc_pid_maps(5); statmount(2); CVE-2019-5736 began with /proc/self/exe
expect:  ENOENT
fires:   call
control: host
runs:    outside
only:    process

The store's name holds a word that nothing inside may show. SECURITY.md says what may: where the runtime directory is.
"""
from lib import *

CODE = r"""
import os, sys
word = sys.argv[1][::-1].encode()
def look(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try: data = os.read(fd, 1 << 20)
        finally: os.close(fd)
    except OSError: data = b""
    try: data += os.readlink(path).encode()
    except OSError: pass
    if word in data: print("TOLD by", path, flush=True)
for pid in ["self", "1", *[p for p in os.listdir("/proc") if p.isdigit()][:30]]:
    for name in ("mountinfo", "mounts", "mountstats", "cgroup", "maps", "smaps", "environ", "cmdline", "stat", "status", "exe", "cwd", "root", "comm", "auxv", "fdinfo/0", "fdinfo/3", "loginuid"):
        look("/proc/%s/%s" % (pid, name))
    for folder in ("fd", "map_files", "ns"):
        try:
            for name in os.listdir("/proc/%s/%s" % (pid, folder)): look("/proc/%s/%s/%s" % (pid, folder, name))
        except OSError: pass
for path in ("/proc/filesystems", "/proc/swaps", "/proc/locks", "/proc/keys", "/proc/cmdline", "/proc/net/unix", "/proc/fs/ext4/vda/options", "/proc/sys/kernel/core_pattern", "/etc/mtab", "/proc/1/sched", "/proc/1/timers"):
    look(path)
for value in [*os.environ.values(), *sys.argv[2:]]:
    if word in value.encode(): print("TOLD by the environment", flush=True)
os.makedirs("made/deep", exist_ok=True)
open("made/file", "w").write("x")
for path in (".", "made", "made/file"):
    try:
        for key in os.listxattr(path):
            if word in os.getxattr(path, key): print("TOLD by", key, flush=True)
    except OSError: pass
"""
word = "store" + os.urandom(6).hex()
with Place() as place:
    env = os.environ | {"SAFE_RUN_WORKDIR_BASE": f"{place.top}/{word}", "SAFE_RUN_KEY_DIR": f"{place.top}/{word}-keys"}
    for kind, words in (("as it is", []), ("in a session", ["--session", "one"]), ("with more disk than memory", ["--memory", "64MB", "--disk", "1GB"])):
        command = ["python3", "-c", CODE, word[::-1]]
        if INSIDE:
            done = safe_run("run", *words, "--", *command, env=env, cwd=place.project)
        else:
            done = subprocess.run(command, env=env, cwd=place.project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(kind, done.returncode, done.stdout.decode("utf-8", "replace"))
        attempt(kind, lambda: forbidden(errno.ENOENT, b"TOLD" in done.stdout))
