//! Attack basics are denied, each by the errno or signal that the design gives it: a payload that fails for another
//! reason fails the test. Where it is harmless, the same payload runs on the bare host too, where it must end otherwise:
//! so that a payload that could never work does not pass for a wall.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{CANARY, LIMIT, Place, Ran, Test, end, is_root, needs, slow};

fn main() {
    support::main(&[
        ("stdin_as_a_directory", stdin_as_a_directory),
        ("stdin_as_a_writable_file", stdin_as_a_writable_file),
        ("stdin_as_a_socket", stdin_as_a_socket),
        ("stdin_as_a_terminal", stdin_as_a_terminal),
        ("a_terminal_of_its_own", a_terminal_of_its_own),
        ("inherited_descriptors", inherited_descriptors),
        ("init_gives_nothing_away", init_gives_nothing_away),
        ("host_files_outside_the_view", host_files_outside_the_view),
        ("shadow_in_every_id_mapping", shadow_in_every_id_mapping),
        ("sockets_of_every_family", sockets_of_every_family),
        ("unix_sockets_of_the_host", unix_sockets_of_the_host),
        ("mounts_and_namespaces", mounts_and_namespaces),
        ("memory_and_descriptors_of_others", memory_and_descriptors_of_others),
        ("calls_outside_the_profile", calls_outside_the_profile),
        ("calls_that_kill_under_strict", calls_that_kill_under_strict),
        ("other_entry_points", other_entry_points),
        ("loaders_named_from_below", loaders_named_from_below),
        ("kernel_settings", kernel_settings),
        ("accounts_of_the_starter_used_up", accounts_of_the_starter_used_up),
        ("system_directories", system_directories),
        ("a_skeleton_that_others_see_too", a_skeleton_that_others_see_too),
        ("ids_stay_what_they_are", ids_stay_what_they_are),
        ("setuid_programs_gain_nothing", setuid_programs_gain_nothing),
        ("a_store_and_keys_in_the_project", a_store_and_keys_in_the_project),
        ("ten_gigabytes_of_output", ten_gigabytes_of_output),
        ("one_endless_line", one_endless_line),
        ("links_out_of_the_project", links_out_of_the_project),
        ("hidden_files", hidden_files),
    ]);
}

/// What every payload begins with. `t(name, inside, outside, work)`: `work` ends with the errno `inside` in the sandbox
/// and with `outside` on the bare host ('GOT': without an error; '': not tried there; 'A|B': either). Arguments: where
/// it runs, and `root` or `user`.
const HELPER: &str = "\
import ctypes, errno, fcntl, os, socket, stat, struct, sys, threading
INSIDE, ROOT = sys.argv[1] == 'inside', sys.argv[2] == 'root'
libc = ctypes.CDLL(None, use_errno=True)
c, buf = ctypes.c_char_p, ctypes.create_string_buffer(512)
tried = 0
def call(nr, *a):
    r = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(x) if isinstance(x, int) else x for x in a])
    if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r
def t(name, inside, outside, work):
    global tried
    wanted = inside if INSIDE else outside
    if not wanted: return
    tried += 1
    try: got = work(); seen = 'GOT'
    except OSError as e: got = ''; seen = errno.errorcode.get(e.errno, str(e.errno))
    if seen not in wanted.split('|'): print('BAD', name, 'wanted', wanted, 'saw', seen, repr(got)[:100])
def read(path, n=1 << 16):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try: return os.read(fd, n)
    finally: os.close(fd)
def write(path, data=b'1'):
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK)
    try: return os.write(fd, data)
    finally: os.close(fd)
def ls(path): return os.listdir(path)
import atexit
atexit.register(lambda: print('\\ntried', tried))
";

fn payload(text: &str) -> String {
    format!("{HELPER}{text}")
}

fn who() -> &'static str {
    if is_root() { "root" } else { "user" }
}

/// The words that run a payload.
fn python<'a>(script: &'a str, place: &'static str) -> [&'a str; 5] {
    ["/usr/bin/python3", "-c", script, place, who()]
}

/// A payload ended as it should, having tried at least `least` things.
fn judged(ran: &Ran, least: u32) -> Test {
    ran.ok()?;
    let tried = ran
        .out
        .lines()
        .find_map(|l| l.strip_prefix("tried ")?.trim().parse::<u32>().ok());
    ensure!(
        !ran.out.contains("BAD") && tried >= Some(least),
        "wanted {least} attempts: {ran}"
    );
    ensure!(!ran.out.contains(CANARY), "the canary came out: {ran}");
    Ok(())
}

/// The payload inside, under these words of `run`.
fn inside(place: &Place, words: &[&str], text: &str, least: u32) -> Test {
    needs(place, "python3")?;
    let script = payload(text);
    judged(
        &place.run(&[words, &["--"], &python(&script, "inside")].concat()),
        least,
    )?;
    place.nothing_left()
}

/// The payload on the bare host, begun by `launcher`: what it tries there must end otherwise than inside.
fn outside(place: &Place, launcher: &[&str], text: &str, least: u32) -> Test {
    let script = payload(text);
    let words = [launcher, &python(&script, "outside")].concat();
    let mut command = place.command(words[0]);
    command.args(&words[1..]);
    judged(&end(command, b"", LIMIT), least)
}

/// Root of namespaces of its own: there most of what a sandbox forbids is allowed, and harms nobody.
const UNWALLED: [&str; 8] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--net",
    "--ipc",
    "--uts",
    "--propagation=private",
];

/// Runs `command` with something as its standard input.
fn with_stdin(mut command: Command, stdin: impl Into<Stdio>) -> Result<Ran, support::End> {
    let start = Instant::now();
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    Ok(Ran {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: start.elapsed(),
        over: false,
    })
}

/// The payload twice with what `stdin` makes: inside, and on the bare host.
fn both_with_stdin<S: Into<Stdio>>(
    place: &Place,
    text: &str,
    least: (u32, u32),
    stdin: impl Fn() -> std::io::Result<S>,
) -> Test {
    needs(place, "python3")?;
    let script = payload(text);
    let run = place.safe_run(&[&["run", "--timeout", "20s", "--"], &python(&script, "inside")[..]].concat());
    judged(&with_stdin(run, stdin()?)?, least.0)?;
    let mut bare = place.command("/usr/bin/python3");
    bare.args(&python(&script, "outside")[1..]);
    judged(&with_stdin(bare, stdin()?)?, least.1)
}

fn stdin_as_a_directory(place: &Place) -> Test {
    needs(place, "python3")?;
    // Python itself refuses a directory as its standard input, so that the control has it at 8.
    let text = "d = 0 if INSIDE else 8\n\
        if INSIDE and not stat.S_ISFIFO(os.fstat(0).st_mode): print('BAD kind', os.fstat(0))\n\
        t('openat', 'ENOTDIR', 'GOT', lambda: os.open('etc', os.O_RDONLY, dir_fd=d))\n\
        t('dot dot', 'ENOTDIR', 'GOT', lambda: os.open('..', os.O_RDONLY, dir_fd=d))\n\
        t('fchdir', 'ENOTDIR', 'GOT', lambda: os.fchdir(d))\n\
        t('ls', 'ENOTDIR', 'GOT', lambda: ls('/proc/self/fd/%d' % d))\n\
        t('through', 'ENOTDIR', 'GOT', lambda: os.stat('/dev/fd/%d/etc' % d))\n\
        t('read', 'GOT', 'EISDIR', lambda: os.read(d, 1))\n";
    let script = payload(text);
    let run = place.safe_run(&[&["run", "--"], &python(&script, "inside")[..]].concat());
    judged(&with_stdin(run, fs::File::open("/")?)?, 6)?;
    outside(place, &["sh", "-c", "exec \"$@\" 8< /", "sh"], text, 6)
}

