//! Virtual machines that have the processor's help: Firecracker and Cloud Hypervisor where their programs are named, QEMU where
//! it is installed, each behind the native wall. They run where KVM runs guests: nested in the rig, or on hardware by
//! `SAFE_RUN_TEST_KVM=1`. What needs no guest runs everywhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use support::guest::{agent, failed, hostile_agent, kernel, lost, monitor_below, nothing_left_of_guests, root, whole};
use support::{CANARY, End, Going, Place, Ran, Test, end, is_root, needs, on_the_rig, skip, slow};

/// A boot of a guest within a guest, on a host that is busy with other things.
const BOOT: Duration = Duration::from_secs(180);

/// A monitor: its name in a policy, where its program is named, and what its process is called.
#[derive(Clone, Copy)]
struct Vmm {
    name: &'static str,
    variable: &'static str,
}

const QEMU: Vmm = Vmm {
    name: "qemu",
    variable: "SAFE_RUN_QEMU",
};
const FIRECRACKER: Vmm = Vmm {
    name: "firecracker",
    variable: "SAFE_RUN_FIRECRACKER",
};
const CLOUD_HYPERVISOR: Vmm = Vmm {
    name: "cloud-hypervisor",
    variable: "SAFE_RUN_CLOUD_HYPERVISOR",
};

