"""What every case in Python begins with: `from lib import *`."""
import ctypes, errno, json, os, platform, signal, socket, stat, struct, subprocess, sys, tempfile, threading, time

ARGS = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
INSIDE = ARGS.get("where") == "inside"
DIR = ARGS.get("dir", "/nonexistent")
VICTIM = int(ARGS.get("pid", "0"))
# As strerrorname_np says it; Python has the other name of this one.
NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}
libc = ctypes.CDLL(None, use_errno=True)
buf = ctypes.create_string_buffer(1 << 16)
c = ctypes.c_char_p


def call(nr, *args):
    """A system call by its number; OSError where it fails."""
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    answer = libc.syscall(ctypes.c_long(nr), *words)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer


def attempt(name, work):
    """Tries `work`, says how it ended and what it found. Gives whether it succeeded."""
    try:
        found = work()
        result = "GOT"
    except OSError as error:
        found, result = None, NAMES.get(error.errno, "EUNKNOWN")
    print(f"attempt {name}: {result}", flush=True)
    if found is not None and found is not True:
        show(found)
    return result == "GOT"


def show(found):
    """What was found, for the runner to look for canaries in."""
    if isinstance(found, bytes):
        found = found.decode("latin-1")
    print(f"found: {str(found)[:4000]!r}", flush=True)


def read(path, n=1 << 16):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, n)
    finally:
        os.close(fd)


def write(path, data=b"changed\n", flags=0):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, 0o644)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def forbidden(number, reached):
    """An attempt's work where no call says how it ended: what was `reached`, or the error."""
    if not reached:
        raise OSError(number, os.strerror(number))
    return reached


def contained(*command, **how):
    """In a driver (`runs: outside`): the command behind the wall under test, on the bare host as it is. Gives what it printed and
    how it ended."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
    return subprocess.run([os.environ["INSIDE"], *command], **how)


def ended_by_limit(done):
    """In a driver: the error that stands for how a contained command ended, which did not get what it wanted of memory. One that
    never ran says nothing of limits."""
    if done.returncode == 125:
        sys.exit(f"it did not run: {done.stdout[-300:]!r}")
    number = errno.ETIMEDOUT if done.returncode == 124 else errno.ENOMEM
    raise OSError(number, os.strerror(number))


def tries(n):
    """In a driver: how many runs a race gets, fewer where a machine is booted for each of them and its processor is computed."""
    return n if int(os.environ.get("SLOWNESS", "1")) < 10 else min(n, 8)


def safe_run(*words, **how):
    """In a driver of what only Safe-Run has (`only: process`): the program itself, which the variable SAFE_RUN names."""
    how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | how
    return subprocess.run([os.environ["SAFE_RUN"], *words], **how)


class Place:
    """A driver's own folder outside the ground, with a `project` in it that Safe-Run captures: `with Place() as place`. On the bare
    host nothing is captured: the same commands write at once."""

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="escape-")
        self.project = self.top + "/project"
        os.mkdir(self.project)
        self.run = None
        return self

    def __exit__(self, *_):
        subprocess.run(["chmod", "-R", "u+rwx", self.top], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", "--one-file-system", self.top], stderr=subprocess.DEVNULL)

    def write(self, name, text="x\n", mode=0o644):
        path = f"{self.project}/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def captured(self, *command, words=(), **how):
        """Runs the command in the project; `words` are more for `safe-run run`. Gives what it printed; the run's id is kept."""
        how = {"cwd": self.project, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
        if not INSIDE:
            return subprocess.run(command, **how).stdout
        done = subprocess.run([os.environ["SAFE_RUN"], "run", "--json", *words, "--", *command], **how)
        told = (done.stderr or b"").decode("utf-8", "replace").strip().splitlines()
        try:
            self.told = json.loads(told[-1])
            self.run = self.told["id"]
        except (IndexError, KeyError, TypeError, ValueError):
            sys.exit(f"safe-run run ended with {done.returncode}: {told}")
        return done.stdout

    def safe_run(self, verb, *words):
        """`safe-run VERB` of the last run; nothing on the bare host."""
        if not INSIDE:
            return subprocess.CompletedProcess([], 0, b"")
        run = [] if verb == "gc" else [self.run]
        return safe_run(verb, *run, *words, cwd=self.project)

    def applied(self, *paths):
        return self.safe_run("apply", *paths, "--yes")

    def recorded(self, name):
        """A document of the last run, by its file name: what is in it, or a list of its lines."""
        with open(f"{self.told['dir']}/{name}") as file:
            return [json.loads(line) for line in file] if name.endswith(".jsonl") else json.load(file)

    def verified(self):
        """Whether the last run's report verifies."""
        return safe_run("report", "verify", self.run, cwd=self.project).returncode == 0