fn stdin_as_a_writable_file(place: &Place) -> Test {
    let path = place.root().join("outside");
    let text = "if INSIDE and not stat.S_ISFIFO(os.fstat(0).st_mode): print('BAD kind', os.fstat(0))\n\
        t('content', 'GOT', 'GOT', lambda: os.read(0, 7).decode().index('content'))\n\
        t('write', 'EBADF', 'GOT', lambda: os.write(0, b'bad'))\n\
        t('truncate', 'EINVAL|EBADF', 'GOT', lambda: os.ftruncate(0, 1))\n\
        t('pwrite', 'EBADF|ESPIPE', 'GOT', lambda: os.pwrite(0, b'bad', 0))\n\
        t('lseek', 'ESPIPE', 'GOT', lambda: os.lseek(0, 0, 0))\n\
        t('chmod', 'EPERM|GOT', 'GOT', lambda: os.fchmod(0, 0o666))\n\
        try: fd = os.open('/proc/self/fd/0', os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK); os.write(fd, b'bad')\n\
        except OSError: pass\n";
    needs(place, "python3")?;
    let open = || fs::File::options().read(true).write(true).open(&path);
    fs::write(&path, "content")?;
    let before = fs::metadata(&path)?.permissions().mode();
    let script = payload(text);
    let run = place.safe_run(&[&["run", "--"], &python(&script, "inside")[..]].concat());
    judged(&with_stdin(run, open()?)?, 6)?;
    ensure!(fs::read(&path)? == b"content", "the caller's file was written to");
    ensure!(
        fs::metadata(&path)?.permissions().mode() == before,
        "the caller's file has another mode"
    );
    let mut bare = place.command("/usr/bin/python3");
    bare.args(&python(&script, "outside")[1..]);
    judged(&with_stdin(bare, open()?)?, 6)?;
    ensure!(fs::read(&path)? == b"bad", "the control did not write");
    Ok(())
}

fn stdin_as_a_socket(place: &Place) -> Test {
    let text = "if INSIDE and not stat.S_ISFIFO(os.fstat(0).st_mode): print('BAD kind', os.fstat(0))\n\
        t('getpeername', 'ENOTSOCK', 'GOT', lambda: call(52, 0, buf, ctypes.byref(ctypes.c_int(128))))\n\
        t('send', 'ENOTSOCK', 'GOT', lambda: call(44, 0, c(b'bad'), 3, 0x40, 0, 0))\n\
        t('write', 'EBADF', 'GOT', lambda: os.write(0, b'bad'))\n";
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    let peers = std::cell::RefCell::new(Vec::new());
    both_with_stdin(place, text, (3, 3), || {
        let (ours, theirs) = UnixStream::pair()?;
        peers.borrow_mut().push(ours);
        Ok(OwnedFd::from(theirs))
    })?;
    let mut got = [Vec::new(), Vec::new()];
    for (peer, got) in peers.into_inner().iter_mut().zip(&mut got) {
        std::io::Read::read_to_end(peer, got)?;
    }
    ensure!(
        got[0].is_empty() && got[1] == b"badbad",
        "through the caller's socket came {got:?}"
    );
    Ok(())
}

/// Starts a command on a terminal of its own, as a shell would, and passes on what it prints.
const ON_A_TERMINAL: &str = "\
import os, pty, sys
pid, master = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
seen = b''
while True:
    try: got = os.read(master, 65536)
    except OSError: break
    if not got: break
    seen += got
sys.stdout.write(seen.decode().replace('\\r\\n', '\\n'))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Requests that push input or speak for a console; the kernel takes 32 bits of a request, so high ones hide nothing.
const PUSH: &str = "\
requests = [('TIOCSTI', 0x5412), ('TIOCLINUX', 0x541c), ('TIOCSETD', 0x5423), ('TIOCCONS', 0x541d)]
x = ctypes.create_string_buffer(b'\\x02')
def push(fd, where):
    for name, request in requests:
        for high in (0, 1 << 32, 1 << 63, 0x7fffffff << 32):
            # Where a terminal takes it, or this kernel refuses it for its own reasons.
            t('%s %x on %s' % (name, high, where), 'EPERM', 'GOT|EIO|ENOTTY|EINVAL' if name == 'TIOCSTI' else '', lambda: call(IOCTL, fd, request | high, x))
IOCTL = 16 if os.uname().machine == 'x86_64' else 29
";

fn stdin_as_a_terminal(place: &Place) -> Test {
    needs(place, "python3")?;
    let text = format!(
        "{PUSH}for fd in (0, 1, 2):\n\
         \x20 if INSIDE and not stat.S_ISFIFO(os.fstat(fd).st_mode): print('BAD kind', os.fstat(fd))\n\
         \x20 t('size', 'ENOTTY', 'GOT', lambda: fcntl.ioctl(fd, 0x5413, bytes(8)))\n\
         \x20 push(fd, fd)\n\
         t('tty', 'ENXIO', 'GOT', lambda: os.open('/dev/tty', os.O_RDWR))\n\
         t('pts', 'GOT', '', lambda: [p for p in ls('/dev/pts') if p != 'ptmx'] and os.open('/dev/none', 0))\n"
    );
    let script = payload(&text);
    let safe_run = support::safe_run().to_str().expect("UTF-8");
    let on = |words: &[&str]| {
        let mut command = place.command("/usr/bin/python3");
        command.args(["-c", ON_A_TERMINAL]).args(words);
        end(command, b"", LIMIT)
    };
    let run = [
        &[safe_run, "run", "--quiet", "--timeout", "20s", "--"],
        &python(&script, "inside")[..],
    ]
    .concat();
    judged(&on(&run), 3 * 17 + 2)?;
    judged(&on(&python(&script, "outside")), 3 * 5 + 1)
}

fn a_terminal_of_its_own(place: &Place) -> Test {
    let text = format!(
        "{PUSH}for fd in (0, 1, 2):\n\
         \x20 t('size', 'GOT', '', lambda: fcntl.ioctl(fd, 0x5413, bytes(8)))\n\
         \x20 push(fd, fd)\n\
         for name in ('/dev/tty', os.ttyname(0)):\n\
         \x20 push(os.open(name, os.O_RDWR), name)\n"
    );
    needs(place, "python3")?;
    let script = payload(&text);
    let words = [&["--tty", "--quiet", "--"], &python(&script, "inside")[..]].concat();
    judged(&place.run(&words), 3 + 5 * 16)?;
    // On the caller's own terminal too.
    let safe_run = support::safe_run().to_str().expect("UTF-8");
    let mut command = place.command("/usr/bin/python3");
    command.args(["-c", ON_A_TERMINAL, safe_run, "run"]).args(&words);
    judged(&end(command, b"", LIMIT), 3 + 5 * 16)?;
    place.nothing_left()
}

