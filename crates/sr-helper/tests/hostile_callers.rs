//! The helper against hostile callers: the real program, started by root with a socket pair that an ordinary user made, in a
//! mount namespace with its own `/etc` and `/run`, below control groups of the tests' own. Nothing of it is ever left.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use sr_common::RunId;
use sr_common::facts::CgroupFacts;
use sr_helper::wire::{self, Amounts, Answer, Ask, Ready, Request, Say, VERSION, Wanted};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The caller's, and that of others.
const CALLER: u32 = 65534;
const OTHER: u32 = 65533;
const CONFIG: &str = "/etc/safe-run/helper.toml";
const STATE: &str = "/run/safe-run-helper";
const RUNS: usize = 6;
const CEILINGS: Amounts = Amounts {
    memory: 64 << 20,
    cpu: 1000,
    pids: 32,
};
const LIMITS: Amounts = Amounts {
    memory: 32 << 20,
    cpu: 500,
    pids: 16,
};
const INSIDE: &str = "SAFE_RUN_TEST_INSIDE";

type Test = fn(&World);

const TESTS: &[(&str, Test)] = &[
    ("helper_makes_enters_kills_and_removes", makes_enters_kills_and_removes),
    ("helper_makes_what_is_missing", makes_what_is_missing),
    ("helper_keeps_to_the_ceilings", keeps_to_the_ceilings),
    ("helper_moves_nobody_elses_processes", moves_nobody_elses_processes),
    ("helper_joins_runs_that_go_on", joins_runs_that_go_on),
    ("helper_joins_no_other_processes", joins_no_other_processes),
    ("helper_joins_no_other_groups", joins_no_other_groups),
    (
        "helper_joins_no_stranger_by_a_used_number",
        joins_no_stranger_by_a_used_number,
    ),
    ("helper_takes_no_other_descriptors", takes_no_other_descriptors),
    ("helper_outlives_any_bytes", outlives_any_bytes),
    (
        "helper_cleans_up_after_a_killed_caller",
        cleans_up_after_a_killed_caller,
    ),
    (
        "helper_cleans_up_after_a_killed_helper",
        cleans_up_after_a_killed_helper,
    ),
    ("helper_bounds_a_thousand_callers", bounds_a_thousand_callers),
    ("helper_answers_a_thousand_requests", answers_a_thousand_requests),
    ("helper_trusts_only_roots_file", trusts_only_roots_file),
    ("helper_is_not_raced_by_its_file", is_not_raced_by_its_file),
    ("helper_knows_who_asks", knows_who_asks),
    ("helper_has_little_left", has_little_left),
    ("helper_harms_no_stranger_in_the_group", harms_no_stranger_in_the_group),
    (
        "helper_moves_no_stranger_by_a_used_number",
        moves_no_stranger_by_a_used_number,
    ),
    (
        "helper_groups_are_not_the_callers_to_change",
        groups_are_not_the_callers,
    ),
];

type DiskTest = fn(&World, &Quotas);

const DISK_TESTS: &[(&str, DiskTest)] = &[
    ("helper_limits_a_directory_on_disk", limits_a_directory),
    ("helper_limits_only_the_callers_on_disk", limits_only_the_callers),
    ("helper_gives_projects_of_its_own_on_disk", gives_projects_of_its_own),
    ("helper_is_not_raced_to_another_on_disk", is_not_raced_to_another),
    ("helper_clears_what_is_left_on_disk", clears_what_is_left),
];

fn main() {
    let arguments = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    if root && !arguments.list && std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(std::env::current_exe().expect("the path of this test"))
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .status()
            .expect("unshare of util-linux");
        std::process::exit(status.code().unwrap_or(101));
    }
    let world: &'static OnceLock<Result<World, String>> = Box::leak(Box::new(OnceLock::new()));
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::ignorable_test(*name, move || {
            if !root {
                return Ok(Completion::ignored_with("not started by root"));
            }
            match world.get_or_init(World::new) {
                Err(reason) => Ok(Completion::ignored_with(reason.clone())),
                Ok(world) => {
                    world.configure(&world.config());
                    std::panic::catch_unwind(|| test(world)).map_err(|_| Failed::from("see above"))?;
                    world.nothing_left();
                    Ok(Completion::Completed)
                }
            }
        })
    });
    let quotas: &'static OnceLock<Result<Quotas, String>> = Box::leak(Box::new(OnceLock::new()));
    let disk_trials = DISK_TESTS.iter().map(|(name, test)| {
        Trial::ignorable_test(*name, move || {
            if !root {
                return Ok(Completion::ignored_with("not started by root"));
            }
            let world = world.get_or_init(World::new).as_ref();
            let found = world.and_then(|world| Ok((world, quotas.get_or_init(Quotas::new).as_ref()?)));
            match found {
                Err(reason) => Ok(Completion::ignored_with(reason.clone())),
                Ok((world, quotas)) => {
                    world.configure(&quotas.config(world));
                    std::panic::catch_unwind(|| test(world, quotas)).map_err(|_| Failed::from("see above"))?;
                    world.nothing_left();
                    quotas.nothing_left();
                    Ok(Completion::Completed)
                }
            }
        })
    });
    let trials: Vec<Trial> = trials.chain(disk_trials).collect();
    let mut arguments = arguments;
    // They share one file of rules, and count what is there.
    arguments.test_threads = Some(1);
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(Ok(world)) = world.get() {
        world.remove();
    }
    conclusion.exit();
}

/// The control groups below which the helper works.
struct World {
    parents: CgroupFacts,
}

