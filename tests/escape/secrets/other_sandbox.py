"""
title:   One sandbox looks into another of the same user's
source:  pid_namespaces(7), ipc_namespaces(7), tmpfs; CWE-668; sandboxes of one user share host ids
expect:  ENOENT
fires:   read
control: host
runs:    outside

The first gets the ground's canary through its standard input and has it everywhere: arguments, memory, files, sockets, queues. The
second searches.
"""
from lib import *

FIRST = r"""
import ctypes, os, socket, sys, time
secret = sys.argv[1] if len(sys.argv) > 1 else sys.stdin.readline().strip()
if len(sys.argv) < 2:
    os.execvpe("python3", ["python3", "-c", open("/proc/self/cmdline").read().split("\0")[2], secret], {**os.environ, "TOKEN": secret})
made = []
for path in ("/tmp/escape-first", "/dev/shm/escape-first", "first-was-here"):
    try: open(path, "w").write(secret); made.append(path)
    except OSError: pass
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
shm = libc.shmget(0x5afe, 4096, 0o1666)
if shm >= 0: ctypes.memmove(libc.shmat(shm, None, 0), secret.encode(), len(secret))
def serve(name):
    s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen(5); s.settimeout(0.2); return s
sockets = []
for name in ("\0escape-first", "/tmp/escape-first.sock"):
    try: sockets.append(serve(name)); made.append(name)
    except OSError: pass
print("ready", flush=True)
end = time.time() + 5
while time.time() < end:
    for s in sockets:
        try: s.accept()[0].send(secret.encode())
        except OSError: pass
for path in made:
    try: os.unlink(path)
    except (OSError, ValueError): pass
libc.shmctl(shm, 0, None)
"""
SECOND = r"""
import ctypes, glob, os, socket, sys
def see(how, data):
    if b"CANARY-" in data: print("READ by", how, data[data.index(b"CANARY-"):][:30], flush=True)
for path in ["/tmp/escape-first", "/dev/shm/escape-first", "first-was-here"] + glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cwd/first-was-here") + glob.glob("/proc/[0-9]*/root/tmp/escape-first"):
    if path.startswith("/proc/%d/" % os.getpid()): continue
    try: see(path, open(path, "rb").read(1 << 16))
    except OSError: pass
for name in ("\0escape-first", "/tmp/escape-first.sock"):
    try:
        s = socket.socket(socket.AF_UNIX); s.settimeout(2); s.connect(name); see("socket " + name[1:], s.recv(99))
    except OSError: pass
libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p
shm = libc.shmget(0x5afe, 0, 0)
if shm >= 0: see("shared memory", ctypes.string_at(libc.shmat(shm, None, 0), 64))
for top, _, files in os.walk("/run" if sys.argv[1] == "inside" else "/nowhere"):
    for f in files[:50]:
        try: see("runtime", open(os.path.join(top, f), "rb").read(4096))
        except OSError: pass
"""
with Place() as place:
    first = subprocess.Popen([os.environ["INSIDE"], "python3", "-c", FIRST], cwd=place.project, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    first.stdin.write(open(DIR + "/secret", "rb").read())
    first.stdin.close()
    print("the first:", first.stdout.readline())
    out = contained("python3", "-c", SECOND, ARGS["where"], cwd=place.project).stdout.decode("utf-8", "replace")
    print(out)
    attempt("anything of the first", lambda: forbidden(errno.ENOENT, "READ by" in out))
    first.wait()