fn inherited_descriptors(place: &Place) -> Test {
    needs(place, "python3")?;
    let path = place.root().join("open");
    fs::write(&path, CANARY)?;
    let leak = format!(
        "import os, sys\nfor n in range(3, 21): os.dup2(os.open({:?} if n % 2 else '/', os.O_RDONLY), 100 + n)\n\
         for n in range(3, 21): os.dup2(100 + n, n, True); os.close(100 + n)\nos.execv(sys.argv[1], sys.argv[1:])",
        path.display()
    );
    let text = "for n in range(3, 256):\n  t('fd %d' % n, 'EBADF', 'GOT' if n < 21 else '', lambda: os.fstat(n))\n";
    let script = payload(text);
    let begin = |words: &[&str]| {
        let mut command = place.command("/usr/bin/python3");
        command.args(["-c", &leak]).args(words);
        end(command, b"", LIMIT)
    };
    let safe_run = support::safe_run().to_str().expect("UTF-8");
    for tty in [&[][..], &["--tty"]] {
        let run = [
            &[safe_run, "run", "--quiet"],
            tty,
            &["--"],
            &python(&script, "inside")[..],
        ]
        .concat();
        judged(&begin(&run), 253)?;
    }
    judged(&begin(&python(&script, "outside")), 18)
}

fn init_gives_nothing_away(place: &Place) -> Test {
    let text = "for f in ('environ', 'mem', 'auxv', 'maps', 'smaps', 'pagemap', 'io', 'syscall', 'stack', 'personality'):\n\
        \x20 t(f, 'EACCES|EPERM', '', lambda: read('/proc/1/' + f))\n\
        \x20 t('task ' + f, 'EACCES|EPERM|ENOENT', '', lambda: read('/proc/1/task/1/' + f))\n\
        for f in ('mem', 'oom_score_adj', 'coredump_filter', 'clear_refs', 'uid_map', 'setgroups'):\n\
        \x20 t('write ' + f, 'EACCES|EPERM', '', lambda: write('/proc/1/' + f))\n\
        for f in ('root', 'cwd', 'exe', 'ns/user', 'ns/mnt', 'fd/0'):\n\
        \x20 t(f, 'EACCES', '', lambda: os.readlink('/proc/1/' + f))\n\
        \x20 t('open ' + f, 'EACCES', '', lambda: read('/proc/1/' + f))\n\
        for f in ('root', 'cwd', 'fd', 'fdinfo', 'map_files', 'ns', 'task/1/fd', 'root/etc'):\n\
        \x20 t('ls ' + f, 'EACCES', '', lambda: ls('/proc/1/' + f))\n\
        for s in (9, 15, 19): t('kill', 'EPERM', '', lambda: os.kill(1, s))\n\
        t('prlimit', 'EPERM' if ROOT else 'GOT|EPERM', '', lambda: call(302, 1, 7, 0, buf))\n\
        # The same files of its own: the words above mean something.\n\
        for f in ('environ', 'auxv', 'maps', 'io'): t('own ' + f, 'GOT', 'GOT', lambda: read('/proc/self/' + f))\n\
        for f in ('root', 'cwd', 'fd', 'fdinfo'): t('own ls ' + f, 'GOT', 'GOT', lambda: ls('/proc/self/' + f))\n\
        if INSIDE and set(read('/proc/1/cmdline')) != {0}: print('BAD command line', read('/proc/1/cmdline'))\n\
        for p in [p for p in ls('/proc') if p.isdigit() and p != str(os.getpid())]:\n\
        \x20 for f in ('environ', 'cmdline', 'comm', 'mountinfo', 'cgroup'):\n\
        \x20  try: text = read('/proc/%s/%s' % (p, f))\n\
        \x20  except OSError: continue\n\
        \x20  if INSIDE: print(p, f, text)\n\
        if INSIDE and [n for n in os.environ if n.startswith(('SAFE_RUN_', 'XDG_', 'CARGO'))]: print('BAD environment', os.environ)\n";
    // What the supervisor was told is no business of the program: its words are not shown either.
    let report = place.root().join(format!("{CANARY}.json"));
    inside(place, &["--report", report.to_str().expect("UTF-8")], text, 40)?;
    ensure!(report.exists(), "no report was written where it was asked for");
    outside(place, &[], text, 8)
}

fn host_files_outside_the_view(place: &Place) -> Test {
    let canary = place.root().join("canary");
    fs::write(&canary, CANARY)?;
    place.run(&["--", "true"]).ok()?;
    let mut text = String::new();
    let run = place.last_run();
    for path in [
        &canary,
        &place.store,
        &place.keys,
        &place.home,
        &place.store.join("runs"),
        &run,
        &run.join("policy.json"),
        &run.join("events.jsonl"),
    ] {
        text += &format!("t({path:?}, 'ENOENT', 'GOT', lambda: os.stat({path:?}))\n");
    }
    for key in fs::read_dir(&place.keys)?.flatten() {
        text += &format!("t('key', 'ENOENT', 'GOT', lambda: read({:?}))\n", key.path());
    }
    text += "for f in ('/etc/passwd', '/etc/hostname', '/etc/hosts', '/etc/machine-id', '/etc/shadow', '/etc/gshadow', '/etc/ssh', '/var/log', '/var/lib/dpkg', '/boot', '/root/.bashrc', '/run/utmp', '/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/vda', '/dev/kvm', '/dev/fuse', '/dev/net/tun', '/sys/kernel', '/sys/firmware', '/sys/class', '/sys/fs/cgroup'):\n\
        \x20 t(f, 'GOT' if f in ('/etc/passwd', '/etc/hosts', '/etc/hostname') else 'ENOENT', '', lambda: os.stat(f))\n\
        if INSIDE and open('/etc/passwd').read().count(chr(10)) > 4: print('BAD: the host\\'s passwd')\n\
        # Absent, or an empty file of another file system lies over it.\n\
        def covered(f):\n\
        \x20 if os.stat(f).st_dev != os.stat('/proc').st_dev and read(f) == b'': raise OSError(errno.ENOENT, f)\n\
        for f in ('/proc/kcore', '/proc/sysrq-trigger'): t(f, 'ENOENT', '', lambda: covered(f))\n\
        t('kmsg', 'EACCES|EPERM|ENOENT', '', lambda: read('/proc/kmsg'))\n";
    for preset in ["strict", "standard"] {
        inside(place, &["--policy", preset], &text, 30)?;
    }
    outside(place, &[], &text, 9)
}

fn shadow_in_every_id_mapping(place: &Place) -> Test {
    // Even where the directory is shown: what others may not read on the host is not read inside.
    let text = "t('absent', 'ENOENT', '', lambda: read('/etc/shadow'))\n\
        t('shadow', 'EACCES', 'GOT', lambda: read(('/hostetc' if INSIDE else '/etc') + '/shadow'))\n\
        t('gshadow', 'EACCES', 'GOT', lambda: read(('/hostetc' if INSIDE else '/etc') + '/gshadow'))\n\
        t('write', 'EROFS|EACCES', '', lambda: write('/hostetc/passwd'))\n\
        t('passwd', 'GOT', '', lambda: read('/hostetc/passwd'))\n";
    for user in ["1", "1000", "42", "65533"] {
        inside(place, &["--user", user, "--mount", "/etc:/hostetc:ro"], text, 5)?;
    }
    for user in ["0", "65534"] {
        let ran = place.run(&["--user", user, "--", "touch", "started"]);
        ensure!(
            ran.status == 125 && ran.err.contains("SR-POL-003"),
            "user {user}: {ran}"
        );
    }
    if is_root() {
        outside(place, &[], text, 2)?;
    }
    Ok(())
}