impl World {
    fn new() -> Result<World, String> {
        let mut parents = sr_kernel::cgroup::discover();
        for at in [&mut parents.memory, &mut parents.cpu, &mut parents.pids] {
            let at = at.as_mut().ok_or("no writable cgroup for memory, cpu and pids here")?;
            at.parent = format!("{}/safe-run-test-helper-{}", at.parent, std::process::id());
        }
        let world = World { parents };
        for dir in world.dirs() {
            fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        let mounted = |words: &[&str]| {
            let status = Command::new("mount").args(words).status().expect("mount");
            assert!(status.success(), "{words:?}");
        };
        mounted(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
        fs::create_dir_all("/run/etc/upper").expect("a directory");
        fs::create_dir_all("/run/etc/work").expect("a directory");
        mounted(&[
            "-t",
            "overlay",
            "-o",
            "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work",
            "overlay",
            "/etc",
        ]);
        fs::create_dir_all("/etc/safe-run").expect("a directory");
        Ok(world)
    }

    /// Each once.
    fn dirs(&self) -> Vec<PathBuf> {
        let all = [&self.parents.memory, &self.parents.cpu, &self.parents.pids];
        let mut dirs: Vec<PathBuf> = all.into_iter().flatten().map(|at| at.parent.clone().into()).collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn config(&self) -> String {
        let parent = |at: &Option<sr_common::facts::CgroupController>| at.as_ref().expect("a parent").parent.clone();
        let CgroupFacts { memory, cpu, pids, .. } = &self.parents;
        let place = match self.dirs().len() {
            1 => format!("{:?}", parent(memory)),
            _ => format!(
                "{{memory = {:?}, cpu = {:?}, pids = {:?}}}",
                parent(memory),
                parent(cpu),
                parent(pids)
            ),
        };
        format!(
            "cgroupParent = {place}\nusers = [{CALLER}]\n[ceilings]\nmemory = \"64MiB\"\ncpu = 1\npids = 32\nruns = {RUNS}\n"
        )
    }

    fn configure(&self, text: &str) {
        let _ = fs::remove_file(CONFIG);
        fs::write(CONFIG, text).expect("the file of rules");
        fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o644)).expect("its mode");
    }

    /// Directories below the parents.
    fn groups(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    walk(&entry.path(), found);
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        self.dirs().iter().for_each(|dir| walk(dir, &mut found));
        found
    }

    fn slots(&self) -> Vec<String> {
        let names = fs::read_dir(STATE).into_iter().flatten().flatten();
        let mut names: Vec<String> = names.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }

    fn nothing_left(&self) {
        until("nothing is left", || {
            self.groups().is_empty() && self.slots().is_empty()
        });
    }

    fn remove(&self) {
        for dir in self.groups().into_iter().chain(self.dirs()) {
            if let Err(e) = fs::remove_dir(&dir) {
                eprintln!("{}: {e}", dir.display());
            }
        }
    }
}

/// A file system with project quotas.
struct Quotas {
    mount: PathBuf,
    fd: OwnedFd,
}

const PROJECTS: [u32; 2] = [500, 503];
const MOST_BYTES: u64 = 4 << 20;
const MOST_FILES: u64 = 40;

impl Quotas {
    fn new() -> Result<Quotas, String> {
        let mount = PathBuf::from("/run/disk");
        fs::create_dir(&mount).expect("a directory");
        let image = fs::File::create("/run/disk.img").expect("a file");
        image.set_len(64 << 20).expect("its size");
        for words in [
            &["mkfs.ext4", "-q", "-O", "quota,project", "-I", "256", "/run/disk.img"][..],
            &["mount", "-o", "loop,prjquota", "/run/disk.img", "/run/disk"],
        ] {
            let none = |why: &str| format!("no file system with project quotas here: {why}");
            let ran = Command::new(words[0]).args(&words[1..]).output();
            let ran = ran.map_err(|e| none(&format!("{}: {e}", words[0])))?;
            if !ran.status.success() {
                let said = String::from_utf8_lossy(&ran.stderr);
                let first = said.lines().next().unwrap_or_default();
                return Err(none(first));
            }
        }
        let fd = fs::File::open(&mount).expect("it is there").into();
        Ok(Quotas { mount, fd })
    }

    fn config(&self, world: &World) -> String {
        let [first, last] = PROJECTS;
        format!(
            "{}[disk]\nmounts = [{:?}]\nprojects = [{first}, {last}]\nbytes = \"4MiB\"\nfiles = {MOST_FILES}\n",
            world.config(),
            self.mount
        )
    }

    /// A new directory of `uid`'s.
    fn directory(&self, uid: u32) -> PathBuf {
        let dir = self.mount.join(id().to_string());
        fs::create_dir(&dir).unwrap();
        chown(&dir, Some(uid), Some(uid)).unwrap();
        dir
    }

    /// The most bytes and files of a project.
    fn limits(&self, id: u32) -> (u64, u64) {
        let held = sr_kernel::quota::read(self.fd.as_fd(), id).unwrap();
        (held.most_bytes, held.most_inodes)
    }

    fn limited(&self) -> Vec<u32> {
        (1..1000).filter(|id| self.limits(*id) != (0, 0)).collect()
    }

