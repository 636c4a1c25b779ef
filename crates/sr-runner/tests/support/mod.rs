//! What the tests of the whole road share: the `safe-run` binary, a place of its own for each test, a hard end for
//! whatever a test starts. It knows the command line and the files of a run, and nothing of what is behind them.
//!
//! The same programs run as root and as an ordinary user; only the recorded strength of a limit differs.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod apparmor;
pub mod guest;
pub mod selinux;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
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

/// Ends a test as skipped: `reason` names a condition of the host that was observed.
pub fn skip<T>(reason: impl Into<String>) -> Result<T, End> {
    Err(End::Skip(reason.into()))
}

pub fn fail<T>(why: impl std::fmt::Display) -> Result<T, End> {
    Err(End::Fail(Failed::from(why.to_string())))
}

/// The release of the rig's kernel; elsewhere the test is skipped.
pub fn on_the_rig() -> Result<String, End> {
    match std::env::var("SAFE_RUN_TEST_RIG") {
        Ok(release) => Ok(release),
        Err(_) => skip("only on the rig: SAFE_RUN_TEST_RIG is not set"),
    }
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

/// Runs the tests of a program.
pub fn main(tests: &[Case]) {
    let trials = tests.iter().map(|(name, test)| {
        let (name, test) = (*name, *test);
        Trial::ignorable_test(name, move || {
            let place = Place::new();
            match test(&place) {
                Ok(()) => Ok(Completion::Completed),
                Err(End::Skip(reason)) => Ok(Completion::ignored_with(reason)),
                Err(End::Fail(failed)) => Err(failed),
            }
        })
    });
    let mut arguments = Arguments::from_args();
    // Limits and instants are tested: more at once than there are CPUs would only measure the crowd.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program under test, built if this can build it.
pub fn safe_run() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(given) = std::env::var_os("SAFE_RUN_BIN") {
            return given.into();
        }
        // target/debug/deps/run_smoke-0a1b → target/debug/safe-run
        let own = std::env::current_exe().expect("the path of this test");
        let profile = own.parent().and_then(Path::parent).expect("target/PROFILE/deps");
        let built = profile.join("safe-run");
        // A test program that was only handed over, such as to another user, takes what was built with it.
        if std::env::var_os("CARGO").is_some() {
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            cargo
                .args(["build", "--quiet", "-p", "sr-cli", "--target-dir"])
                .arg(profile.parent().unwrap_or(profile));
            if profile.file_name() == Some(OsStr::new("release")) {
                cargo.arg("--release");
            }
            let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
            assert!(status.is_ok_and(|s| s.success()), "sr-cli does not build");
        }
        assert!(
            built.is_file(),
            "{} is not there: cargo build -p sr-cli",
            built.display()
        );
        built
    })
}