fn sockets_of_every_family(place: &Place) -> Test {
    let text = "for family in range(2, 64):\n\
        \x20 for kind in (1, 2, 3, 5, 10, 1 | 0o2000000, 3 | 0o4000):\n\
        \x20  t('family %d %d' % (family, kind), 'EACCES', 'GOT' if (family, kind) in ((2, 1), (2, 2), (16, 3)) else '', lambda: socket.socket(family, kind).close())\n\
        for family in (1 << 32 | 2, 2 | 1 << 63): t('high bits', 'EACCES', '', lambda: call(SOCKET, family, 1, 0))\n\
        for family in (0, -1): t('none', 'EACCES', 'EAFNOSUPPORT', lambda: call(SOCKET, family, 1, 0))\n\
        for family in (2, 10, 16): t('pair', 'EACCES', 'EOPNOTSUPP|ENOTSUP|EAFNOSUPPORT|ESOCKTNOSUPPORT', lambda: socket.socketpair(family, 1))\n\
        for kind in (1, 2, 5): t('unix', 'GOT', 'GOT', lambda: socket.socketpair(1, kind))\n";
    let text = format!("SOCKET = 41 if os.uname().machine == 'x86_64' else 198\n{text}");
    for preset in ["standard", "strict"] {
        inside(place, &["--policy", preset], &text, 62 * 7 + 10)?;
        let denied = place.report()["denied"].to_string();
        for family in ["AF_INET", "AF_NETLINK"] {
            ensure!(denied.contains(family), "{family} is not in the report: {denied}");
        }
    }
    outside(place, &UNWALLED, &text, 11)?;
    let tell = place.run(&["--", "/usr/bin/python3", "-c", "import socket; socket.socket()"]);
    ensure!(
        tell.status == 1 && tell.err.contains("network is off") && tell.err.contains("Errno 13"),
        "no hint: {tell}"
    );
    Ok(())
}

fn unix_sockets_of_the_host(place: &Place) -> Test {
    use std::os::linux::net::SocketAddrExt;
    let path = place.root().join("door");
    let in_project = place.project.join("door");
    let name = place.mark();
    let _listeners = [
        UnixListener::bind(&path)?,
        UnixListener::bind(&in_project)?,
        UnixListener::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(&name)?)?,
    ];
    for door in [&path, &in_project] {
        fs::set_permissions(door, fs::Permissions::from_mode(0o777))?;
    }
    let text = format!(
        "for name, inside in (({path:?}, 'ENOENT'), ({in_project:?}, 'ECONNREFUSED'), ('\\0{name}', 'ECONNREFUSED')):\n\
         \x20 t(name, inside, 'GOT', lambda: socket.socket(socket.AF_UNIX).connect(name))\n"
    );
    inside(place, &[], &text, 3)?;
    outside(place, &[], &text, 3)
}

fn mounts_and_namespaces(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    let text = "import tempfile\nd = c(tempfile.mkdtemp().encode()); tmpfs = c(b'tmpfs'); none = c(b'none'); at = -100\n\
        attr = struct.pack('<QQQQ', 1, 0, 0, 0)\n\
        for name, wanted, a in (\n\
        ('mount', 'GOT', (165, none, d, tmpfs, 0, 0)), ('bind', 'GOT', (165, d, d, 0, 4096, 0)), ('remount', 'GOT', (165, 0, d, 0, 32 | 4096, 0)),\n\
        ('open_tree clone', 'GOT', (428, at, d, 1)), ('open_tree', 'GOT', (428, at, d, 0)), ('fsopen', 'GOT', (430, tmpfs, 0)), ('fspick', 'GOT', (433, at, d, 0)),\n\
        ('fsconfig', 'EBADF|EINVAL', (431, -1, 0, 0, 0, 0)), ('fsmount', 'EBADF', (432, -1, 0, 0)), ('move_mount', 'EINVAL|EBUSY|ELOOP', (429, at, d, at, d, 0)),\n\
        ('mount_setattr', 'GOT', (442, at, d, 0, attr, 32)), ('umount', 'GOT', (166, d, 2)), ('pivot_root', '', (155, d, d)),\n\
        ('chroot', '', (161, c(b'/'))), ('sethostname', 'GOT', (170, none, 4)), ('setdomainname', 'GOT', (171, none, 4)),\n\
        ('setns', 'EBADF|EINVAL', (308, -1, 0)), ('unshare mount', 'GOT', (272, 0x20000)), ('unshare net', 'GOT', (272, 0x40000000)),\n\
        ('unshare cgroup', 'GOT', (272, 0x02000000)), ('unshare time', 'GOT', (272, 0x80)), ('unshare user', '', (272, 0x10000000)), ('unshare nothing', 'GOT', (272, 0))):\n\
        \x20 t(name, 'EPERM', wanted, lambda: call(*a))\n\
        for f in ('user', 'mnt', 'pid', 'net'): t('own ns ' + f, 'EPERM', 'EINVAL' if f == 'user' else 'GOT' if f == 'net' else '', lambda: call(308, os.open('/proc/self/ns/' + f, 0), 0))\n\
        t('open_tree_attr', 'EPERM', '', lambda: call(467, at, d, 1, attr, 32))\n\
        def clone(flags):\n\
        \x20 pid = call(56, flags, 0, 0, 0, 0)\n\
        \x20 if pid == 0: os._exit(0)\n\
        \x20 os.waitpid(pid, 0)\n\
        for name, flag in ('user', 0x10000000), ('mount', 0x20000), ('cgroup', 0x2000000), ('uts', 0x4000000), ('ipc', 0x8000000), ('pid', 0x20000000), ('net', 0x40000000):\n\
        \x20 t('clone ' + name, 'EPERM', 'GOT', lambda: clone(flag | 17))\n\
        \x20 t('clone high ' + name, 'EPERM', '', lambda: clone(flag | 17 | 1 << 40))\n\
        t('clone', 'GOT', 'GOT', lambda: clone(17))\n\
        t('clone3', 'ENOSYS', 'EINVAL', lambda: call(435, buf, 8))\n\
        t('clone3 user', 'ENOSYS', '', lambda: call(435, struct.pack('<11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88))\n";
    inside(place, &[], text, 45)?;
    outside(place, &UNWALLED, text, 31)
}

fn memory_and_descriptors_of_others(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    // Init, and a child of its own: tracing is not in the profile at all.
    let text = "import signal, time\n\
        child = os.fork()\n\
        if child == 0: signal.pause(); os._exit(0)\n\
        def iov(at): return struct.pack('<QQ', at, 8)\n\
        here = ctypes.addressof(buf)\n\
        for who in (1, child):\n\
        \x20 bare = 'GOT' if who == child else ''\n\
        \x20 t('seize', 'EPERM', bare, lambda: call(101, 0x4206, who, 0, 0))\n\
        \x20 t('attach', 'EPERM', '', lambda: call(101, 16, who, 0, 0))\n\
        \x20 t('readv', 'EPERM', bare, lambda: call(310, who, iov(here), 1, iov(here), 1, 0))\n\
        \x20 t('writev', 'EPERM', bare, lambda: call(311, who, iov(here), 1, iov(here), 1, 0))\n\
        \x20 t('pidfd_getfd', 'EPERM', bare, lambda: call(438, call(434, who, 0), 0, 0))\n\
        \x20 t('kcmp', 'EPERM', bare, lambda: call(312, who, os.getpid(), 0, 0, 0))\n\
        \x20 t('process_madvise', 'EPERM', '', lambda: call(440, call(434, who, 0), iov(here), 1, 4, 0))\n\
        t('pidfd of init', 'GOT', '', lambda: call(434, 1, 0))\n\
        t('signal by pidfd', 'EPERM', '', lambda: call(424, call(434, 1, 0), 9, 0, 0))\n\
        t('traceme', 'EPERM', '', lambda: call(101, 0, 0, 0, 0))\n\
        t('no such pid', 'ESRCH', '', lambda: os.kill(int(sys.argv[2] == 'x') or 4194000, 0))\n\
        if INSIDE and sorted(p for p in ls('/proc') if p.isdigit()) != sorted(map(str, (1, os.getpid(), child))): print('BAD: other processes', ls('/proc'))\n\
        os.kill(child, 9); os.waitpid(child, 0)\n";
    inside(place, &[], text, 18)?;
    outside(place, &[], text, 5)
}