    fn nothing_left(&self) {
        assert_eq!(self.limited(), Vec::<u32>::new());
        for entry in fs::read_dir(&self.mount).unwrap().flatten() {
            if entry.file_name() != "lost+found" {
                fs::remove_dir_all(entry.path()).unwrap();
            }
        }
        let charged = |id: u32| sr_kernel::quota::read(self.fd.as_fd(), id).unwrap();
        until("nothing is charged", || {
            (PROJECTS[0]..=PROJECTS[1]).all(|id| charged(id).inodes == 0)
        });
    }
}

fn project(dir: &Path) -> (u32, bool) {
    sr_kernel::quota::project(fs::File::open(dir).unwrap().as_fd()).unwrap()
}

/// What the caller's own process writes into a file, until it is told no.
fn written(file: &Path, kibibytes: u32) -> u64 {
    let mut dd = Command::new("dd");
    dd.arg("if=/dev/zero").arg(format!("of={}", file.display()));
    dd.arg("bs=1k").arg(format!("count={kibibytes}"));
    dd.uid(CALLER).gid(CALLER).stderr(Stdio::null());
    let _ = dd.status().unwrap();
    fs::metadata(file).map_or(0, |meta| meta.len())
}

fn until(what: &str, mut seen: impl FnMut() -> bool) {
    let factor = std::env::var("SAFE_RUN_TEST_SLOWNESS").map_or(1, |text| text.parse().expect("a number"));
    let end = Instant::now() + Duration::from_secs(40) * factor;
    while !seen() {
        assert!(Instant::now() < end, "never seen: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A helper and the caller's end of its socket.
struct Helper {
    socket: Option<OwnedFd>,
    process: Child,
}

/// What is said first.
type First = Result<Ready, String>;

/// As `uid`'s, whatever the process is.
fn pair(uid: u32) -> (OwnedFd, OwnedFd) {
    let made = sr_kernel::process::with_effective_uid(uid, || {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
    });
    made.expect("another uid").expect("a socket pair")
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_safe-run-helper"));
    command.env_clear().env("SUDO_UID", CALLER.to_string());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

impl Helper {
    fn start(command: &mut Command, maker: u32) -> (Helper, First) {
        let (helper, first) = Helper::begin(command, maker);
        let first = first.expect("a first message");
        (helper, first)
    }

    fn begin(command: &mut Command, maker: u32) -> (Helper, Option<First>) {
        let (ours, theirs) = pair(maker);
        let process = command.stdin(theirs).spawn().expect("the helper");
        // Else this process would keep the helper's end open.
        command.stdin(Stdio::null());
        let mut helper = Helper {
            socket: Some(ours),
            process,
        };
        let first = helper.hear().map(|say| match say {
            Say::Ready(ready) => Ok(ready),
            Say::Refused { why } => Err(why),
            Say::Done => panic!("done without a question"),
        });
        (helper, first)
    }

    fn ready() -> (Helper, Ready) {
        let (helper, first) = Helper::start(&mut program(), CALLER);
        (helper, first.expect("it serves"))
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().expect("open").as_fd()
    }

    fn hear(&mut self) -> Option<Say> {
        let answer = wire::receive::<Answer>(self.socket()).expect("an answer");
        answer.map(|(answer, fds)| {
            assert!(fds.is_empty() && answer.version == VERSION);
            answer.say
        })
    }

    fn ask(&mut self, ask: Ask, fd: Option<BorrowedFd<'_>>) -> Result<(), String> {
        wire::send(self.socket(), &Request { version: VERSION, ask }, fd).expect("a helper");
        match self.hear().expect("an answer") {
            Say::Done => Ok(()),
            Say::Refused { why } => Err(why),
            Say::Ready(_) => panic!("ready twice"),
        }
    }

    fn make(&mut self, limits: impl Into<Wanted>) -> Result<RunId, String> {
        let (id, limits) = (id(), limits.into());
        self.ask(Ask::MakeGroup { id: id.clone(), limits }, None).map(|()| id)
    }

    fn enter(&mut self, process: &Child) -> Result<(), String> {
        self.ask(Ask::Enter, Some(pidfd(process).as_fd()))
    }

    fn limit(&mut self, dir: &Path, (bytes, files): (u64, u64)) -> Result<(), String> {
        let dir = fs::File::open(dir).unwrap();
        self.ask(Ask::LimitDisk { bytes, files }, Some(dir.as_fd()))
    }

    fn join(&mut self, id: &RunId, process: BorrowedFd<'_>) -> Result<(), String> {
        self.ask(Ask::Join { id: id.clone() }, Some(process))
    }

    fn end(mut self) -> bool {
        self.socket = None;
        self.process.wait().expect("its status").success()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.process.wait();
    }
}

fn id() -> RunId {
    let mut random = [0; 10];
    fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut random))
        .expect("random bytes");
    RunId::new(1, random)
}

fn pidfd(process: &Child) -> OwnedFd {
    pidfd_open(Pid::from_child(process), PidfdFlags::empty()).expect("a pidfd")
}

/// A process of `uid`; ended however its test ends.
struct Sleep(Child);

impl Sleep {
    fn new(uid: u32) -> Sleep {
        Sleep(
            Command::new("sleep")
                .arg("600")
                .uid(uid)
                .gid(uid)
                .spawn()
                .expect("sleep"),
        )
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// In groups of which run?
    fn member_of(&self, id: &RunId) -> bool {
        member_of(self.pid(), id)
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().expect("its status").is_none()
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn member_of(pid: u32, id: &RunId) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.contains(id.as_str())
}

fn makes_enters_kills_and_removes(world: &World) {
    let (mut helper, ready) = Helper::ready();
    assert_eq!(ready.ceilings, CEILINGS);
    assert!(helper.ask(Ask::Remove, None).unwrap_err().contains("no group"));
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
    let mut sleep = Sleep::new(CALLER);
    let id = helper.make(LIMITS).unwrap();
    assert!(helper.make(LIMITS).unwrap_err().contains("already"));
    let read = |at: &sr_common::facts::CgroupController, file: &str| {
        let path = Path::new(&at.parent).join(format!("safe-run-{id}")).join(file);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let (memory, cpu) = match ready.memory.version {
        1 => ("memory.limit_in_bytes", "cpu.cfs_quota_us"),
        _ => ("memory.max", "cpu.max"),
    };
    assert_eq!(read(&ready.memory, memory).trim(), (32 << 20).to_string());
    assert_eq!(read(&ready.cpu, cpu).split_whitespace().next(), Some("50000"));
    assert_eq!(read(&ready.pids, "pids.max").trim(), "16");
    assert!(ready.pids.parent.ends_with(&format!("/user-{CALLER}")));
    assert!(!sleep.member_of(&id));
    helper.enter(&sleep.0).unwrap();
    assert!(sleep.member_of(&id));
    for at in [&ready.memory, &ready.cpu, &ready.pids] {
        assert_eq!(read(at, "cgroup.procs").trim(), sleep.pid().to_string());
    }
    helper.ask(Ask::Kill, None).unwrap();
    assert!(!sleep.0.wait().unwrap().success());
    helper.ask(Ask::Remove, None).unwrap();
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
    // Another one, which nobody removes.
    let id = helper.make(CEILINGS).unwrap();
    let mut second = Sleep::new(CALLER);
    helper.enter(&second.0).unwrap();
    assert!(second.member_of(&id));
    assert!(helper.end());
    assert!(!second.lives());
}

/// In version 1 each hierarchy is left by itself; in version 2 nothing is left without a limit in its stead.
fn makes_what_is_missing(world: &World) {
    let (mut helper, ready) = Helper::ready();
    let pids = Wanted {
        pids: Some(16),
        ..Wanted::default()
    };
    assert!(helper.make(Wanted::default()).unwrap_err().contains("no limit"));
    let over = Wanted {
        pids: Some(33),
        ..Wanted::default()
    };
    assert!(helper.make(over).unwrap_err().starts_with("pids: 33"));
    let made = helper.make(pids);
    if ready.pids == ready.memory {
        assert!(made.unwrap_err().contains("one group holds both"));
        assert_eq!(world.groups(), Vec::<PathBuf>::new());
        return;
    }
    let id = made.unwrap();
    let mut sleep = Sleep::new(CALLER);
    let before = fs::read_to_string(format!("/proc/{}/cgroup", sleep.pid())).unwrap();
    helper.enter(&sleep.0).unwrap();
    let after = fs::read_to_string(format!("/proc/{}/cgroup", sleep.pid())).unwrap();
    let moved: Vec<_> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
    let [(_, line)] = moved[..] else {
        panic!("{before} became {after}");
    };
    assert!(line.contains(":pids:") && line.ends_with(id.as_str()), "{line}");
    let own = Path::new(&ready.pids.parent);
    assert_eq!(world.groups(), [own.join(format!("safe-run-{id}")), own.to_owned()]);
    assert!(helper.end());
    assert!(!sleep.lives());
}

fn keeps_to_the_ceilings(world: &World) {
    let (mut helper, _) = Helper::ready();
    for (over, name) in [
        (
            Amounts {
                memory: CEILINGS.memory + 1,
                ..CEILINGS
            },
            "memory",
        ),
        (
            Amounts {
                cpu: u64::MAX,
                ..CEILINGS
            },
            "cpu",
        ),
        (Amounts { pids: 33, ..CEILINGS }, "pids"),
    ] {
        let why = helper.make(over).unwrap_err();
        assert!(why.starts_with(name) && why.contains("helper.toml"), "{why}");
    }
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
    helper.make(CEILINGS).unwrap();
    assert!(helper.end());
}

fn moves_nobody_elses_processes(_: &World) {
    let (mut helper, _) = Helper::ready();
    let id = helper.make(LIMITS).unwrap();
    let (root, other) = (Sleep::new(0), Sleep::new(OTHER));
    for process in [&root, &other] {
        let why = helper.enter(&process.0).unwrap_err();
        assert!(why.contains("not of uid"), "{why}");
        assert!(!process.member_of(&id));
    }
    let first = pidfd_open(Pid::INIT, PidfdFlags::empty()).unwrap();
    assert!(helper.ask(Ask::Enter, Some(first.as_fd())).is_err());
    // Of the same user, but no descendant: its parent has ended.
    let mut parent = Command::new("sh");
    parent
        .args(["-c", "sleep 600 >/dev/null 2>&1 & echo $!"])
        .uid(CALLER)
        .gid(CALLER);
    let text = String::from_utf8(parent.output().unwrap().stdout).unwrap();
    let orphan = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    let fd = pidfd_open(orphan, PidfdFlags::empty()).unwrap();
    let why = helper.ask(Ask::Enter, Some(fd.as_fd())).unwrap_err();
    assert!(why.contains("descend"), "{why}");
    assert!(!member_of(orphan.as_raw_nonzero().get() as u32, &id));
    kill_process(orphan, Signal::KILL).unwrap();
    // One that has ended, and one that nobody has waited for.
    let mut dead = Sleep::new(CALLER);
    let fd = pidfd(&dead.0);
    dead.0.kill().unwrap();
    until("a zombie", || {
        fs::read_to_string(format!("/proc/{}/stat", dead.pid()))
            .unwrap()
            .contains(") Z ")
    });
    assert!(helper.ask(Ask::Enter, Some(fd.as_fd())).unwrap_err().contains("ended"));
    dead.0.wait().unwrap();
    assert!(helper.ask(Ask::Enter, Some(fd.as_fd())).unwrap_err().contains("ended"));
    let own = Sleep::new(CALLER);
    helper.enter(&own.0).unwrap();
    assert!(helper.end());
}

/// One that holds no group moves what its caller started into one that another holds, and into that alone.
fn joins_runs_that_go_on(world: &World) {
    let (mut run, _) = Helper::ready();
    let id = run.make(LIMITS).unwrap();
    let (mut guest, _) = Helper::ready();
    let mut first = Sleep::new(CALLER);
    guest.join(&id, pidfd(&first.0).as_fd()).unwrap();
    assert!(first.member_of(&id));
    let groups = world.groups();
    // Who joins can neither end nor remove it, nor make another of that name.
    for ask in [Ask::Kill, Ask::Remove] {
        assert!(guest.ask(ask, None).unwrap_err().contains("no group"));
    }
    let again = Ask::MakeGroup {
        id: id.clone(),
        limits: LIMITS.into(),
    };
    assert!(guest.ask(again, None).unwrap_err().contains("exists already"));
    assert!(guest.end());
    assert!(first.lives() && first.member_of(&id));
    assert_eq!(world.groups(), groups);
    assert!(run.end());
    assert!(!first.lives());
}

fn joins_no_other_processes(_: &World) {
    let (mut run, _) = Helper::ready();
    let id = run.make(LIMITS).unwrap();
    let (mut guest, _) = Helper::ready();
    let (root, other) = (Sleep::new(0), Sleep::new(OTHER));
    for process in [&root, &other] {
        let why = guest.join(&id, pidfd(&process.0).as_fd()).unwrap_err();
        assert!(why.contains("not of uid"), "{why}");
        assert!(!process.member_of(&id));
    }
    // Of the same user, and of nobody who asks.
    let mut parent = Command::new("sh");
    parent
        .args(["-c", "sleep 600 >/dev/null 2>&1 & echo $!"])
        .uid(CALLER)
        .gid(CALLER);
    let text = String::from_utf8(parent.output().unwrap().stdout).unwrap();
    let orphan = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    let fd = pidfd_open(orphan, PidfdFlags::empty()).unwrap();
    let why = guest.join(&id, fd.as_fd()).unwrap_err();
    assert!(why.contains("descend"), "{why}");
    assert!(!member_of(orphan.as_raw_nonzero().get() as u32, &id));
    kill_process(orphan, Signal::KILL).unwrap();
    let mut dead = Sleep::new(CALLER);
    let fd = pidfd(&dead.0);
    dead.0.kill().unwrap();
    dead.0.wait().unwrap();
    assert!(guest.join(&id, fd.as_fd()).unwrap_err().contains("ended"));
    // What is no process, none, and one too many.
    let null = fs::File::open("/dev/null").unwrap();
    assert!(guest.join(&id, null.as_fd()).unwrap_err().contains("no pidfd"));
    let why = guest.ask(Ask::Join { id: id.clone() }, None).unwrap_err();
    assert!(why.contains("0 descriptors"), "{why}");
    assert!(guest.end() && run.end());
}

fn joins_no_other_groups(world: &World) {
    world.configure(&world.config().replace("users = [", &format!("users = [{OTHER}, ")));
    let (mut other, first) = Helper::start(program().env("SUDO_UID", OTHER.to_string()), OTHER);
    first.unwrap();
    let others = other.make(LIMITS).unwrap();
    let (mut run, _) = Helper::ready();
    let ended = run.make(LIMITS).unwrap();
    run.ask(Ask::Remove, None).unwrap();
    let (mut killed, _) = Helper::ready();
    let (mut guest, _) = Helper::ready();
    let left = killed.make(LIMITS).unwrap();
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    let mut own = Sleep::new(CALLER);
    for id in [&others, &ended, &left, &id()] {
        let why = guest.join(id, pidfd(&own.0).as_fd()).unwrap_err();
        assert!(why.contains("no helper of uid"), "{why}");
        assert!(!own.member_of(id));
    }
    // The operator has other parents since the run began.
    let here = run.make(LIMITS).unwrap();
    for dir in world.dirs() {
        fs::create_dir(dir.join("apart")).unwrap();
    }
    let mut text = world.config();
    for dir in world.dirs() {
        text = text.replace(&format!("{dir:?}"), &format!("{:?}", dir.join("apart")));
    }
    world.configure(&text);
    let (mut elsewhere, _) = Helper::ready();
    let why = elsewhere.join(&here, pidfd(&own.0).as_fd()).unwrap_err();
    assert!(why.contains("no parent any more"), "{why}");
    assert!(!own.member_of(&here) && own.lives());
    assert!(elsewhere.end() && guest.end() && run.end() && other.end());
    for dir in world.dirs() {
        fs::remove_dir(dir.join("apart")).unwrap();
    }
    world.configure(&world.config());
    // Who comes next removes what the killed one left.
    let (next, _) = Helper::ready();
    assert!(next.end());
}

/// As [`moves_no_stranger_by_a_used_number`]; nobody of the run is killed for it.
fn joins_no_stranger_by_a_used_number(_: &World) {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let (mut run, _) = Helper::ready();
    let id = run.make(LIMITS).unwrap();
    let mut member = Sleep::new(CALLER);
    run.enter(&member.0).unwrap();
    let mut used_again = 0;
    for round in 0..60u64 {
        let (mut guest, _) = Helper::ready();
        let mut own = Sleep::new(CALLER);
        let fd = pidfd(&own.0);
        let pid = own.pid();
        let (answer, mut stranger) = std::thread::scope(|scope| {
            let race = scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(round * 5));
                own.0.kill().unwrap();
                own.0.wait().unwrap();
                let _ = fs::write(LAST, (pid - 1).to_string());
                Sleep::new(0)
            });
            let answer = guest.join(&id, fd.as_fd());
            (answer, race.join().unwrap())
        });
        used_again += u32::from(stranger.pid() == pid);
        if let Err(why) = &answer {
            assert!(why.contains("ended") || why.contains("process"), "{why}");
        }
        assert!(!stranger.member_of(&id), "{answer:?}");
        assert!(guest.end());
        assert!(
            stranger.lives() && member.lives() && member.member_of(&id),
            "{answer:?}"
        );
    }
    assert!(used_again > 0, "no number was used again");
    assert!(run.end() && !member.lives());
}

fn limits_a_directory(world: &World, quotas: &Quotas) {
    let (mut helper, ready) = Helper::ready();
    let disk = ready.disk.expect("project quotas");
    assert_eq!(
        (disk.devices.len(), disk.bytes, disk.files),
        (1, MOST_BYTES, MOST_FILES)
    );
    let dir = quotas.directory(CALLER);
    let asked = (1 << 20, 10);
    assert!(helper.ask(Ask::FreeDisk, None).unwrap_err().contains("no limit"));
    helper.limit(&dir, asked).unwrap();
    let (project_id, inherited) = project(&dir);
    assert!(inherited && (PROJECTS[0]..=PROJECTS[1]).contains(&project_id));
    assert_eq!(quotas.limits(project_id), asked);
    assert_eq!(quotas.limited(), [project_id]);
    let wrote = written(&dir.join("large"), 3000);
    assert!((900 << 10..=1 << 20).contains(&wrote), "{wrote}");
    let made = (0..20).filter(|n| written(&dir.join(format!("f{n}")), 0) == 0 && dir.join(format!("f{n}")).exists());
    // Itself, the large one and these.
    assert_eq!(made.count(), 8);
    // One at a time.
    let other = quotas.directory(CALLER);
    assert!(helper.limit(&other, asked).unwrap_err().contains("already"));
    assert_eq!(project(&other), (0, false));
    // With a group beside it, in either order of their ends.
    helper.make(LIMITS).unwrap();
    helper.ask(Ask::FreeDisk, None).unwrap();
    assert_eq!(quotas.limited(), Vec::<u32>::new());
    assert!(written(&dir.join("large"), 3000) == 3000 << 10);
    helper.limit(&other, asked).unwrap();
    assert_ne!(project(&other).0, project_id, "what is charged to the first one stays");
    helper.ask(Ask::Remove, None).unwrap();
    assert_eq!(quotas.limited(), [project(&other).0]);
    let status = fs::read_to_string(format!("/proc/{}/status", helper.process.id())).unwrap();
    let holds = status.lines().any(|line| line == "CapEff:\t00000000002000a0");
    assert!(holds, "CAP_KILL, CAP_SETUID and CAP_SYS_ADMIN, no more: {status}");
    assert!(helper.end());
    assert_eq!(quotas.limited(), Vec::<u32>::new());
    // Nobody gets it whose operator does not give it away.
    world.configure(&world.config());
    let (mut helper, ready) = Helper::ready();
    assert_eq!(ready.disk, None);
    assert!(
        helper
            .limit(&quotas.directory(CALLER), asked)
            .unwrap_err()
            .contains("no [disk]")
    );
    assert!(helper.end());
}

fn limits_only_the_callers(_: &World, quotas: &Quotas) {
    let (mut helper, _) = Helper::ready();
    let asked = (1 << 20, 10);
    let refused = |helper: &mut Helper, dir: BorrowedFd<'_>, word: &str| {
        let (bytes, files) = asked;
        let why = helper.ask(Ask::LimitDisk { bytes, files }, Some(dir)).unwrap_err();
        assert!(why.contains(word), "{why}");
    };
    let open = |path: &Path| fs::File::open(path).unwrap();
    for uid in [0, OTHER] {
        let dir = quotas.directory(uid);
        refused(&mut helper, open(&dir).as_fd(), "belongs to uid");
        assert_eq!(project(&dir), (0, false));
    }
    refused(&mut helper, open(&quotas.mount).as_fd(), "belongs to uid");
    let own = quotas.directory(CALLER);
    // A file, a place, a process, another file system, one that others may write, one that is not empty.
    let file = own.join("file");
    fs::write(&file, "x").unwrap();
    chown(&file, Some(CALLER), Some(CALLER)).unwrap();
    refused(&mut helper, open(&file).as_fd(), "no directory");
    refused(&mut helper, open(&own).as_fd(), "not empty");
    fs::remove_file(&file).unwrap();
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let place = rustix::fs::open(&own, flags, rustix::fs::Mode::empty()).unwrap();
    refused(&mut helper, place.as_fd(), "project");
    symlink(&quotas.mount, own.with_extension("link")).unwrap();
    let nofollow = flags | rustix::fs::OFlags::NOFOLLOW;
    let link = rustix::fs::open(own.with_extension("link"), nofollow, rustix::fs::Mode::empty()).unwrap();
    refused(&mut helper, link.as_fd(), "no directory");
    fs::remove_file(own.with_extension("link")).unwrap();
    let sleep = Sleep::new(CALLER);
    refused(&mut helper, pidfd(&sleep.0).as_fd(), "no directory");
    let elsewhere = PathBuf::from("/run/elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    chown(&elsewhere, Some(CALLER), Some(CALLER)).unwrap();
    refused(&mut helper, open(&elsewhere).as_fd(), "none of the file systems");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    refused(&mut helper, open(&own).as_fd(), "others may write");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(
        helper
            .ask(
                Ask::LimitDisk {
                    bytes: 1 << 20,
                    files: 10
                },
                None
            )
            .unwrap_err()
            .contains("0 descriptors")
    );
    assert!(
        helper
            .ask(Ask::FreeDisk, Some(open(&own).as_fd()))
            .unwrap_err()
            .contains("1 descriptors")
    );
    // Above the ceilings, and what would be no limit.
    for (bytes, files) in [
        (MOST_BYTES + 1, 10),
        (1 << 20, MOST_FILES + 1),
        (u64::MAX, 1),
        (0, 10),
        (1 << 20, 0),
    ] {
        assert!(
            helper.limit(&own, (bytes, files)).unwrap_err().contains("disk"),
            "{bytes} {files}"
        );
    }
    assert_eq!((project(&own), quotas.limited()), ((0, false), Vec::new()));
    helper.limit(&own, (MOST_BYTES, MOST_FILES)).unwrap();
    assert!(helper.end());
    // Root has it for itself, and no group by it.
    let dir = quotas.directory(0);
    let (mut roots, first) = Helper::start(program().env_remove("SUDO_UID"), 0);
    first.unwrap();
    assert!(roots.make(LIMITS).unwrap_err().contains("root makes"));
    assert!(roots.limit(&own, asked).unwrap_err().contains("belongs to uid"));
    roots.limit(&dir, asked).unwrap();
    assert!(roots.end());
}

/// None that has limits, that files are charged to, or that lies outside of the range.
fn gives_projects_of_its_own(_: &World, quotas: &Quotas) {
    let [first, last] = PROJECTS;
    let asked = (1 << 20, 10);
    // Somebody limits the first, and somebody's files are of the second.
    sr_kernel::quota::limit(quotas.fd.as_fd(), first, 7 << 20, 7).unwrap();
    let others = quotas.directory(OTHER);
    sr_kernel::quota::assign(fs::File::open(&others).unwrap().as_fd(), first + 1).unwrap();
    let mut helpers = Vec::new();
    for expected in first + 2..=last {
        let (mut helper, _) = Helper::ready();
        let dir = quotas.directory(CALLER);
        helper.limit(&dir, asked).unwrap();
        assert_eq!(project(&dir).0, expected);
        helpers.push(helper);
    }
    let (mut none, _) = Helper::ready();
    let dir = quotas.directory(CALLER);
    assert!(
        none.limit(&dir, asked)
            .unwrap_err()
            .contains("every project from 500 to 503")
    );
    assert_eq!(project(&dir), (0, false));
    // One that has a project already, whoever gave it.
    let own = quotas.directory(CALLER);
    sr_kernel::quota::assign(fs::File::open(&own).unwrap().as_fd(), 9).unwrap();
    assert!(none.limit(&own, asked).unwrap_err().contains("of project 9 already"));
    assert_eq!(quotas.limits(first), (7 << 20, 7), "left as it was");
    assert!(none.end() && helpers.into_iter().all(Helper::end));
    sr_kernel::quota::limit(quotas.fd.as_fd(), first, 0, 0).unwrap();
}

/// Names lead to other directories all the while; what is limited is what was opened.
fn is_not_raced_to_another(_: &World, quotas: &Quotas) {
    use std::sync::atomic::{AtomicBool, Ordering};
    let victim = quotas.directory(0);
    let top = quotas.directory(CALLER);
    let (name, aside) = (top.join("dir"), top.join("aside"));
    let swapped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !swapped.load(Ordering::Relaxed) {
                // The caller's directory, a link to root's, and nothing.
                let _ = fs::rename(&name, &aside);
                let _ = symlink(&victim, &name);
                let _ = fs::remove_file(&name);
                let _ = fs::rename(&aside, &name);
            }
        });
        for _ in 0..40 {
            let (mut helper, _) = Helper::ready();
            fs::create_dir(top.join("new")).unwrap();
            chown(top.join("new"), Some(CALLER), Some(CALLER)).unwrap();
            let dir = fs::File::open(top.join("new")).unwrap();
            let _ = fs::rename(top.join("new"), &name);
            let asked = Ask::LimitDisk {
                bytes: 1 << 20,
                files: 10,
            };
            helper.ask(asked, Some(dir.as_fd())).unwrap();
            assert!(sr_kernel::quota::project(dir.as_fd()).unwrap().1);
            // What the name led to at some moment is not the caller's, and is refused.
            if let Ok(by_name) = fs::File::open(&name) {
                helper.ask(Ask::FreeDisk, None).unwrap();
                let root = std::os::unix::fs::MetadataExt::uid(&by_name.metadata().unwrap()) == 0;
                let asked = Ask::LimitDisk {
                    bytes: 1 << 20,
                    files: 10,
                };
                assert!(!root || helper.ask(asked, Some(by_name.as_fd())).is_err());
            }
            assert!(helper.end());
            drop(dir);
            let paths = [&name, &aside, &top.join("new")];
            until("the directory is caught", || {
                let there = |path: &&&PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
                paths.iter().filter(there).for_each(|path| drop(fs::remove_dir(path)));
                fs::read_dir(&top)
                    .unwrap()
                    .flatten()
                    .all(|e| e.file_type().is_ok_and(|t| !t.is_dir()))
            });
        }
        swapped.store(true, Ordering::Relaxed);
    });
    assert_eq!(project(&victim), (0, false));
}