/// A directory of a test's own, and what Safe-Run keeps below it.
pub struct Place {
    dir: tempfile::TempDir,
    pub project: PathBuf,
    pub store: PathBuf,
    pub keys: PathBuf,
    pub home: PathBuf,
    /// `XDG_RUNTIME_DIR`.
    pub runtime: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::Builder::new()
            .prefix("safe-run-test-")
            .tempdir()
            .expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        let root = dir.path().canonicalize().expect("its path");
        let make = |name: &str| {
            let path = root.join(name);
            fs::create_dir(&path).expect("a directory");
            path
        };
        let (project, home, runtime) = (make("project"), make("home"), make("runtime"));
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("its mode");
        Place {
            project,
            home,
            runtime,
            store: root.join("runs"),
            keys: root.join("keys"),
            dir,
        }
    }

    pub fn root(&self) -> &Path {
        self.project.parent().expect("the project's parent")
    }

    /// `program` with this place's surroundings.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.project)
            .env("HOME", &self.home)
            .env("SAFE_RUN_WORKDIR_BASE", &self.store)
            .env("SAFE_RUN_KEY_DIR", &self.keys)
            .env("SAFE_RUN_TEST_CANARY", CANARY)
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("RUST_BACKTRACE")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command
    }

    /// `safe-run WORDS`.
    pub fn safe_run(&self, words: &[&str]) -> Command {
        let mut command = self.command(safe_run());
        command.args(words);
        command
    }

    /// `safe-run` as an ordinary user, whose directories this place's become.
    pub fn as_nobody(&self) -> Result<Command, End> {
        const OTHER: u32 = 65534;
        let binary = self.root().join("safe-run");
        // Not by this process: what it holds open for writing while a neighbour forks cannot be executed.
        let mut copy = Command::new("cp");
        copy.arg(safe_run()).arg(&binary);
        end(copy, b"", LIMIT).ok()?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        for dir in [self.root(), &self.project, &self.home, &self.runtime] {
            chown(dir, Some(OTHER), Some(OTHER))?;
        }
        let mut command = self.command(binary);
        command.uid(OTHER).gid(OTHER);
        Ok(command)
    }

    /// `safe-run run WORDS`, to its end.
    pub fn run(&self, words: &[&str]) -> Ran {
        self.input(words, b"")
    }

    /// `safe-run run WORDS`, left running once the program has said something.
    pub fn start(&self, words: &[&str]) -> Result<Going, End> {
        Going::start(self.safe_run(&[&["run", "--quiet"], words].concat()))
    }

    /// The same, with something on its standard input.
    pub fn input(&self, words: &[&str], input: &[u8]) -> Ran {
        end(self.safe_run(&[&["run"], words].concat()), input, LIMIT)
    }

    /// Another command of `safe-run`.
    pub fn tell(&self, words: &[&str]) -> Ran {
        end(self.safe_run(words), b"", LIMIT)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.project.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(&path, text).expect("a file");
        path
    }

    /// Directories of runs, the oldest first.
    pub fn runs(&self) -> Vec<PathBuf> {
        let mut runs: Vec<PathBuf> = fs::read_dir(self.store.join("runs"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect();
        runs.sort();
        runs
    }

    pub fn last_run(&self) -> PathBuf {
        self.runs().pop().expect("a run in the store")
    }

    /// The report of the last run.
    pub fn report(&self) -> Value {
        let path = self.last_run().join("run_report.json");
        let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_slice(&text).expect("a report in JSON")
    }

    /// The events of the last run so far whose type begins with `kind`.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.last_run().join("events.jsonl")).expect("the events");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("an event in JSON"));
        lines
            .filter(|event| event["type"].as_str().is_some_and(|t| t.starts_with(kind)))
            .collect()
    }

    /// Whatever a run of this place could leave behind: processes, journals, control groups.
    pub fn left_behind(&self) -> Vec<String> {
        let mut left = self.living();
        left.extend(
            fs::read_dir(self.store.join("journal"))
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| format!("journal {}", e.path().display())),
        );
        let runs: Vec<String> = self
            .runs()
            .iter()
            .filter_map(|r| Some(r.file_name()?.to_str()?.to_owned()))
            .collect();
        for group in control_groups() {
            if runs.iter().any(|run| group.ends_with(format!("safe-run-{run}"))) {
                left.push(format!("control group {}", group.display()));
            }
        }
        left
    }

    /// Processes that this place's runs started: they carry its mark, see [`Place::mark`], or stand in its directories.
    fn living(&self) -> Vec<String> {
        let mark = self.mark();
        let here = self.root().as_os_str().as_encoded_bytes();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
                continue;
            };
            if pid == std::process::id() {
                continue;
            }
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let has = |what: &[u8]| line.windows(what.len()).any(|w| w == what);
            if has(mark.as_bytes()) || has(here) {
                found.push(format!(
                    "process {pid}: {}",
                    String::from_utf8_lossy(&line).replace('\0', " ")
                ));
            }
        }
        found
    }

    /// A word that no other test has: put among a program's arguments, it finds what is left of it.
    pub fn mark(&self) -> String {
        let name = self.root().file_name().and_then(OsStr::to_str).expect("a name");
        format!("mark-{name}")
    }

    /// Nothing is left, at once or soon: the kernel needs an instant to take a dead process away.
    pub fn nothing_left(&self) -> Test {
        let until = Instant::now() + slow(Duration::from_secs(3));
        loop {
            let left = self.left_behind();
            if left.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "left behind: {}", left.join("\n"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A value in the supervisor's environment that no program inside may see.
pub const CANARY: &str = "canary-7f3a91c2";

/// Longer than any test here may take.
pub const LIMIT: Duration = Duration::from_secs(40);

/// `time`, as many times longer as this machine is said to be slower than hardware (`SAFE_RUN_TEST_SLOWNESS`): for what
/// must come to an end at all, not for what a test asserts of the product.
pub fn slow(time: Duration) -> Duration {
    let factor = std::env::var("SAFE_RUN_TEST_SLOWNESS").map_or(1, |text| text.parse().expect("a number"));
    time * factor
}

/// Directories of control groups whose name is a run's.
pub fn control_groups() -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                continue;
            }
            if entry.file_name().to_str().is_some_and(|n| n.starts_with("safe-run-")) {
                found.push(entry.path());
            }
            if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 6, &mut found);
    found
}