fn calls_outside_the_profile(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    // Outside, as root of namespaces of its own: another errno, or none, shows that the arguments reach the kernel.
    let text = "n = c(b'none'); d = c(b'/tmp')\n\
        for name, inside, outside, a in (\n\
        ('io_uring_setup', 'ENOSYS', 'EFAULT|EINVAL|GOT|EPERM', (425, 0, 0)), ('io_uring_enter', 'EPERM', 'EBADF|EINVAL|EOPNOTSUPP', (426, -1, 0, 0, 0, 0)),\n\
        ('io_uring_register', 'EPERM', 'EBADF|EINVAL', (427, -1, 0, 0, 0)), ('keyctl', 'EPERM', 'GOT', (250, 0, -3, 1)),\n\
        ('add_key', 'EPERM', 'GOT|EDQUOT', (248, c(b'user'), c(b'safe-run-test'), n, 4, -1)), ('request_key', 'EPERM', 'ENOKEY|EFAULT|ENODEV', (249, 0, 0, 0, 0)),\n\
        ('bpf', 'EPERM', 'EINVAL|EFAULT|EPERM', (321, 99, 0, 0)), ('perf_event_open', 'EPERM', 'EFAULT', (298, 0, 0, -1, -1, 0)),\n\
        ('userfaultfd', 'EPERM', 'GOT|EINVAL', (323, 1)), ('init_module', 'EPERM', '', (175, buf, 8, n)), ('finit_module', 'EPERM', '', (313, -1, n, 0)),\n\
        ('delete_module', 'EPERM', '', (176, n, 0)), ('kexec_load', 'EPERM', '', (246, 0, 0, buf, 0)), ('kexec_file_load', 'EPERM', '', (320, -1, -1, 0, 0, 0)),\n\
        ('reboot', 'EPERM', '', (169, 1, 2, 3, 0)), ('swapon', 'EPERM', '', (167, d, 0)), ('swapoff', 'EPERM', '', (168, d)),\n\
        ('name_to_handle_at', 'EPERM', 'EFAULT|EINVAL', (303, -100, d, 0, 0, 0)), ('open_by_handle_at', 'EPERM', 'EFAULT|EBADF|EPERM|EINVAL', (304, -1, buf, 0)),\n\
        ('personality READ_IMPLIES_EXEC', 'EPERM', 'GOT', (135, 0x0400000)), ('mknod', 'EPERM', '', (133, c(b'/tmp/node'), 0o20666, 0x101)),\n\
        ('mknod block', 'EPERM', '', (133, c(b'/tmp/node'), 0o60666, 0x101)), ('mknodat', 'EPERM', '', (259, -100, c(b'/tmp/node'), 0o20666, 0x101)),\n\
        ('acct', 'EPERM', '', (163, d)), ('clock_settime', 'EPERM', '', (227, 0, buf)), ('settimeofday', 'EPERM', '', (164, buf, 0)), ('adjtimex', 'EPERM', 'GOT', (159, buf)),\n\
        ('quotactl', 'EPERM', 'EFAULT|ENODEV|EINVAL|ENOSYS|ENOTBLK', (179, 0, 0, 0, 0)), ('iopl', 'EPERM', 'EINVAL|ENOSYS', (172, 7)), ('ioperm', 'EPERM', 'EINVAL|ENOSYS', (173, 65535, 65535, 1)),\n\
        ('fanotify_init', 'EPERM', '', (300, 0, 0)), ('syslog', 'EPERM', '', (103, 3, buf, 10)), ('vhangup', 'EPERM', '', (153,)), ('lookup_dcookie', 'EPERM', '', (212, 0, buf, 10)),\n\
        ('no such call', 'ENOSYS', 'ENOSYS', (900,)), ('a call of the future', 'ENOSYS', 'ENOSYS', (1023,))):\n\
        \x20 t(name, inside, outside, lambda: call(*a))\n\
        t('fifo', 'GOT', 'GOT', lambda: os.mkfifo('/tmp/fifo-%d' % os.getpid()) or os.unlink('/tmp/fifo-%d' % os.getpid()))\n\
        keys = read('/proc/keys') if INSIDE else b''\n\
        if keys: print('BAD: keys are shown', keys)\n";
    inside(place, &[], text, 37)?;
    outside(place, &UNWALLED, text, 15)
}

fn calls_that_kill_under_strict(place: &Place) -> Test {
    needs(place, "python3")?;
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    for (name, call) in [
        ("mount", "165, 0, 0, 0, 0, 0"),
        ("ptrace", "101, 16, 1, 0, 0"),
        ("unshare", "272, 0x10000000"),
        ("bpf", "321, 0, 0, 0"),
        ("keyctl", "250, 0, -3, 1"),
        ("process_vm_readv", "310, 1, 0, 0, 0, 0, 0"),
        ("TIOCSTI", "16, 0, 0x5412, 0"),
    ] {
        let script = format!("import ctypes\nctypes.CDLL(None).syscall({call})\nprint('alive')");
        let ran = place.run(&["--policy", "strict", "--", "/usr/bin/python3", "-c", &script]);
        ensure!(ran.status == 128 + 31 && !ran.out.contains("alive"), "{name}: {ran}");
        ensure!(
            place.report()["result"]["cause"] == "policy",
            "{name}: {}",
            place.report()["result"]
        );
    }
    Ok(())
}

fn other_entry_points(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("int 0x80 and x32 are x86_64's");
    }
    needs(place, "gcc")?;
    for (name, code) in [
        (
            "int80",
            "__asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20L) : \"memory\");",
        ),
        (
            "x32",
            "__asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(0x40000000L + 39) : \"rcx\", \"r11\", \"memory\");",
        ),
    ] {
        place.write(
            "a.c",
            &format!("#include <stdio.h>\nint main(void) {{ long r = -1; {code} puts(\"alive\"); return 0; }}\n"),
        );
        let mut gcc = place.command("gcc");
        gcc.args(["-o", name, "a.c"]);
        end(gcc, b"", LIMIT).ok()?;
        let program = place.project.join(name);
        // A kernel may not have the entry point, but it lives.
        let bare = end(place.command(&program), b"", LIMIT);
        ensure!(
            bare.out == "alive\n" || bare.status == 128 + 11,
            "{name} on the host: {bare}"
        );
        for preset in ["standard", "strict"] {
            let program = format!("{}:/own:ro", place.project.display());
            let ran = place.run(&["--policy", preset, "--mount", &program, "--", &format!("/own/{name}")]);
            ensure!(ran.status == 128 + 31 && ran.out.is_empty(), "{name}: {ran}");
            // The filter ends it under both; where denied calls do not, it could have been a signal of its own.
            let result = &place.report()["result"];
            let cause = if preset == "strict" { "policy" } else { "signal" };
            let named = preset == "strict" || result["message"].as_str().is_some_and(|m| m.contains("int 0x80, x32"));
            ensure!(result["cause"] == cause && named, "{result}");
        }
    }
    Ok(())
}