fn clears_what_is_left(world: &World, quotas: &Quotas) {
    let asked = (1 << 20, 10);
    // The caller is killed.
    let (mut helper, _) = Helper::ready();
    helper.limit(&quotas.directory(CALLER), asked).unwrap();
    let mut caller = Command::new("sleep")
        .arg("600")
        .stdin(helper.socket.take().unwrap())
        .spawn()
        .unwrap();
    assert_eq!(quotas.limited().len(), 1);
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert!(helper.process.wait().unwrap().success());
    assert_eq!(quotas.limited(), Vec::<u32>::new());
    // The helper is, with a group beside it.
    let (mut helper, _) = Helper::ready();
    let dir = quotas.directory(CALLER);
    helper.limit(&dir, asked).unwrap();
    helper.make(LIMITS).unwrap();
    let left = project(&dir).0;
    helper.process.kill().unwrap();
    helper.process.wait().unwrap();
    assert_eq!(quotas.limited(), [left], "it holds on");
    assert!(written(&dir.join("large"), 3000) <= 1 << 20);
    // An operator who has changed his mind: what is no number of his any more stays as it is, and counts.
    world.configure(&quotas.config(world).replace("[500, 503]", "[600, 603]"));
    let (other, _) = Helper::ready();
    assert!(other.end());
    assert_eq!((quotas.limited(), world.slots().len()), (vec![left], 1));
    world.configure(&quotas.config(world));
    let (next, _) = Helper::ready();
    assert_eq!(quotas.limited(), Vec::<u32>::new());
    assert!(next.end());
}