fn main() {
    support::main(&[
        ("kvm_a_program_in_qemu", |place| a_program(place, QEMU)),
        ("kvm_a_program_in_firecracker", |place| a_program(place, FIRECRACKER)),
        ("kvm_a_program_in_cloud_hypervisor", |place| {
            a_program(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_files_in_firecracker", |place| files(place, FIRECRACKER)),
        ("kvm_files_in_cloud_hypervisor", |place| files(place, CLOUD_HYPERVISOR)),
        ("kvm_a_root_in_firecracker", |place| a_root(place, FIRECRACKER)),
        ("kvm_a_root_in_cloud_hypervisor", |place| {
            a_root(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_attacks_in_firecracker", |place| attacks(place, FIRECRACKER)),
        ("kvm_attacks_in_cloud_hypervisor", |place| {
            attacks(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_examples_in_firecracker", |place| examples(place, FIRECRACKER)),
        ("kvm_examples_in_cloud_hypervisor", |place| {
            examples(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_limits_in_firecracker", |place| limits(place, FIRECRACKER)),
        ("kvm_limits_in_cloud_hypervisor", |place| {
            limits(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_a_firecracker_that_is_killed", |place| {
            a_monitor_that_is_killed(place, FIRECRACKER)
        }),
        ("kvm_a_cloud_hypervisor_that_is_killed", |place| {
            a_monitor_that_is_killed(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_a_silent_guest_in_firecracker", |place| {
            a_silent_guest(place, FIRECRACKER)
        }),
        ("kvm_a_silent_guest_in_cloud_hypervisor", |place| {
            a_silent_guest(place, CLOUD_HYPERVISOR)
        }),
        ("kvm_a_user_of_its_group", a_user_of_its_group),
        ("kvm_that_runs_no_guest", that_runs_no_guest),
        (
            "kvm_monitors_that_are_missing_or_too_old",
            monitors_that_are_missing_or_too_old,
        ),
        ("kvm_a_program_that_is_no_monitor", a_program_that_is_no_monitor),
        ("kvm_a_jailer_that_is_named", a_jailer_that_is_named),
        ("kvm_a_jailer_that_is_not_there", a_jailer_that_is_not_there),
    ]);
}

/// Where KVM runs guests, by what is said of this machine: that its device can be opened says nothing of it.
fn runs_guests() -> Test {
    if std::env::var_os("SAFE_RUN_TEST_RIG").is_none() && std::env::var_os("SAFE_RUN_TEST_KVM").is_none() {
        return skip("KVM: neither SAFE_RUN_TEST_RIG nor SAFE_RUN_TEST_KVM is set");
    }
    match sr_kernel::kvm::blocked() {
        None => Ok(()),
        Some(why) => skip(format!("KVM: {why}")),
    }
}

/// `safe-run run` of a policy with that monitor, whose program is there; the guest has so long to boot.
fn within(place: &Place, vmm: Vmm, boot: &str, words: &[&str]) -> Result<Command, End> {
    runs_guests()?;
    match vmm.name {
        "qemu" => needs(place, "qemu-system-x86_64")?,
        name if std::env::var_os(vmm.variable).is_none() => {
            return skip(format!("{} names no {name}", vmm.variable));
        }
        _ => {}
    }
    kernel(&place.store)?;
    let mut command = asked(place, vmm, boot, words)?;
    command.env("SAFE_RUN_GUEST", agent());
    Ok(command)
}

fn asked(place: &Place, vmm: Vmm, boot: &str, words: &[&str]) -> Result<Command, End> {
    // One processor: nested in QEMU's translation, before its 8.1, a kernel that writes to its code on one of two comes to harm.
    let root = match place.home.join("tree").exists() {
        true => ", rootfs: box",
        false => "",
    };
    let policy = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: k}}\nextends: standard\n\
         runtime: {{backend: \"microvm:{}\", args: []}}\nmounts: [{{source: ., target: /work, captured: true}}]\n\
         resources: {{cpu: 1}}\n\
         microvm: {{bootTimeout: {boot}{root}}}\n",
        vmm.name
    );
    fs::write(place.home.join("policy.yaml"), policy)?;
    let policy = place.home.join("policy.yaml");
    let first = ["run", "--quiet", "--policy", policy.to_str().expect("UTF-8")];
    let mut command = place.safe_run(&[&first[..], words].concat());
    for vmm in [FIRECRACKER, CLOUD_HYPERVISOR] {
        command.envs(std::env::var_os(vmm.variable).map(|program| (vmm.variable, program)));
    }
    Ok(command)
}

fn run(place: &Place, vmm: Vmm, words: &[&str]) -> Result<Ran, End> {
    Ok(end(within(place, vmm, "170s", words)?, b"in\n", slow(BOOT)))
}

/// From its policy to its report.
fn a_program(place: &Place, vmm: Vmm) -> Test {
    place.write("old", "text\n");
    let script = "cat; cat old; id -u; uname -r; echo new > made; rm old; test ! -e /dev/kvm && exit 7";
    let ran = run(place, vmm, &["--", "sh", "-c", script])?;
    ran.ended(7)?;
    ensure!(ran.out.starts_with("in\ntext\n1000\n6.1."), "{ran}");
    ensure!(
        place.project.join("old").exists() && !place.project.join("made").exists(),
        "written through"
    );
    let report = place.report();
    ensure!(report["backend"] == format!("microvm:{}", vmm.name), "{report}");
    whole(place, 0)?;
    // Those that count something of their machine tell of it.
    let counted = place
        .events("guest.event")
        .iter()
        .any(|event| event["data"]["event"] == "monitorCounted");
    ensure!(counted != (vmm.name == "qemu"), "{:?}", place.events("guest.event"));
    nothing_left_of_guests(place)?;
    place.tell(&["report", "verify"]).ok()?;
    place.tell(&["apply", "last", "made", "old"]).ok()?;
    ensure!(
        !place.project.join("old").exists() && place.project.join("made").exists(),
        "not applied"
    );
    Ok(())
}

/// What programs do with files, over what the driver serves: little of each, since an exit of a nested guest takes long.
fn files(place: &Place, vmm: Vmm) -> Test {
    needs(place, "python3")?;
    place.write("given", "0123456789");
    let job = r#"
import fcntl, hashlib, mmap, os, socket, stat, subprocess
assert open('given').read() == '0123456789'
with open('own', 'w') as f: f.write('own')
os.mkdir('d', 0o750); os.symlink('../own', 'd/link'); os.link('own', 'd/hard')
assert open('d/link').read() == 'own' and os.stat('own').st_nlink == 2
assert stat.S_IMODE(os.stat('d').st_mode) == 0o750 and os.path.samefile('own', 'd/hard')
big = os.urandom(300 << 10)
with open('big', 'wb') as f: f.write(big)
assert hashlib.sha256(open('big', 'rb').read()).digest() == hashlib.sha256(big).digest()
with open('big', 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0); m[5:9] = b'mmap'; m.flush(); m.close(); f.truncate(100)
assert open('big', 'rb').read()[5:9] == b'mmap' and os.path.getsize('big') == 100
with open('log', 'a') as f: f.write('one\n')
with open('log', 'a') as f: f.write('two\n')
assert open('log').read() == 'one\ntwo\n'
fd = os.open('gone', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o444); os.unlink('gone')
os.write(fd, b'x'); assert os.pread(fd, 1, 0) == b'x'; os.close(fd)
for n in range(12): open(f'd/{n:03}', 'w').close()
assert len(os.listdir('d')) == 14
os.rename('log', 'new'); os.rename('new', 'log'); os.utime('log', (1, 2)); os.chmod('log', 0o600)
assert (os.stat('log').st_mtime, stat.S_IMODE(os.stat('log').st_mode)) == (2, 0o600)
os.mkfifo('pipe'); p = subprocess.Popen(['sh', '-c', 'echo through > pipe'])
assert open('pipe').read() == 'through\n' and p.wait() == 0
s = socket.socket(socket.AF_UNIX); s.bind('door'); s.listen(1)
c = socket.socket(socket.AF_UNIX); c.connect('door')
f = open('log'); fcntl.flock(f, fcntl.LOCK_EX)
for name in ('big', 'pipe', 'door'): os.unlink(name)
try: open('/usr/new', 'w'); raise SystemExit('wrote to /usr')
except OSError: pass
print('all')
"#;
    let ran = run(place, vmm, &["--", "python3", "-c", job])?;
    ran.ended(0)?;
    ensure!(ran.out == "all\n", "{ran}");
    nothing_left_of_guests(place)?;
    place.tell(&["apply", "--yes", "last"]).ok()?;
    let project = &place.project;
    ensure!(fs::read_to_string(project.join("log"))? == "one\ntwo\n", "the log");
    ensure!(fs::read_dir(project.join("d"))?.count() == 14, "the directory");
    ensure!(fs::read_link(project.join("d/link"))?.ends_with("own"), "the link");
    Ok(())
}

/// The attack basics, all in one guest: on a host each has its payload and its control in `attacks`.
fn attacks(place: &Place, vmm: Vmm) -> Test {
    needs(place, "python3")?;
    let outside = place.root().join("canary");
    fs::write(&outside, CANARY)?;
    place.write(".env", &format!("TOKEN={CANARY}\n"));
    std::os::unix::fs::symlink(&outside, place.project.join("way-out"))?;
    fs::copy("/usr/bin/id", place.project.join("suid-id"))?;
    fs::set_permissions(place.project.join("suid-id"), fs::Permissions::from_mode(0o6755))?;
    let job = r#"
import ctypes, errno, os, socket, stat, struct, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
buf = ctypes.create_string_buffer(512)
tried = 0
def call(nr, *a):
    r = libc.syscall(ctypes.c_long(nr), *[ctypes.c_long(x) if isinstance(x, int) else ctypes.c_char_p(x) for x in a])
    if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r
def t(name, wanted, work):
    global tried
    tried += 1
    try: got = work(); seen = 'GOT'
    except OSError as e: got = ''; seen = errno.errorcode.get(e.errno, str(e.errno))
    if seen not in wanted.split('|'): print('BAD', name, 'wanted', wanted, 'saw', seen, repr(got)[:100])
outside, child = sys.argv[1], os.fork()
if child == 0: import signal; signal.pause(); os._exit(0)
# Files.
for path in (outside, '/root', '/home', '/srv', '/etc/shadow', '/var/log', '/dev/kvm', '/dev/vda', '/dev/mem', '/dev/vsock', '/sys/kernel', '/sys/fs/cgroup'):
    t(path, 'ENOENT', lambda: os.stat(path))
t('a link out', 'ENOENT', lambda: open('way-out').read())
t('a hidden file', 'GOT|ENOENT|EACCES', lambda: print(open('.env').read()))
t('kcore', 'GOT|ENOENT|EACCES|EPERM', lambda: open('/proc/kcore', 'rb').read(9) and print('BAD kcore'))
t('sysrq', 'ENOENT|EACCES|EROFS|EPERM', lambda: os.write(os.open('/proc/sysrq-trigger', 1), b'h'))
t('core_pattern', 'ENOENT|EACCES|EROFS|EPERM', lambda: os.write(os.open('/proc/sys/kernel/core_pattern', 1), b'x'))
for d in ('/usr', '/etc', '/lib', '/sys', '/', '/dev', '/bin'):
    t('make in ' + d, 'EROFS|EACCES', lambda: os.open(d + '/safe-run-was-here', os.O_CREAT | os.O_WRONLY))
t('chmod', 'EROFS|EPERM', lambda: os.chmod('/usr/bin/env', 0o777))
# Descriptors and the terminal.
for n in range(3, 64): t('fd %d' % n, 'EBADF', lambda: os.fstat(n))
for fd in (0, 1, 2):
    if not stat.S_ISFIFO(os.fstat(fd).st_mode): print('BAD kind of', fd)
    for request in (0x5412, 0x541c, 0x5412 | 1 << 32): t('push', 'EPERM', lambda: call(16, fd, request, b'\2'))
t('tty', 'ENXIO', lambda: os.open('/dev/tty', os.O_RDWR))
# Sockets.
for family in range(2, 46):
    for kind in (1, 2, 3): t('family %d %d' % (family, kind), 'EACCES', lambda: socket.socket(family, kind))
t('unix', 'GOT', lambda: socket.socketpair())
# Mounts and namespaces.
for name, a in (('mount', (165, b'none', b'/tmp', b'tmpfs', 0, 0)), ('umount', (166, b'/tmp', 2)), ('pivot_root', (155, b'/tmp', b'/tmp')),
    ('chroot', (161, b'/')), ('fsopen', (430, b'tmpfs', 0)), ('open_tree', (428, -100, b'/tmp', 1)), ('setns', (308, -1, 0)),
    ('sethostname', (170, b'none', 4)), ('unshare user', (272, 0x10000000)), ('unshare mount', (272, 0x20000)), ('unshare net', (272, 0x40000000)),
    ('clone user', (56, 0x10000011, 0, 0, 0, 0)),
    # Others' memory, descriptors, tracing.
    ('seize', (101, 0x4206, child, 0, 0)), ('attach', (101, 16, 1, 0, 0)), ('readv', (310, 1, bytes(16), 1, bytes(16), 1, 0)),
    ('writev', (311, child, bytes(16), 1, bytes(16), 1, 0)), ('kcmp', (312, child, 1, 0, 0, 0)), ('pidfd_getfd', (438, call(434, child, 0), 0, 0)),
    # Calls outside the profile.
    ('io_uring_enter', (426, -1, 0, 0, 0, 0)), ('keyctl', (250, 0, -3, 1)), ('add_key', (248, b'user', b'x', b'none', 4, -1)), ('bpf', (321, 99, 0, 0)),
    ('perf_event_open', (298, 0, 0, -1, -1, 0)), ('userfaultfd', (323, 1)), ('init_module', (175, b'x', 8, b'none')), ('finit_module', (313, -1, b'', 0)),
    ('kexec_load', (246, 0, 0, b'', 0)), ('reboot', (169, 1, 2, 3, 0)), ('swapon', (167, b'/tmp', 0)), ('open_by_handle_at', (304, -1, b'', 0)),
    ('personality', (135, 0x0400000)), ('mknod', (133, b'/tmp/node', 0o20666, 0x101)), ('acct', (163, b'/tmp')), ('clock_settime', (227, 0, bytes(16))),
    ('iopl', (172, 7)), ('ioperm', (173, 65535, 1, 1)), ('fanotify_init', (300, 0, 0)), ('syslog', (103, 3, bytes(10), 10)), ('adjtimex', (159, bytes(208)))):
    t(name, 'EPERM', lambda: call(*a))
for name, nr in (('io_uring_setup', 425), ('clone3', 435), ('no such call', 900)): t(name, 'ENOSYS', lambda: call(nr, 0, 0))
# Who it is.
for name, a in (('setuid', (105, 0)), ('setgid', (106, 0)), ('setresuid', (117, 0, 0, 0)), ('setgroups', (116, 0, 0)), ('capset', (126, struct.pack('<II', 0x20080522, 0), struct.pack('<6I', 1 << 21, 1 << 21, 0, 0, 0, 0)))):
    t(name, 'EPERM|EINVAL', lambda: call(*a))
t('no_new_privs off', 'EINVAL', lambda: call(157, 38, 0, 0, 0, 0))
own = subprocess.run(['./suid-id', '-u'], capture_output=True, text=True)
if own.stdout != '1000\n': print('BAD setuid', own)
status = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)
for k, v in {'Uid': '1000 1000 1000 1000', 'NoNewPrivs': '1', 'Seccomp': '2', **{'Cap' + s: '0' * 16 for s in ('Inh', 'Prm', 'Eff', 'Bnd', 'Amb')}}.items():
    if ' '.join(status[k].split()) != v: print('BAD', k, status[k])
t('end of init', 'EPERM', lambda: os.kill(1, 9))
os.kill(child, 9)
print('tried', tried)
"#;
    let canary = outside.to_str().expect("UTF-8");
    let ran = run(place, vmm, &["--", "python3", "-c", job, canary])?;
    ran.ended(0)?;
    let tried = ran
        .out
        .lines()
        .find_map(|line| line.strip_prefix("tried ")?.parse::<u32>().ok());
    ensure!(!ran.out.contains("BAD") && tried > Some(250), "{ran}");
    ensure!(!ran.out.contains(CANARY), "the canary came out: {ran}");
    whole(place, 0)?;
    nothing_left_of_guests(place)
}

/// Those examples that are a policy alone, as they are written but for their time; that of a limit is among the limits.
fn examples(place: &Place, vmm: Vmm) -> Test {
    needs(place, "python3")?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for (name, says) in [
        ("m1_network_none", "send a datagram: refused"),
        ("read_only_root", "/etc/shadow: absent"),
    ] {
        // Whether it can run here is asked there too.
        let ready = within(place, vmm, "170s", &["--", "true"])?;
        let policy = examples.join(format!("{name}.yaml"));
        let backend = format!("microvm:{}", vmm.name);
        // A program's start takes long on a processor that is computed twice.
        let words = ["run", "--quiet", "--timeout", "5min", "--backend", &backend, "--policy"];
        let mut command = place.safe_run(&[&words[..], &[policy.to_str().expect("UTF-8")]].concat());
        let set = ready.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(set);
        let ran = end(command, b"", slow(BOOT));
        ran.ended(0)?;
        ensure!(ran.out.contains(says), "{name}: {ran}");
        let report = place.report();
        ensure!(report["backend"] == backend.as_str(), "{name}: {report}");
        whole(place, 0)?;
    }
    nothing_left_of_guests(place)
}

fn limits(place: &Place, vmm: Vmm) -> Test {
    needs(place, "python3")?;
    let ran = run(
        place,
        vmm,
        &["--memory", "100MiB", "--", "python3", "-c", "x = bytearray(300 << 20)"],
    )?;
    ran.ended(137)?;
    let result = &place.report()["result"];
    ensure!(result["cause"] == "memory", "{result}");
    let ran = run(place, vmm, &["--timeout", "2s", "--", "sleep", "60"])?;
    ran.ended(124)?;
    let result = &place.report()["result"];
    ensure!(result["cause"] == "timeout", "{result}");
    nothing_left_of_guests(place)
}

fn a_monitor_that_is_killed(place: &Place, vmm: Vmm) -> Test {
    let words = ["--", "sh", "-c", "echo ready; sleep 60", &place.mark()];
    let mut going = Going::start(within(place, vmm, "170s", &words)?)?;
    let monitor = monitor_below(going.pid())?;
    rustix::process::kill_process(monitor, Signal::KILL)?;
    ensure!(going.wait()? == 125, "its status");
    lost(place, "run.monitor", "signal: 9")?;
    nothing_left_of_guests(place)
}

fn a_silent_guest(place: &Place, vmm: Vmm) -> Test {
    let mut command = within(place, vmm, "20s", &["--", "true"])?;
    command.env("SAFE_RUN_GUEST", hostile_agent(place, "SILENT")?);
    let ran = end(command, b"", slow(BOOT));
    failed(&ran, "launch.boot", "the guest did not boot within 20s")?;
    nothing_left_of_guests(place)
}

/// Nobody helps an ordinary user whom the host lets use KVM; whom it does not is told so.
/// With an image for its root.
fn a_root(place: &Place, vmm: Vmm) -> Test {
    runs_guests()?;
    root(place)?;
    place.write("old", "text\n");
    let script = "cat; cat old /etc/own; echo new > made; touch /new; exit 7";
    let ran = run(place, vmm, &["--", "sh", "-c", script])?;
    ran.ended(7)?;
    ensure!(
        ran.out == "in\ntext\nthe image's own\n" && ran.err.contains("/new: Read-only"),
        "{ran}"
    );
    whole(place, 1)?;
    nothing_left_of_guests(place)?;
    place.tell(&["apply", "last", "made"]).ok()
}

fn a_user_of_its_group(place: &Place) -> Test {
    const GROUP: u32 = 4242;
    on_the_rig()?;
    if !is_root() {
        return skip("KVM: not started by root");
    }
    place.write("old", "text\n");
    // From a root of its own, too.
    root(place)?;
    let ready = within(
        place,
        QEMU,
        "170s",
        &["--", "sh", "-c", "cat old /etc/own; echo new > made; exit 7"],
    )?;
    let mut own = place.command("chown");
    own.args(["-R", "65534:65534"]).arg(place.root());
    end(own, b"", slow(BOOT)).ok()?;
    let device = Path::new("/dev/kvm");
    std::os::unix::fs::chown(device, None, Some(GROUP))?;
    fs::set_permissions(device, fs::Permissions::from_mode(0o660))?;
    let binary = place.as_nobody()?.get_program().to_owned();
    let as_user = |groups: &str| {
        let mut command = place.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", groups, "--inh-caps=-all"]);
        command
            .arg(&binary)
            .args(ready.get_args())
            .env("SAFE_RUN_GUEST", agent());
        end(command, b"", slow(BOOT))
    };
    failed(&as_user("--clear-groups"), "launch.preflight.kvm", "not in its group")?;
    let ran = as_user(&format!("--groups={GROUP}"));
    ran.ended(7)?;
    ensure!(ran.out == "text\nthe image's own\n", "{ran}");
    ensure!(!place.project.join("made").exists(), "written through");
    nothing_left_of_guests(place)
}

/// The device is there, and may be opened, and makes machines; but no guest comes up in them.
fn that_runs_no_guest(place: &Place) -> Test {
    if let Some(why) = sr_kernel::kvm::blocked() {
        return skip(format!("KVM: {why}"));
    }
    if std::env::var_os("SAFE_RUN_TEST_RIG").is_some() {
        return skip("KVM: it runs guests here");
    }
    needs(place, "qemu-system-x86_64")?;
    kernel(&place.store)?;
    let mut command = asked(place, QEMU, "6s", &["--", "true"])?;
    command.env("SAFE_RUN_GUEST", agent());
    let ran = end(command, b"", slow(BOOT));
    if ran.status == 0 {
        return skip("KVM: it runs guests here");
    }
    failed(&ran, "launch.boot", "")?;
    nothing_left_of_guests(place)
}

fn monitors_that_are_missing_or_too_old(place: &Place) -> Test {
    for (vmm, stage, says) in [
        (FIRECRACKER, "launch.preflight.firecracker", "Firecracker v1.0.0"),
        (
            CLOUD_HYPERVISOR,
            "launch.preflight.cloudHypervisor",
            "cloud-hypervisor v20.0",
        ),
    ] {
        let program = place.home.join(vmm.name);
        let with = |what: &str| -> Test {
            let mut command = asked(place, vmm, "5s", &["--", "true"])?;
            command.env(vmm.variable, &program).env("SAFE_RUN_GUEST", agent());
            failed(&end(command, b"", slow(BOOT)), stage, what)
        };
        with("does not exist")?;
        fs::write(&program, format!("#!/bin/sh\necho '{says}'\n"))?;
        with("no file that this user may execute")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        with("is older than")?;
        fs::write(&program, "#!/bin/sh\necho nothing\n")?;
        with("is the oldest that is taken")?;
        let mut command = asked(place, vmm, "5s", &["--", "true"])?;
        command.env_remove(vmm.variable).env("SAFE_RUN_GUEST", agent());
        failed(&end(command, b"", slow(BOOT)), stage, "on PATH")?;
    }
    nothing_left_of_guests_or_no_store(place)
}

/// Says the right version, and is nothing else.
fn a_program_that_is_no_monitor(place: &Place) -> Test {
    if let Some(why) = sr_kernel::kvm::blocked() {
        return skip(format!("KVM: {why}"));
    }
    kernel(&place.store)?;
    for (vmm, says) in [
        (FIRECRACKER, "Firecracker v99.0.0"),
        (CLOUD_HYPERVISOR, "cloud-hypervisor v999.0"),
    ] {
        let ran = end(no_monitor(place, vmm, says)?, b"", slow(BOOT));
        failed(&ran, "launch.", "nothing of it")?;
        nothing_left_of_guests(place)?;
    }
    Ok(())
}

fn no_monitor(place: &Place, vmm: Vmm, says: &str) -> Result<Command, End> {
    let program = place.home.join(vmm.name);
    let text = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo '{says}' && exit; echo nothing of it >&2; exit 3\n");
    fs::write(&program, text)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut command = asked(place, vmm, "60s", &["--", "true"])?;
    command.env(vmm.variable, &program).env("SAFE_RUN_GUEST", agent());
    Ok(command)
}

fn a_jailer_that_is_not_there(place: &Place) -> Test {
    if let Some(why) = sr_kernel::kvm::blocked() {
        return skip(format!("KVM: {why}"));
    }
    kernel(&place.store)?;
    let jailer = place.home.join("jailer");
    let refused = |what: &str| -> Test {
        let mut command = no_monitor(place, FIRECRACKER, "Firecracker v99.0.0")?;
        command.env("SAFE_RUN_JAILER", &jailer);
        failed(&end(command, b"", slow(BOOT)), "launch.preflight.jailer", what)
    };
    refused("No such file")?;
    fs::write(&jailer, "#!/bin/sh\n")?;
    refused("not an executable file")?;
    nothing_left_of_guests(place)
}

/// Nobody runs it, and its namer is told.
fn a_jailer_that_is_named(place: &Place) -> Test {
    let jailer = place.home.join("jailer");
    fs::write(&jailer, "#!/bin/sh\ntouch \"$0.ran\"\n")?;
    fs::set_permissions(&jailer, fs::Permissions::from_mode(0o755))?;
    let mut command = within(place, FIRECRACKER, "170s", &["--json", "--", "sh", "-c", "exit 7"])?;
    command.env("SAFE_RUN_JAILER", &jailer);
    let ran = end(command, b"", slow(BOOT));
    ran.ended(7)?;
    ensure!(ran.err.contains("(SAFE_RUN_JAILER) is not run"), "{ran}");
    ensure!(!place.home.join("jailer.ran").exists(), "it was run");
    nothing_left_of_guests(place)
}

fn nothing_left_of_guests_or_no_store(place: &Place) -> Test {
    match place.store.join("artifacts").exists() {
        true => nothing_left_of_guests(place),
        false => place.nothing_left(),
    }
}