/// An executable names its loader, and the kernel opens it before the first instruction: while the host's root lay over the
/// view's, `..` led there.
fn loaders_named_from_below(place: &Place) -> Test {
    needs(place, "gcc")?;
    let name = match std::env::consts::ARCH {
        "x86_64" => "ld-linux-x86-64.so.2",
        "aarch64" => "ld-linux-aarch64.so.1",
        other => return support::skip(format!("no loader is known for {other}")),
    };
    let mut gcc = place.command("gcc");
    gcc.arg(format!("-print-file-name={name}"));
    let loader = end(gcc, b"", LIMIT);
    let outside = place.root().join("loader");
    fs::copy(loader.out.trim(), &outside)?;
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755))?;
    place.write(
        "a.c",
        "#include <stdio.h>\nint main(void) { puts(\"alive\"); return 0; }\n",
    );
    for way in ["", "/..", "/usr/..", "/usr/bin/../..", "/proc/..", "/proc/self/root/.."] {
        let mut gcc = place.command("gcc");
        gcc.args(["-o", "own", "a.c"])
            .arg(format!("-Wl,--dynamic-linker={way}{}", outside.display()));
        end(gcc, b"", LIMIT).ok()?;
        let bare = end(place.command(place.project.join("own")), b"", LIMIT);
        ensure!(bare.out == "alive\n", "{way} on the host: {bare}");
        for preset in ["standard", "strict"] {
            let project = format!("{}:/own:ro", place.project.display());
            let ran = place.run(&["--policy", preset, "--mount", &project, "--", "/own/own"]);
            ensure!(
                ran.out.is_empty() && ran.err.contains("its dynamic loader is not in the view"),
                "{way}: {ran}"
            );
        }
    }
    Ok(())
}

fn kernel_settings(place: &Place) -> Test {
    let text = "for f in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches', '/proc/sys/user/max_user_namespaces', '/proc/sys/kernel/ns_last_pid', '/proc/irq/default_smp_affinity'):\n\
        \x20 t(f, 'EROFS' if os.path.exists(f) else 'ENOENT', '', lambda: write(f))\n\
        for f in ('/sys/kernel/uevent_helper', '/sys/power/state'): t(f, 'ENOENT', '', lambda: write(f))\n\
        t('sysrq', 'EROFS' if os.path.exists('/proc/sysrq-trigger') else 'ENOENT', '', lambda: write('/proc/sysrq-trigger'))\n\
        for f in ('/sys/x', '/sys/fs/cgroup'): t('mkdir ' + f, 'EROFS' if f == '/sys/x' else 'ENOENT', '', lambda: os.mkdir(f))\n\
        for f in ('/sys/kernel', '/sys/firmware', '/sys/fs/cgroup', '/sys/class', '/sys/devices'): t('ls ' + f, 'ENOENT', 'GOT' if f == '/sys/class' else '', lambda: ls(f))\n\
        t('make', 'ENOENT', '', lambda: os.open('/proc/new', os.O_CREAT | os.O_WRONLY))\n\
        for f in ('uid_map', 'gid_map', 'setgroups'): t(f, 'EPERM|EACCES', '', lambda: write('/proc/self/' + f, b'0 0 1'))\n\
        t('oom_score_adj', 'EACCES|EPERM', '', lambda: write('/proc/self/oom_score_adj', b'-1000'))\n\
        t('own', 'GOT', 'GOT', lambda: write('/proc/self/comm', b'me'))\n\
        t('hostname in its namespace', 'GOT', '', lambda: open('/proc/sys/kernel/hostname').read().index('sandbox'))\n";
    inside(place, &[], text, 21)?;
    outside(place, &[], text, 2)?;
    // Settings that a namespace has for its own can be written where there is no wall: in one made for that.
    let control = "t('sysctl', 'EROFS', 'GOT', lambda: write('/proc/sys/user/max_mnt_namespaces', b'99'))\n";
    inside(place, &[], control, 1)?;
    outside(place, &UNWALLED, control, 1)
}

/// What a program uses of these is charged to the user who started the run, who got none while it held them all.
fn accounts_of_the_starter_used_up(place: &Place) -> Test {
    needs(place, "python3")?;
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    let settings = rustix::fs::statvfs("/proc/sys/user")?;
    if settings.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return support::skip("/proc/sys is read-only on this host");
    }
    let script = "import ctypes\n\
        l = ctypes.CDLL(None, use_errno=True)\n\
        class A(ctypes.Structure): _fields_ = [(k, ctypes.c_long) for k in 'fmscabcd']\n\
        n = q = 0\n\
        while n < 200 and l.syscall(294, 0) >= 0: n += 1\n\
        # Landlock keeps a queue from being opened, when it is made already.\n\
        while q < 64 and (l.syscall(240, b'q%d' % q, 0o302, 0o600, ctypes.byref(A(0, 10, 8192))) >= 0 or ctypes.get_errno() == 13): q += 1\n\
        print(n, q, *(open('/proc/sys/user/max_inotify_' + k).read().strip() for k in ('instances', 'watches')))";
    let ran = place.run(&["--open-files", "512", "--", "/usr/bin/python3", "-c", script]);
    ran.ok()?;
    let numbers: Vec<u64> = ran.out.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [instances, queues, most, watches] = numbers[..] else {
        return Err(format!("{ran}").into());
    };
    // A queue of 10 messages of 8 KiB takes a little more than 80.
    ensure!((1..=64).contains(&instances) && (1..=3).contains(&queues), "{ran}");
    ensure!((most, watches) == (64, 65536), "{ran}");
    Ok(())
}

fn system_directories(place: &Place) -> Test {
    let text = "new = os.O_CREAT | os.O_WRONLY\n\
        for d in ('/usr', '/usr/bin', '/etc', '/lib', '/sys', '/usr/local/lib', '/', '/dev', '/bin'):\n\
        \x20 t(d, 'EROFS|EACCES', '', lambda: os.open(d + '/safe-run-was-here', new))\n\
        \x20 t('mkdir ' + d, 'EROFS|EACCES', '', lambda: os.mkdir(d + '/safe-run-was-here'))\n\
        t('append', 'EROFS|EACCES', '', lambda: os.open('/etc/passwd', os.O_WRONLY | os.O_APPEND))\n\
        t('unlink', 'EROFS|EACCES', '', lambda: os.unlink('/usr/bin/env'))\n\
        t('rename', 'EROFS|EACCES', '', lambda: os.rename('/usr/bin/env', '/usr/bin/vne'))\n\
        t('chmod', 'EROFS|EPERM', '', lambda: os.chmod('/usr/bin/env', 0o777))\n\
        for d in ('/tmp', '/dev/shm', '.'): t(d, 'GOT', 'GOT', lambda: os.close(os.open(d + '/safe-run-test-file', new)) or os.unlink(d + '/safe-run-test-file'))\n";
    inside(place, &[], text, 25)?;
    outside(place, &[], text, 3)
}