fn takes_no_other_descriptors(_: &World) {
    let (mut helper, _) = Helper::ready();
    let open = |helper: &Helper| {
        fs::read_dir(format!("/proc/{}/fd", helper.process.id()))
            .unwrap()
            .count()
    };
    let id = helper.make(LIMITS).unwrap();
    let before = open(&helper);
    let own = Sleep::new(CALLER);
    let null = fs::File::open("/dev/null").unwrap();
    let why = helper.ask(Ask::Enter, Some(null.as_fd())).unwrap_err();
    assert!(why.contains("no pidfd"), "{why}");
    let why = helper.ask(Ask::Enter, None).unwrap_err();
    assert!(why.contains("0 descriptors"), "{why}");
    let why = helper.ask(Ask::Kill, Some(null.as_fd())).unwrap_err();
    assert!(why.contains("1 descriptors"), "{why}");
    // Two, of which one is right; and more than it takes.
    let request = serde_json::to_vec(&Request {
        version: VERSION,
        ask: Ask::Enter,
    })
    .unwrap();
    let fd = pidfd(&own.0);
    for count in [2, 4, 5, 250] {
        let many = vec![fd.as_fd(); count];
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(250))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&many)));
        let data = [std::io::IoSlice::new(&request)];
        rustix::net::sendmsg(helper.socket(), &data, &mut control, SendFlags::empty()).unwrap();
        assert!(matches!(helper.hear(), Some(Say::Refused { why }) if why.contains("descriptors")));
    }
    assert!(!own.member_of(&id));
    assert_eq!(open(&helper), before);
    assert!(helper.end());
}

