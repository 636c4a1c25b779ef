# title:   Everything that can be read is read
# source:  a test of the runner
# expect:  EPERM
# fires:   read
# control: host
from lib import *

for path in ["secret", "public"]:
    attempt(path, lambda: read(f"{DIR}/{path}"))
attempt("shm", lambda: read(f"/dev/shm/{ARGS['shm']}"))
for name in ["cmdline", "environ"]:
    attempt(name, lambda: read(f"/proc/{VICTIM}/{name}"))
attempt("tool", lambda: os.environ["ESCAPE_CANARY"])


def memory():
    with open(f"/proc/{VICTIM}/maps") as maps:
        spans = [line.split()[0].split("-") for line in maps if " rw" in line]
    with open(f"/proc/{VICTIM}/mem", "rb", 0) as file:
        for start, end in spans:
            file.seek(int(start, 16))
            held = file.read(int(end, 16) - int(start, 16))
            at = held.find(b"CANARY-")
            if at >= 0:
                return held[at : at + 40]


attempt("memory", memory)


def segment():
    libc.shmat.restype = ctypes.c_void_p
    at = libc.shmat(libc.shmget(int(ARGS["sysv"]), 0, 0), None, 0o10000)
    return ctypes.string_at(at, 40)


attempt("sysv", segment)
if platform.machine() == "x86_64":
    key = call(250, 10, ctypes.c_long(-4), c(b"user"), c(ARGS["key"].encode()), 0)
    n = call(250, 11, key, buf, 100)
    attempt("key", lambda: buf.raw[:n])