/// The root of a view, with `/dev` and `/etc`, is mounted in other sandboxes too.
fn a_skeleton_that_others_see_too(place: &Place) -> Test {
    let text = "w = os.O_WRONLY\n\
        for p in ('/etc/passwd', '/etc/hosts', '/etc/nsswitch.conf', '/etc/ld.so.cache', '/etc/ssl/openssl.cnf'):\n\
        \x20 if not os.path.exists(p): continue\n\
        \x20 for n, f in (('write', lambda: os.open(p, w)), ('truncate', lambda: os.truncate(p, 0)), ('chmod', lambda: os.chmod(p, 0o777)), \
        ('chown', lambda: os.chown(p, 1000, 1000)), ('times', lambda: os.utime(p, (0, 0))), ('unlink', lambda: os.unlink(p)), \
        ('rename', lambda: os.rename(p, p + '-')), ('link', lambda: os.link(p, '/etc/safe-run-was-here')), \
        ('through /proc', lambda: os.open('/proc/self/fd/%d' % os.open(p, os.O_RDONLY), w)), ('xattr', lambda: os.setxattr(p, 'user.x', b'x'))):\n\
        \x20  t(n + ' ' + p, 'EROFS|EACCES|EPERM|EXDEV', '', f)\n\
        for d in ('/', '/dev', '/sys', '/etc', '/etc/ssl'):\n\
        \x20 t('make in ' + d, 'EROFS|EACCES', '', lambda: os.open(d + '/safe-run-was-here', os.O_CREAT | w))\n\
        \x20 t('chmod ' + d, 'EROFS|EPERM', '', lambda: os.chmod(d, 0o777))\n\
        for p in ('/dev/null', '/dev/tty', '/bin', '/dev/fd'):\n\
        \x20 for n, f in (('unlink', lambda: os.unlink(p)), ('rename', lambda: os.rename(p, p + '-')), ('chown', lambda: os.lchown(p, 1000, 1000))):\n\
        \x20  t(n + ' ' + p, 'EROFS|EACCES|EPERM|EXDEV', '', f)\n\
        t('chmod null', 'EROFS|EPERM', '', lambda: os.chmod('/dev/null', 0o600))\n\
        t('remount', 'EPERM', '', lambda: call(165, b'none', b'/', 0, 32 | 4096, 0))\n\
        t('setattr', 'EPERM|ENOSYS', '', lambda: call(442, -100, b'/', 0, struct.pack('<QQQQ', 0, 1, 0, 0), 32))\n\
        for l in open('/proc/self/mountinfo'):\n\
        \x20 if INSIDE and any(s in l for s in sys.argv[3:]): print('BAD', l)\n";
    let script = payload(text);
    let [store, keys, home] = [&place.store, &place.keys, &place.home].map(|p| p.to_str().expect("UTF-8"));
    for _ in 0..2 {
        place.run(&["--", "true"]).ok()?;
    }
    let before = tree_of(&place.runtime)?;
    ensure!(before.lines().count() > 50, "nothing is kept: {before}");
    let payload = [&python(&script, "inside")[..], &[store, keys, home]].concat();
    judged(&place.run(&[&["--"], &payload[..]].concat()), 60)?;
    place.nothing_left()?;
    let after = tree_of(&place.runtime)?;
    ensure!(after == before, "before:\n{before}after:\n{after}");
    // Nor is it anyone's source for a mount.
    for flag in ["ro", "rw"] {
        let mount = format!("{}:/seen:{flag}", place.runtime.join("safe-run").display());
        let ran = place.run(&["--mount", &mount, "--", "true"]);
        ensure!(ran.status == 125 && ran.err.contains("Safe-Run"), "{ran}");
    }
    let mount = format!("{}:/seen:rw", place.runtime.display());
    let ran = place.run(&["--mount", &mount, "--", "true"]);
    ensure!(ran.status == 125 && ran.err.contains("would be writable"), "{ran}");
    Ok(())
}

/// Every file and directory below `dir`: mode, owner, size, times, what is in it.
fn tree_of(dir: &Path) -> Result<String, support::End> {
    let script =
        "find \"$0\" -printf '%P %y %m %U %G %s %T@ %C@ %l\\n' | sort; find \"$0\" -type f -exec sha256sum {} + | sort";
    let output = Command::new("sh").args(["-c", script]).arg(dir).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ids_stay_what_they_are(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    // An id that the sandbox's map lacks is EINVAL, one that it has EPERM.
    let text = "no = 'EPERM' if ROOT else 'EINVAL'\n\
        for name, a in (('setuid', (105, 0)), ('setgid', (106, 0)), ('setreuid', (113, 0, 0)), ('setregid', (114, 0, 0)), ('setresuid', (117, 0, 0, 0)), ('setresgid', (119, 0, 0, 0))):\n\
        \x20 t(name, no, 'GOT', lambda: call(*a))\n\
        t('setgroups', 'EPERM', '', lambda: call(116, 0, 0))\n\
        t('setgroups root', 'EPERM', '', lambda: call(116, 1, struct.pack('<I', 0)))\n\
        call(122, 0); call(123, 0)\n\
        t('capset', 'EPERM', 'GOT', lambda: call(126, struct.pack('<II', 0x20080522, 0), struct.pack('<6I', 0xffffffff, 0xffffffff, 0, 0x1ff, 0x1ff, 0) if INSIDE else struct.pack('<6I', 0, 0, 0, 0, 0, 0)))\n\
        t('ambient', 'EPERM', '', lambda: call(157, 47, 2, 21, 0, 0))\n\
        t('keepcaps', 'GOT|EPERM', '', lambda: call(157, 8, 1, 0, 0, 0))\n\
        t('no_new_privs off', 'EINVAL', '', lambda: call(157, 38, 0, 0, 0, 0))\n\
        t('seccomp off', 'EINVAL|EPERM|EFAULT', '', lambda: call(157, 22, 0, 0, 0, 0))\n\
        status = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)\n\
        if INSIDE:\n\
        \x20 for k, v in {'Uid': '1000 1000 1000 1000', 'Gid': '1000 1000 1000 1000', 'NoNewPrivs': '1', 'Seccomp': '2', **{'Cap' + s: '0' * 16 for s in ('Inh', 'Prm', 'Eff', 'Bnd', 'Amb')}}.items():\n\
        \x20  if ' '.join(status[k].split()) != v: print('BAD', k, status[k])\n";
    inside(place, &[], text, 13)?;
    outside(place, &UNWALLED[..7], text, 7)
}

fn setuid_programs_gain_nothing(place: &Place) -> Test {
    // A setuid and setgid copy on the host, and one that the program makes itself, of what tells its ids.
    let bare = place.project.join("suid-id");
    fs::copy("/usr/bin/id", &bare)?;
    fs::set_permissions(&bare, fs::Permissions::from_mode(0o6755))?;
    let script = "for f in ./suid-id /own/suid-id /tmp/suid-id; do \
                  test -e $f || { cp ./suid-id $f; chmod 6755 $f; }; test -u $f || echo BAD: no setuid $f; \
                  echo $($f -u) $($f -ru) $($f -g); done; \
                  for p in su passwd mount umount ping newgrp chsh; do command -v $p >/dev/null && echo x | $p >/dev/null 2>&1; done; \
                  awk '/^(Uid|CapEff|NoNewPrivs)/ { print $2 }' /proc/self/status";
    let own = format!("{}:/own:ro", place.project.display());
    let ran = place.run(&["--mount", &own, "--", "sh", "-c", script]);
    ran.ok()?;
    let wanted = "1000 1000 1000\n1000 1000 1000\n1000 1000 1000\n1000\n0000000000000000\n1\n";
    ensure!(ran.out == wanted, "{ran}");
    if is_root() {
        // The control: to another user of the host the copy gives root.
        let dir = rustix::fs::statvfs(&bare)?;
        if !dir.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID) {
            let mut command = place.command("setpriv");
            command
                .args(["--reuid", "4242", "--regid", "4242", "--clear-groups"])
                .arg(&bare)
                .arg("-u");
            let ran = end(command, b"", LIMIT);
            ensure!(ran.out == "0\n", "the copy is no setuid program: {ran}");
        }
    }
    place.nothing_left()
}