fn outlives_any_bytes(world: &World) {
    let (mut helper, _) = Helper::ready();
    let make = serde_json::to_vec(&Request {
        version: VERSION,
        ask: Ask::MakeGroup {
            id: id(),
            limits: LIMITS.into(),
        },
    })
    .unwrap();
    let mut random = fs::File::open("/dev/urandom").unwrap();
    for round in 0..3000usize {
        let mut bytes = make.clone();
        let mut noise = [0u8; 4];
        random.read_exact(&mut noise).unwrap();
        let at = usize::from(noise[0]) % bytes.len();
        match round % 4 {
            // Half a message, or more than one.
            0 => bytes.truncate(at.max(1)),
            // A letter of its words changed to no letter.
            1 => bytes[2 + at % 8] = noise[1] | 0x80,
            2 => {
                bytes.resize(1 + usize::from(noise[1]) * 40, 0);
                random.read_exact(&mut bytes).unwrap();
            }
            _ => bytes.extend_from_slice(&make),
        }
        rustix::net::send(helper.socket(), &bytes, SendFlags::empty()).unwrap();
        let said = helper.hear();
        assert!(
            matches!(said, Some(Say::Refused { .. })),
            "{said:?} to {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    let text = String::from_utf8(make).unwrap();
    let id = text.split('"').nth(9).unwrap();
    for bad in [
        "../x",
        "../../../../../../../../../",
        "",
        "/",
        "01j00000000000000000000000/x",
        "\\u0000",
    ] {
        let changed = text.replace(id, bad);
        assert_ne!(changed, text);
        rustix::net::send(helper.socket(), changed.as_bytes(), SendFlags::empty()).unwrap();
        assert!(matches!(helper.hear(), Some(Say::Refused { .. })), "{changed}");
    }
    let later = text.replace("\"version\":1", "\"version\":2");
    rustix::net::send(helper.socket(), later.as_bytes(), SendFlags::empty()).unwrap();
    assert!(matches!(helper.hear(), Some(Say::Refused { why }) if why.contains("version 2")));
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
    helper.make(LIMITS).unwrap();
    assert!(helper.end());
}

fn cleans_up_after_a_killed_caller(world: &World) {
    let (mut helper, _) = Helper::ready();
    let id = helper.make(LIMITS).unwrap();
    // A process that goes on making others.
    let script = "read go; while :; do sleep 600 & sleep 0.01; done";
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .uid(CALLER)
        .gid(CALLER)
        .stdin(Stdio::piped());
    let mut crowd = Sleep(command.spawn().unwrap());
    helper.enter(&crowd.0).unwrap();
    crowd.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(crowd.member_of(&id));
    // The one that holds the socket.
    let mut caller = Command::new("sleep")
        .arg("600")
        .stdin(helper.socket.take().unwrap())
        .spawn()
        .unwrap();
    let procs = world
        .groups()
        .into_iter()
        .find(|dir| dir.ends_with(format!("safe-run-{id}")))
        .unwrap();
    let members = || fs::read_to_string(procs.join("cgroup.procs")).unwrap().lines().count();
    until("a crowd", || members() > 5);
    assert!(helper.process.try_wait().unwrap().is_none());
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert!(helper.process.wait().unwrap().success());
    assert!(!crowd.lives());
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
}

fn cleans_up_after_a_killed_helper(world: &World) {
    let (mut helper, _) = Helper::ready();
    let id = helper.make(LIMITS).unwrap();
    let mut sleep = Sleep::new(CALLER);
    helper.enter(&sleep.0).unwrap();
    helper.process.kill().unwrap();
    helper.process.wait().unwrap();
    assert!(sleep.member_of(&id) && sleep.lives(), "its limits hold on");
    assert_eq!(world.slots().len(), 1);
    // Another user's helper leaves it alone.
    world.configure(&world.config().replace("users = [", &format!("users = [{OTHER}, ")));
    let (other, first) = Helper::start(program().env("SUDO_UID", OTHER.to_string()), OTHER);
    first.unwrap();
    assert!(other.end() && sleep.lives());
    let (next, _) = Helper::ready();
    assert!(!sleep.lives());
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
    assert!(next.end());
}

fn bounds_a_thousand_callers(world: &World) {
    let most = rustix::process::Rlimit {
        current: Some(4096),
        maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, most).unwrap();
    let mut started = Vec::new();
    for _ in 0..1000 {
        let (ours, theirs) = pair(CALLER);
        let process = program().stdin(theirs).spawn().unwrap();
        let socket = Some(ours);
        started.push(Helper { socket, process });
    }
    let mut serving = Vec::new();
    for mut helper in started {
        match helper.hear() {
            Some(Say::Ready(_)) => serving.push(helper),
            Some(Say::Refused { why }) => assert!(why.contains("12 helpers"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    // As many again for commands that join.
    assert_eq!(serving.len(), 2 * RUNS);
    let made = serving.iter_mut().filter_map(|helper| match helper.make(LIMITS) {
        Ok(id) => Some(id),
        Err(why) => {
            assert!(why.contains("6 runs, of the 6"), "{why}");
            None
        }
    });
    assert_eq!(made.count(), RUNS);
    let runs = world
        .groups()
        .iter()
        .filter(|dir| dir.to_string_lossy().contains("/safe-run-0"))
        .count();
    assert_eq!(runs, RUNS * world.dirs().len());
    assert!(serving.into_iter().all(Helper::end));
}

fn answers_a_thousand_requests(world: &World) {
    let (mut helper, _) = Helper::ready();
    let socket = helper.socket().try_clone_to_owned().unwrap();
    let over = Amounts { pids: 33, ..CEILINGS };
    let writer = std::thread::spawn(move || {
        for round in 0..1000 {
            let limits = if round % 2 == 0 { over } else { LIMITS };
            let ask = Ask::MakeGroup {
                id: id(),
                limits: limits.into(),
            };
            wire::send(socket.as_fd(), &Request { version: VERSION, ask }, None).unwrap();
        }
    });
    let done = (0..1000).filter(|_| helper.hear() == Some(Say::Done)).count();
    writer.join().unwrap();
    assert_eq!(done, 1, "one group at a time");
    let runs = world
        .groups()
        .iter()
        .filter(|dir| dir.to_string_lossy().contains("/safe-run-0"))
        .count();
    assert_eq!(runs, world.dirs().len());
    assert!(helper.end());
}

fn refused(word: &str) {
    let (helper, first) = Helper::start(&mut program(), CALLER);
    let why = first.unwrap_err();
    assert!(why.contains(word), "{why}, not {word}");
    assert!(!helper.end());
}

fn trusts_only_roots_file(world: &World) {
    let text = world.config();
    fs::set_permissions(CONFIG, fs::Permissions::from_mode(0o664)).unwrap();
    refused("written by others");
    world.configure(&text);
    chown(CONFIG, Some(CALLER), None).unwrap();
    refused("uid 65534");
    fs::remove_file(CONFIG).unwrap();
    refused("No such file");
    fs::write("/etc/safe-run/other", &text).unwrap();
    symlink("other", CONFIG).unwrap();
    refused("link");
    world.configure(&text);
    fs::set_permissions("/etc/safe-run", fs::Permissions::from_mode(0o777)).unwrap();
    refused("written by others");
    fs::set_permissions("/etc/safe-run", fs::Permissions::from_mode(0o755)).unwrap();
    world.configure(&text.replace("runs =", "run ="));
    refused("run");
    world.configure(&text.replace("[65534]", "[65533]"));
    refused("allows neither");
    // A group of control groups by way of a link.
    let parent = world.dirs()[0].to_string_lossy().into_owned();
    symlink(&parent, "/run/parent").unwrap();
    world.configure(&text.replace(&parent, "/run/parent"));
    refused("link");
    fs::remove_file("/run/parent").unwrap();
    // One that is another's.
    chown(&parent, Some(CALLER), None).unwrap();
    world.configure(&text);
    refused("uid 65534");
    chown(&parent, Some(0), None).unwrap();
    world.configure(&text.replace(&parent, "/run"));
    refused("no control group");
    world.configure(&text);
    let (helper, _) = Helper::ready();
    assert!(helper.end());
}

/// The file is exchanged all the time, for another's and for a link to it.
fn is_not_raced_by_its_file(world: &World) {
    let good = world.config();
    let bad = good.replace("64MiB", "1TiB");
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let seen = std::thread::scope(|scope| {
        scope.spawn(move || {
            let next = Path::new("/etc/safe-run/next");
            fs::write("/etc/safe-run/bad", &bad).unwrap();
            chown("/etc/safe-run/bad", Some(CALLER), None).unwrap();
            while ended.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                fs::write(next, &good).unwrap();
                fs::rename(next, CONFIG).unwrap();
                symlink("bad", next).unwrap();
                fs::rename(next, CONFIG).unwrap();
                fs::write(next, &bad).unwrap();
                chown(next, Some(CALLER), None).unwrap();
                fs::rename(next, CONFIG).unwrap();
            }
        });
        // However this ends, so does the other.
        let _end = end;
        (0..150)
            .map(|_| Helper::start(&mut program(), CALLER).1)
            .collect::<Vec<First>>()
    });
    let served: Vec<&Ready> = seen.iter().filter_map(|first| first.as_ref().ok()).collect();
    assert!(served.iter().all(|ready| ready.ceilings == CEILINGS));
    assert!(
        !served.is_empty() && served.len() < seen.len(),
        "both were met: {}",
        served.len()
    );
}

fn knows_who_asks(_: &World) {
    let start = |change: &dyn Fn(&mut Command), maker| {
        let mut command = program();
        change(&mut command);
        let (helper, first) = Helper::begin(&mut command, maker);
        let served = helper.end();
        first.inspect(|first| assert_eq!(first.is_ok(), served))
    };
    let why = |first: Option<First>| first.expect("an answer").expect_err("a refusal");
    let nothing = |_: &mut Command| {};
    let sudo = |uid: &'static str| {
        move |c: &mut Command| {
            c.env("SUDO_UID", uid);
        }
    };
    start(&nothing, CALLER).unwrap().unwrap();
    start(
        &|c| {
            c.env_remove("SUDO_UID");
        },
        CALLER,
    )
    .unwrap()
    .unwrap();
    start(
        &|c| {
            c.env_remove("SUDO_UID").env("PKEXEC_UID", "65534");
        },
        CALLER,
    )
    .unwrap()
    .unwrap();
    assert!(why(start(&sudo("65533"), CALLER)).contains("made the socket"));
    assert!(why(start(&nothing, OTHER)).contains("made the socket"));
    assert!(why(start(&sudo("0"), CALLER)).contains("made the socket"));
    assert!(why(start(&sudo("0"), 0)).contains("root"));
    assert!(why(start(&sudo(""), CALLER)).contains("no uid"));
    assert!(
        why(start(
            &|c| {
                c.env("PKEXEC_UID", "65534");
            },
            CALLER
        ))
        .contains("both")
    );
    assert!(why(start(&sudo("65533"), OTHER)).contains("allows neither"));
    // Nothing is said before it knows that it is root: as the caller itself, setuid, or asked for something.
    assert!(
        start(
            &|c| {
                c.arg("--version");
            },
            CALLER
        )
        .is_none()
    );
    assert!(
        start(
            &|c| {
                c.uid(CALLER);
            },
            CALLER
        )
        .is_none()
    );
    fs::copy(env!("CARGO_BIN_EXE_safe-run-helper"), "/run/setuid").unwrap();
    fs::set_permissions("/run/setuid", fs::Permissions::from_mode(0o4755)).unwrap();
    let mut command = Command::new("/run/setuid");
    command.env_clear().uid(CALLER).stderr(Stdio::piped());
    let (mut helper, first) = Helper::begin(&mut command, CALLER);
    assert!(first.is_none());
    let mut said = String::new();
    helper.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("never be setuid"), "{said}");
    fs::remove_file("/run/setuid").unwrap();
}

fn has_little_left(_: &World) {
    let (inherited, _end) = pair(0);
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
    let (mut helper, _) = Helper::ready();
    helper.make(LIMITS).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", helper.process.id())).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    // CAP_KILL and CAP_SETUID.
    for (name, value) in [
        ("CapEff:", "00000000000000a0"),
        ("CapPrm:", "00000000000000a0"),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("Uid:", "0\t0\t0\t0"),
    ] {
        assert_eq!(field(name), value, "{name}");
    }
    let links: Vec<PathBuf> = fs::read_dir(format!("/proc/{}/fd", helper.process.id()))
        .unwrap()
        .filter_map(|e| fs::read_link(e.unwrap().path()).ok())
        .collect();
    let sockets = links
        .iter()
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    assert_eq!(sockets, 1, "{links:?}");
    // A terminal's and sudo's signals.
    let pid = Pid::from_child(&helper.process);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::TSTP, Signal::QUIT] {
        kill_process(pid, signal).unwrap();
    }
    helper.ask(Ask::Remove, None).unwrap();
    assert!(helper.end());
}

/// Root's own process in the group, as after `sudo` inside of it.
fn harms_no_stranger_in_the_group(world: &World) {
    let (mut helper, ready) = Helper::ready();
    let id = helper.make(LIMITS).unwrap();
    let (mut own, mut stranger) = (Sleep::new(CALLER), Sleep::new(0));
    helper.enter(&own.0).unwrap();
    let groups: Vec<PathBuf> = world
        .groups()
        .into_iter()
        .filter(|dir| dir.ends_with(format!("safe-run-{id}")))
        .collect();
    for group in &groups {
        fs::write(group.join("cgroup.procs"), stranger.pid().to_string()).unwrap();
    }
    let why = helper.ask(Ask::Remove, None).unwrap_err();
    assert!(why.contains("1 processes"), "{why}");
    assert!(!own.lives() && stranger.lives());
    let pids = Path::new(&ready.pids.parent).join(format!("safe-run-{id}"));
    assert_eq!(fs::read_to_string(pids.join("pids.max")).unwrap().trim(), "max");
    assert!(helper.end());
    // It counts, and the next one looks again.
    assert_eq!(world.slots().len(), 1);
    let (next, _) = Helper::ready();
    assert!(stranger.lives() && groups.iter().all(|group| group.exists()));
    assert!(next.end());
    drop(stranger);
    let (last, _) = Helper::ready();
    assert_eq!(world.groups(), Vec::<PathBuf>::new());
    assert!(last.end());
}

/// The process ends as it is moved, and its number goes to one of root's at once.
fn moves_no_stranger_by_a_used_number(_: &World) {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let mut used_again = 0;
    for round in 0..60u64 {
        let (mut helper, _) = Helper::ready();
        let id = helper.make(LIMITS).unwrap();
        let mut own = Sleep::new(CALLER);
        let fd = pidfd(&own.0);
        let pid = own.pid();
        let (answer, mut stranger) = std::thread::scope(|scope| {
            let race = scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(round * 5));
                own.0.kill().unwrap();
                own.0.wait().unwrap();
                let _ = fs::write(LAST, (pid - 1).to_string());
                Sleep::new(0)
            });
            let answer = helper.ask(Ask::Enter, Some(fd.as_fd()));
            (answer, race.join().unwrap())
        });
        used_again += u32::from(stranger.pid() == pid);
        if let Err(why) = &answer {
            assert!(why.contains("ended") || why.contains("process"), "{why}");
        }
        assert!(!stranger.member_of(&id), "{answer:?}");
        let ended = helper.end();
        assert!(stranger.lives() && ended, "{answer:?}");
    }
    assert!(used_again > 0, "no number was used again");
}

/// What the caller can do to its group by itself: read it.
fn groups_are_not_the_callers(world: &World) {
    let (mut helper, ready) = Helper::ready();
    helper.make(LIMITS).unwrap();
    let own = Sleep::new(CALLER);
    helper.enter(&own.0).unwrap();
    let group = world
        .groups()
        .into_iter()
        .find(|dir| dir.to_string_lossy().contains("/safe-run-0"))
        .unwrap();
    let script = "cd \"$1\" || exit 9\n\
        cat cgroup.procs >/dev/null || exit 1\n\
        echo 0 > cgroup.procs && exit 2\n\
        mkdir below && exit 3\n\
        cd .. && mkdir other && exit 4\n\
        mv \"$1\" \"$1-away\" && exit 5\n\
        rmdir \"$1\" && exit 6\n\
        ls \"$2\" >/dev/null && exit 7\n\
        exit 0";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(&group)
        .arg(STATE)
        .uid(CALLER)
        .gid(CALLER)
        .stderr(Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(0));
    assert!(Path::new(&ready.memory.parent).exists());
    assert!(helper.end());
}
