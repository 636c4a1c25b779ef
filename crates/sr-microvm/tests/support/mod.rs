//! What the tests of the driver share: a place with a root directory for a guest, the supervisor's end of a driver, the
//! parts of a machine. The driver is this very test program, started once more.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code)] // Each test program uses a part of it.

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use sr_artifact::cpio::Archive;
use sr_artifact::modules::{self, Modules};
use sr_common::Millis;
use sr_common::guest::{DiskFormat, GuestLimits, GuestMount, GuestMountKind, GuestPlan, GuestRoot, GuestShare};
use sr_common::monitor::{MESSAGE, Order, Said, Speech};
use sr_compiler::vmm::qemu::{Accel, Machine};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A test that could not run here ends with this; it becomes an ignored result with its reason.
#[derive(Debug)]
pub enum End {
    Skip(String),
    Fail(Failed),
}

impl<E: std::fmt::Display> From<E> for End {
    fn from(error: E) -> End {
        End::Fail(Failed::from(error))
    }
}

pub type Test = Result<(), End>;

pub fn skip<T>(reason: impl Into<String>) -> Result<T, End> {
    Err(End::Skip(reason.into()))
}

pub fn fail<T>(why: impl std::fmt::Display) -> Result<T, End> {
    Err(End::Fail(Failed::from(why.to_string())))
}

/// `ensure!(condition, "what, and what was seen: {}", seen)`.
#[macro_export]
macro_rules! ensure {
    ($what:expr, $($words:tt)*) => {
        if !$what {
            return $crate::support::fail(format!($($words)*));
        }
    };
}

/// A test's name, and the test.
pub type Case = (&'static str, fn(&Place) -> Test);

/// The first word of a driver's command line.
const DRIVER: &str = "as-driver";
/// The first word of a command line in a monitor's stead.
pub const STAND_IN: &str = "as-monitor";

/// Runs the tests of a program; or is the driver that one of them has started, or what that has started.
pub fn main(tests: &[Case], stand_in: fn(&str)) {
    let words: Vec<String> = std::env::args().collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, DRIVER, socket] => {
            // Of whoever runs tests.
            sr_kernel::process::close_from(3).unwrap();
            let own = seqpacket();
            assert_eq!(own.as_raw_fd(), 3, "nothing else is open");
            rustix::net::connect(&own, &SocketAddrUnix::new(*socket).unwrap()).unwrap();
            let _ = own.into_raw_fd();
            std::process::exit(i32::from(sr_microvm::monitor::run()));
        }
        [_, STAND_IN, what] => return stand_in(what),
        _ => {}
    }
    let trials = tests.iter().map(|(name, test)| {
        let (name, test) = (*name, *test);
        Trial::ignorable_test(name, move || match test(&Place::new()) {
            Ok(()) => Ok(Completion::Completed),
            Err(End::Skip(reason)) => Ok(Completion::ignored_with(reason)),
            Err(End::Fail(failed)) => Err(failed),
        })
    });
    let mut arguments = Arguments::from_args();
    // More machines at once than there are processors would only wait for each other.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn seqpacket() -> OwnedFd {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// How much slower than a development host this one is.
pub fn limit() -> Duration {
    let slowness = std::env::var("SAFE_RUN_TEST_SLOWNESS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(120) * slowness.unwrap_or(1)
}

fn target() -> PathBuf {
    // target/debug/deps/qemu-0a1b
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().to_owned()
}

/// The agent, built if this can build it.
fn agent() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(given) = std::env::var_os("SAFE_RUN_GUEST") {
            return given.into();
        }
        if let Some(cargo) = std::env::var_os("CARGO") {
            let built = Command::new(cargo)
                .args(["xtask", "guest"])
                .stdout(Stdio::null())
                .status();
            assert!(built.is_ok_and(|status| status.success()), "the agent does not build");
        }
        let built = target().join("guest/x86_64-unknown-linux-gnu/guest/sr-guest");
        assert!(built.is_file(), "{} is not there: cargo xtask guest", built.display());
        built
    })
}