fn a_store_and_keys_in_the_project(place: &Place) -> Test {
    place.run(&["--", "true"]).ok()?;
    // The store where the program would see it is refused; keys there are hidden.
    let mut command = place.safe_run(&["run", "--", "touch", "started"]);
    command.env("SAFE_RUN_WORKDIR_BASE", place.project.join("runs"));
    let ran = end(command, b"", LIMIT);
    ensure!(ran.status == 125 && ran.err.contains("run store"), "{ran}");
    let keys = place.project.join("keys");
    let mut command = place.safe_run(&["run", "--", "sh", "-c", "ls -a keys; cat keys/*; echo end"]);
    command.env("SAFE_RUN_KEY_DIR", &keys);
    let ran = end(command, b"", LIMIT);
    ensure!(
        (ran.status == 125 && ran.err.contains("keys")) || (ran.status == 0 && !ran.out.contains("key.")),
        "{ran}"
    );
    Ok(())
}

/// The most memory that process `pid` has had, in KiB.
fn high_water(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Runs to the end and counts what comes out, and the most memory that the supervisor had.
fn counted(place: &Place, words: &[&str]) -> Result<(i32, u64, u64, Duration), support::End> {
    let start = Instant::now();
    let mut command = place.safe_run(&[&["run", "--quiet"], words].concat());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut out = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
    let mut most = 0;
    let status = loop {
        most = most.max(high_water(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            break status.code().unwrap_or(-1);
        }
        if start.elapsed() > slow(LIMIT) {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let came = reader.join().expect("the reader")?;
    Ok((status, came, most, start.elapsed()))
}

fn ten_gigabytes_of_output(place: &Place) -> Test {
    let mark = place.mark();
    let write = "import os\nb = bytes(1 << 20)\nfor i in range(N): os.write(1 + i % 2, b)";
    // Where the limit kills: at once.
    let all = write.replace('N', "10240");
    let words = ["--policy", "strict", "--", "/usr/bin/python3", "-c", &all, &mark];
    let (status, came, most, took) = counted(place, &words)?;
    let report = place.report();
    ensure!(
        status == 137 && report["result"]["cause"] == "output",
        "{status}: {}",
        report["result"]
    );
    ensure!(
        came <= 4 << 20 && took < slow(Duration::from_secs(10)),
        "{came} bytes in {took:?}"
    );
    ensure!((1..64 << 10).contains(&most), "the supervisor had {most} KiB");
    // Where it cuts: all is taken from the program and thrown away, without being kept.
    let some = write.replace('N', "1024");
    let words = ["--output", "1MiB", "--", "/usr/bin/python3", "-c", &some, &mark];
    let (status, came, most, took) = counted(place, &words)?;
    let report = place.report();
    let outputs = &report["outputs"];
    let number = |stream: &str, what: &str| outputs[stream][what].as_u64().unwrap_or(0);
    ensure!(status == 0 && came <= 1 << 20, "{status}: {came} bytes came");
    ensure!(
        report["result"]["limitsHit"] == serde_json::json!(["resources.output"]),
        "{}",
        report["result"]
    );
    let passed = number("stdout", "bytes") + number("stderr", "bytes");
    let dropped = number("stdout", "dropped") + number("stderr", "dropped");
    ensure!(passed == 1 << 20 && passed + dropped == 1 << 30, "{outputs}");
    ensure!(
        most < 64 << 10 && took < slow(Duration::from_secs(25)),
        "{most} KiB, {took:?}"
    );
    place.nothing_left()
}

fn one_endless_line(place: &Place) -> Test {
    let endless = "import os\nb = b'x' * 65536\nwhile True: os.write(1, b)";
    let words = [
        "--output",
        "1MiB",
        "--timeout",
        "2s",
        "--",
        "/usr/bin/python3",
        "-c",
        endless,
        &place.mark(),
    ];
    let (status, came, most, took) = counted(place, &words)?;
    let report = place.report();
    ensure!(
        status == 124 && report["result"]["cause"] == "timeout",
        "{status}: {}",
        report["result"]
    );
    ensure!(
        came == 1 << 20 && report["outputs"]["stdout"]["dropped"].as_u64() > Some(1 << 20),
        "{}",
        report["outputs"]
    );
    ensure!(
        (1..64 << 10).contains(&most) && took < slow(Duration::from_secs(8)),
        "{most} KiB, {took:?}"
    );
    place.nothing_left()
}

fn links_out_of_the_project(place: &Place) -> Test {
    let canary = place.root().join("canary");
    fs::write(&canary, CANARY)?;
    std::os::unix::fs::symlink(&canary, place.project.join("way-out"))?;
    fs::create_dir(place.project.join("d"))?;
    fs::write(place.project.join("d/f"), "old")?;
    let script = format!(
        "cat way-out 2>/dev/null && echo GOT || echo DENIED; echo bad > way-out 2>/dev/null; rm -r d; ln -s {} d; echo bad > d/canary 2>/dev/null; rm way-out; echo x > way-out",
        place.root().display()
    );
    let ran = place.run(&["--", "sh", "-c", &script]);
    ensure!(ran.out.contains("DENIED") && !ran.out.contains("GOT"), "{ran}");
    let _ = place.tell(&["apply", "--yes"]);
    ensure!(
        fs::read_to_string(&canary)? == CANARY,
        "apply wrote through a symbolic link"
    );
    Ok(())
}

fn hidden_files(place: &Place) -> Test {
    for name in [".env", ".env.local", ".npmrc", ".netrc", ".pypirc", "sub/.env"] {
        place.write(name, &format!("TOKEN={CANARY}\n"));
    }
    place.write(
        ".git/config",
        &format!("[remote \"o\"]\n\turl = https://me:{CANARY}@example.com/x.git\n"),
    );
    place.write(".git/HEAD", "ref: refs/heads/main\n");
    fs::create_dir_all(place.project.join(".git/objects"))?;
    fs::create_dir_all(place.project.join(".git/refs"))?;
    let ran = place.run(&[
        "--",
        "sh",
        "-c",
        "cat .git/config .env .env.local .npmrc .netrc .pypirc sub/.env 2>&1; grep -rs canary- . ; echo end",
    ]);
    ensure!(
        ran.out.contains("end") && ran.out.contains("example.com") && !ran.out.contains(CANARY),
        "{ran}"
    );
    ensure!(
        place.report().to_string().contains(".env"),
        "what was hidden is not reported"
    );
    Ok(())
}