/// What stands before `safe-run …` to change what it finds.
pub type Launcher = Vec<String>;

/// A shell script with all rights in a mount namespace of its own (as an ordinary user: and in a user namespace, whose
/// rights safe-run does not get), which ends with safe-run in its place.
pub fn in_namespaces(script: &str) -> Launcher {
    let script = format!("{script}\nexec $UNDRESS \"$@\"");
    let shell = ["sh", "-ec", &script, "sh"];
    let words = if is_root() {
        [
            &["unshare", "--mount", "--propagation", "private", "env", "UNDRESS="],
            &shell[..],
        ]
        .concat()
    } else {
        let undress = "UNDRESS=setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all";
        let unshare = ["unshare", "--user", "--map-current-user", "--keep-caps", "--mount"];
        [&unshare[..], &["--propagation", "private", "env", undress], &shell[..]].concat()
    };
    words.into_iter().map(str::to_owned).collect()
}

/// Names in order, each once.
pub fn sorted(names: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// A run that goes on. It is ended, come what may.
pub struct Going {
    child: Child,
    _out: ChildStdout,
}

impl Going {
    /// A command that becomes `safe-run run`, left running once the program has said something.
    pub fn start(mut command: Command) -> Result<Going, End> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let mut out = child.stdout.take().expect("a pipe");
        let mut said = [0; 64];
        let length = out.read(&mut said)?;
        let going = Going { child, _out: out };
        ensure!(length > 0, "the run ended before its program said something");
        Ok(going)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits for that.
    pub fn cancel(mut self) -> Result<i32, End> {
        self.signal(rustix::process::Signal::TERM)?;
        self.wait()
    }

    pub fn signal(&self, signal: rustix::process::Signal) -> Test {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<i32, End> {
        let until = Instant::now() + slow(LIMIT);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
            }
            ensure!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status; 128+n after a signal.
    pub status: i32,
    pub out: String,
    pub err: String,
    pub took: Duration,
    /// It was killed because it did not end in time.
    pub over: bool,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cut = |text: &str| text.chars().take(1500).collect::<String>();
        write!(
            f,
            "status {} after {:?}{}",
            self.status,
            self.took,
            if self.over { ", KILLED: too long" } else { "" }
        )?;
        write!(f, "\n  stdout: {}\n  stderr: {}", cut(&self.out), cut(&self.err))
    }
}

impl Ran {
    pub fn ok(&self) -> Test {
        self.ended(0)
    }

    pub fn ended(&self, status: i32) -> Test {
        ensure!(
            self.status == status && !self.over,
            "wanted status {status}, saw {self}"
        );
        Ok(())
    }
}

/// Runs `command` to its end, or kills it after `limit`, which is [`slow`].
pub fn end(mut command: Command, input: &[u8], limit: Duration) -> Ran {
    let (start, limit) = (Instant::now(), slow(limit));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (mut to, input) = (child.stdin.take().expect("a pipe"), input.to_vec());
    // A program need not read what it is given.
    std::thread::spawn(move || to.write_all(&input).ok());
    let read = |mut from: Box<dyn Read + Send>| {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            sender.send(bytes)
        });
        receiver
    };
    let out = read(Box::new(child.stdout.take().expect("a pipe")));
    let err = read(Box::new(child.stderr.take().expect("a pipe")));
    let mut over = false;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            break status;
        }
        if start.elapsed() > limit {
            over = true;
            child.kill().expect("to kill the child");
            break child.wait().expect("the child's status");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |from: mpsc::Receiver<Vec<u8>>| {
        let bytes = from
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_else(|_| b"<a pipe was kept open>".to_vec());
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ran {
        status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        out: text(out),
        err: text(err),
        took: start.elapsed(),
        over,
    }
}

/// Ends a test as skipped where a program of the host is missing.
pub fn needs(place: &Place, program: &str) -> Test {
    let mut command = place.command("sh");
    command.args(["-c", "command -v \"$1\"", "sh", program]);
    match end(command, b"", LIMIT).status {
        0 => Ok(()),
        _ => skip(format!("{program} is not installed")),
    }
}