/// A kernel of Debian's, and an initrd with its modules and the agent, made once.
pub fn images(place: &Place) -> Result<(PathBuf, PathBuf), End> {
    static INITRD: OnceLock<Result<Vec<u8>, String>> = OnceLock::new();
    let rig = target().join("tools/rig-6.1-2");
    let Ok(release) = fs::read_to_string(rig.join("release")) else {
        return skip(format!("no kernel in {}: `cargo xtask rig` fetches it", rig.display()));
    };
    let made = INITRD.get_or_init(|| {
        let dir = rig.join("lib/modules").join(release.trim());
        let modules = Modules::read(&dir)
            .and_then(|all| all.closure(&modules::GUEST))
            .map_err(|fault| fault.to_string())?;
        let mut bytes = modules::archive(release.trim(), &modules);
        let mut archive = Archive::default();
        for directory in ["dev", "proc", "share", "root"] {
            archive.directory(directory);
        }
        archive.device("dev/console", 0o600, (5, 1));
        archive.file("init", 0o755, &fs::read(agent()).map_err(|e| e.to_string())?);
        bytes.extend(archive.end());
        Ok(bytes)
    });
    let bytes = made.as_ref().map_err(|why| End::from(why.clone()))?;
    let initrd = place.path().join("initrd");
    fs::write(&initrd, bytes)?;
    Ok((rig.join("vmlinux"), initrd))
}

/// A directory of a test's own.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("safe-run-test-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Place { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The guest's root: this host's system directories, read-only, and what is the guest's to write.
    pub fn root(&self) -> PathBuf {
        let root = self.path().join("root");
        for name in ["dev", "proc", "tmp", "work", "usr", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            if !root.join(name).is_symlink() {
                std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
            }
        }
        fs::set_permissions(root.join("work"), fs::Permissions::from_mode(0o777)).unwrap();
        root
    }

    /// An image with a shell, some files, and nothing to mount on.
    pub fn disk(&self, format: DiskFormat) -> Result<PathBuf, End> {
        let tree = self.path().join("tree");
        let image = self.path().join(format!("{format:?}"));
        for name in ["bin", "etc", "work", "lib/x86_64-linux-gnu", "lib64"] {
            fs::create_dir_all(tree.join(name))?;
        }
        fs::set_permissions(tree.join("work"), fs::Permissions::from_mode(0o777))?;
        let libraries =
            ["libc.so.6", "libselinux.so.1", "libpcre2-8.so.0"].map(|name| format!("lib/x86_64-linux-gnu/{name}"));
        let programs = ["bin/sh", "bin/cat", "bin/ls", "lib64/ld-linux-x86-64.so.2"].map(str::to_owned);
        for file in programs.iter().chain(&libraries) {
            fs::copy(Path::new("/").join(file), tree.join(file))?;
        }
        fs::copy("/usr/bin/cut", tree.join("bin/cut"))?;
        fs::write(tree.join("etc/plain"), "plain")?;
        fs::write(tree.join("bin/job"), "#!/bin/sh -e\necho job: $*\n")?;
        fs::set_permissions(tree.join("bin/job"), fs::Permissions::from_mode(0o755))?;
        if !tree.join("link").is_symlink() {
            std::os::unix::fs::symlink("/etc/plain", tree.join("link"))?;
        }
        let (program, words): (_, &[&std::ffi::OsStr]) = match format {
            DiskFormat::Erofs => ("mkfs.erofs", &[image.as_os_str(), tree.as_os_str()]),
            DiskFormat::Squashfs => ("mksquashfs", &[tree.as_os_str(), image.as_os_str()]),
            DiskFormat::Ext4 => {
                fs::File::create(&image)?.set_len(32 << 20)?;
                (
                    "mkfs.ext4",
                    &["-q".as_ref(), "-d".as_ref(), tree.as_os_str(), image.as_os_str()],
                )
            }
        };
        let made = Command::new(program)
            .args(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(Stdio::null())
            .output()?;
        ensure!(
            made.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(image)
    }

    /// The machine that tests boot, with its root mounted by [`Place::start`].
    pub fn machine(&self) -> Result<Vec<String>, End> {
        if Command::new("qemu-system-x86_64")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            return skip("no qemu-system-x86_64 on PATH");
        }
        let (kernel, initrd) = images(self)?;
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let machine = Machine {
            program: "/usr/bin/qemu-system-x86_64".into(),
            memory: 256,
            cpus: 1,
            root: text(&self.root()),
            tag: "root".into(),
            kernel: text(&kernel),
            initrd: text(&initrd),
            disks: Vec::new(),
        };
        Ok(machine.arguments_by(Accel::Tcg))
    }

    /// The driver, in a mount namespace where the guest's `/usr` is this host's, read-only; with the user's number that the
    /// program has in the guest, and without any privilege.
    pub fn start(&self, argv: Vec<String>, plan: GuestPlan, stdio: [Stdio; 3]) -> Driver {
        self.start_as(Speech::Qemu, argv, plan, stdio)
    }

    /// The same with a monitor of another kind.
    pub fn start_as(&self, speech: Speech, argv: Vec<String>, plan: GuestPlan, stdio: [Stdio; 3]) -> Driver {
        const SCRIPT: &str = "\
root=$1; shift; if [ -d \"$root/usr\" ]; then mount --rbind /usr \"$root/usr\"; mount -o remount,bind,ro \"$root/usr\"; fi
if [ -d \"$root/small\" ]; then mount -t tmpfs -o size=1m,mode=777 tmpfs \"$root/small\"; fi
exec unshare --map-user=1000 --map-group=1000 \"$@\"";
        let path = self.path().join(format!("supervisor-{}", rand()));
        let door = seqpacket();
        rustix::net::bind(&door, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&door, 1).unwrap();
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let [stdin, stdout, stderr] = stdio;
        command
            .args(["--mount", "--propagation", "private", "sh", "-ec", SCRIPT, "sh"])
            .arg(self.path().join("root"))
            .arg(std::env::current_exe().unwrap())
            .arg(DRIVER)
            .arg(&path)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let child = command.spawn().unwrap();
        let socket = rustix::net::accept_with(&door, SocketFlags::CLOEXEC).unwrap();
        let driver = Driver {
            child,
            socket,
            said: Vec::new(),
            started: Instant::now(),
        };
        driver.order(&Order::Start {
            speech,
            argv,
            plan: Box::new(plan),
            boot_timeout: Millis(limit().as_millis() as u64),
        });
        driver
    }

    /// Starts it, and lets the program go; what it writes is collected.
    pub fn run(&self, plan: GuestPlan, input: &[u8]) -> Result<Ran, End> {
        let mut driver = self.start(self.machine()?, plan, [Stdio::piped(), Stdio::piped(), Stdio::piped()]);
        let streams = Streams::of(&mut driver.child, input.to_vec());
        driver.until(|said| matches!(said, Said::Held { .. }))?;
        driver.order(&Order::Go);
        driver.end(streams)
    }
}

fn rand() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Threads that feed and read a driver.
pub struct Streams {
    out: JoinHandle<Vec<u8>>,
    err: JoinHandle<Vec<u8>>,
}

impl Streams {
    pub fn of(child: &mut Child, input: Vec<u8>) -> Streams {
        let mut stdin = child.stdin.take().unwrap();
        // Whoever does not read it all ends this by being gone.
        std::thread::spawn(move || stdin.write_all(&input));
        Streams {
            out: all_of(child.stdout.take().unwrap()),
            err: all_of(child.stderr.take().unwrap()),
        }
    }
}

fn all_of(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A driver that runs, seen from its supervisor.
pub struct Driver {
    pub child: Child,
    pub socket: OwnedFd,
    pub said: Vec<Said>,
    started: Instant,
}

/// One that has ended.
pub struct Ran {
    pub status: ExitStatus,
    pub out: Vec<u8>,
    pub err: Vec<u8>,
    pub said: Vec<Said>,
}

impl Driver {
    pub fn order(&self, order: &Order) {
        let text = serde_json::to_vec(order).unwrap();
        rustix::net::send(&self.socket, &text, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next that it says; `None` at its end.
    fn hear(&mut self) -> Result<Option<Said>, End> {
        let left = limit().saturating_sub(self.started.elapsed());
        let patience = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: 0,
        };
        let mut wait = [rustix::event::PollFd::new(&self.socket, rustix::event::PollFlags::IN)];
        if rustix::event::poll(&mut wait, Some(&patience))? == 0 {
            return fail(format!("it has said nothing for long, after {:?}", self.said));
        }
        let mut message = vec![0; MESSAGE];
        match rustix::net::recv(&self.socket, &mut message, RecvFlags::TRUNC) {
            Ok((read, whole)) if whole == read && read > 0 => Ok(Some(serde_json::from_slice(&message[..read])?)),
            Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => Ok(None),
            other => fail(format!("a message like this: {other:?}")),
        }
    }

    /// Hears until something is said.
    pub fn until(&mut self, wanted: impl Fn(&Said) -> bool) -> Result<Said, End> {
        while let Some(said) = self.hear()? {
            self.said.push(said.clone());
            if wanted(&said) {
                return Ok(said);
            }
        }
        fail(format!("it ended, having said {:?}", self.said))
    }

    pub fn end(mut self, streams: Streams) -> Result<Ran, End> {
        while let Some(said) = self.hear()? {
            self.said.push(said);
        }
        Ok(Ran {
            status: self.child.wait()?,
            out: streams.out.join().unwrap(),
            err: streams.err.join().unwrap(),
            said: std::mem::take(&mut self.said),
        })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It has ended already where its test went well; its machine ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// What it said it failed of.
    pub fn failure(&self) -> Option<(&str, &str)> {
        self.said.iter().find_map(|said| match said {
            Said::Failed { path, found, .. } => Some((path.as_str(), found.as_str())),
            _ => None,
        })
    }

    pub fn shown(&self) -> String {
        format!(
            "{}, out {:?}, err {:?}, said {:?}",
            self.status,
            String::from_utf8_lossy(&self.out[..self.out.len().min(500)]),
            String::from_utf8_lossy(&self.err[..self.err.len().min(500)]),
            self.said
        )
    }
}

/// `struct sock_filter`s in hexadecimal.
fn hex(program: &[(u16, u8, u8, u32)]) -> String {
    let bytes = program.iter().flat_map(|(code, jt, jf, k)| {
        let [a, b] = code.to_le_bytes();
        let [w, x, y, z] = k.to_le_bytes();
        [a, b, *jt, *jf, w, x, y, z]
    });
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// A filter that answers one call with an errno and allows all others.
pub fn all_but(number: u32, errno: u32) -> String {
    hex(&[
        (0x20, 0, 0, 0),
        (0x15, 0, 1, number),
        (0x06, 0, 0, 0x0005_0000 | errno),
        (0x06, 0, 0, 0x7fff_0000),
    ])
}

/// `sh -c SCRIPT` as user 1000, with all that a view has.
pub fn plan(script: &str) -> GuestPlan {
    let mount = |target: &str, what| GuestMount {
        target: target.into(),
        what,
    };
    let tmpfs = |mode| GuestMountKind::Tmpfs {
        bytes: 64 << 20,
        inodes: 10_000,
        mode,
    };
    GuestPlan {
        version: 1,
        share: Some(GuestShare::Virtio { tag: "root".into() }),
        root: GuestRoot::Shared,
        mounts: vec![
            mount("/proc", GuestMountKind::Proc),
            mount("/dev", GuestMountKind::Dev),
            mount("/dev/shm", tmpfs(0o1777)),
            mount("/tmp", tmpfs(0o1777)),
            mount("/proc/kcore", GuestMountKind::Masked),
            mount("/proc/acpi", GuestMountKind::Masked),
            mount("/proc/nothing", GuestMountKind::Masked),
            mount("/proc/sys", GuestMountKind::ReadOnly),
            mount("/proc/sysrq-trigger", GuestMountKind::ReadOnly),
        ],
        hostname: "sandbox".into(),
        executable: "/bin/sh".into(),
        script: None,
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        env: [
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("LANG".to_owned(), "C".to_owned()),
        ]
        .into(),
        workdir: "/work".into(),
        user: 1000,
        // kexec_load: nobody misses it.
        filter: all_but(246, 1),
        rlimits: [("NOFILE".to_owned(), 256), ("CORE".to_owned(), 1)].into(),
        limits: GuestLimits {
            memory: Some(64 << 20),
            pids: Some(32),
            cpu: None,
        },
        terminal: false,
    }
}
