//! What Safe-Run's own processes still hold while a program runs: their descriptors, capabilities, threads and filters against
//! exact lists, and what the kernel answers when the supervisor is made to do what it should no longer be able to do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{End, LIMIT, Place, Test, end, fail, is_root, needs, skip};

fn main() {
    support::main(&[
        ("the_supervisor", the_supervisor),
        ("the_supervisor_of_an_ordinary_user", the_supervisor_of_an_ordinary_user),
        ("init", init),
        ("the_broker", the_broker),
        (
            "the_broker_looks_into_the_sandbox_alone",
            the_broker_looks_into_the_sandbox_alone,
        ),
        ("it_starts_nothing_else", it_starts_nothing_else),
        ("made_to_reach_out", made_to_reach_out),
        (
            "a_short_run_is_confined_before_its_changes_are_read",
            a_short_run_is_confined,
        ),
    ]);
}

const CAP_CHOWN: u64 = 1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_FOWNER: u64 = 1 << 3;
const CAP_KILL: u64 = 1 << 5;
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// A run under way, its supervisor confined. Ended when dropped.
struct Run {
    supervisor: Child,
    init: u32,
    broker: u32,
}

impl Drop for Run {
    fn drop(&mut self) {
        // Asked first: one that is killed leaves its control groups to who knows its store, which is gone soon. All of it
        // fails where it has ended.
        let pid = rustix::process::Pid::from_child(&self.supervisor);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until && matches!(self.supervisor.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

impl Run {
    fn pid(&self) -> u32 {
        self.supervisor.id()
    }
}

/// Starts a run, as `user` if that is another, and waits until its supervisor is confined and has started its broker.
fn start(place: &Place, user: Option<u32>) -> Result<Run, End> {
    needs(place, "python3")?;
    let mut binary = support::safe_run().to_owned();
    if let Some(user) = user {
        binary = place.root().join("safe-run");
        // Not by this process: what it holds open for writing while a neighbour forks cannot be executed.
        let mut copy = Command::new("cp");
        copy.arg(support::safe_run()).arg(&binary);
        end(copy, b"", LIMIT).ok()?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        for dir in [place.root(), &place.project, &place.home, &place.runtime] {
            chown(dir, Some(user), Some(user))?;
        }
    }
    // Whatever started these tests may have left them descriptors.
    const CLEAN: &str = "import os, sys\nos.closerange(3, 1 << 16)\nos.execv(sys.argv[1], sys.argv[1:])";
    let mut command = place.command("/usr/bin/python3");
    command.args(["-c", CLEAN]).arg(&binary);
    command.args(["run", "--quiet", "--", "sh", "-c", "echo up; exec sleep 60"]);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let supervisor = command.spawn()?;
    let mut run = Run {
        supervisor,
        init: 0,
        broker: 0,
    };
    let until = Instant::now() + LIMIT;
    while Instant::now() < until {
        let children = children(run.pid());
        let broker = children.iter().find(|pid| words(**pid).contains("broker"));
        if status(run.pid())?.get("Seccomp").is_some_and(|mode| mode == "2")
            && let Some(broker) = broker
            && let Some(init) = children.iter().find(|pid| *pid != broker)
        {
            (run.init, run.broker) = (*init, *broker);
            return Ok(run);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    fail("the supervisor did not confine itself")
}

fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn words(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

fn status(pid: u32) -> Result<BTreeMap<String, String>, End> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines.map(|(key, value)| (key.into(), value.trim().into())).collect())
}

/// One thread, a filter of its own, no way to new privileges, and these capabilities in no set but the two that act.
fn holds(pid: u32, capabilities: u64) -> Test {
    let status = status(pid)?;
    let capabilities = format!("{capabilities:016x}");
    for (key, wanted) in [
        ("Threads", "1"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Seccomp_filters", "1"),
        ("CapPrm", capabilities.as_str()),
        ("CapEff", capabilities.as_str()),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        ensure!(
            status.get(key).is_some_and(|value| value == wanted),
            "{key}: {:?}, not {wanted}",
            status.get(key)
        );
    }
    // Nobody of the same user may look into its memory: its files in /proc are root's.
    let owner = fs::metadata(format!("/proc/{pid}/mem"))?.uid();
    ensure!(owner == 0, "its memory belongs to {owner}");
    Ok(())
}

/// What a process has open, by what it is; sorted, each with how often.
fn open(pid: u32, names: &[(&Path, &str)]) -> Result<Vec<String>, End> {
    let mut all: BTreeMap<String, u32> = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let target = fs::read_link(entry?.path())?;
        let known = names
            .iter()
            .find_map(|(dir, name)| Some((target.strip_prefix(dir).ok()?, name)));
        let text = match known {
            // Ids and digests are other ones each time.
            Some((rest, name)) => {
                let rest = rest.components().map(|part| part.as_os_str().to_string_lossy());
                let plain = rest.map(|part| match part.len() {
                    26 => "ID".to_owned(),
                    _ if part.starts_with("view-") => "view-DIGEST".to_owned(),
                    _ => part.into_owned(),
                });
                [(*name).to_owned()]
                    .into_iter()
                    .chain(plain)
                    .collect::<Vec<_>>()
                    .join("/")
            }
            None => {
                let text = target.to_string_lossy();
                match text.split_once(":[") {
                    Some((kind @ ("pipe" | "socket"), _)) => kind.to_owned(),
                    // Where it was mounted from, which a kept skeleton makes another place.
                    None if text == "/w" => "/".to_owned(),
                    _ => text.into_owned(),
                }
            }
        };
        *all.entry(text).or_default() += 1;
    }
    Ok(all.into_iter().map(|(what, n)| format!("{what} {n}")).collect())
}

/// The supervisor's descriptors: caller's streams and copies of them, the sandbox's streams, evidence, journal, limits of the
/// control groups, and handles on the sandbox.
fn descriptors_of_the_supervisor(place: &Place, run: &Run) -> Test {
    let seen = open(
        run.pid(),
        &[
            (&place.store, "STORE"),
            (&place.runtime, "RUNTIME"),
            (Path::new("/run/safe-run"), "RUNTIME"),
            (Path::new("/sys/fs/cgroup"), "CGROUP"),
        ],
    )?;
    let (groups, rest): (Vec<_>, Vec<_>) = seen.into_iter().partition(|line| line.starts_with("CGROUP/"));
    for group in &groups {
        ensure!(
            group.contains("safe-run-"),
            "a control group that is not the run's: {group}"
        );
    }
    let wanted = [
        // The caller's standard input and error, each with a copy of its own description.
        "/dev/null 4",
        // The root of the writable file system of the sandbox, which has no path here.
        "/ 1",
        "STORE/journal/ID 1",
        "STORE/runs/ID 1",
        "STORE/runs/ID/events.jsonl 1",
        "anon_inode:[landlock-ruleset] 1",
        "anon_inode:[pidfd] 1",
        "anon_inode:[signalfd] 1",
        "anon_inode:seccomp notify 1",
        // The caller's standard output and its copy, and the program's output and error.
        "pipe 4",
        // Init, the door, the broker.
        "socket 3",
    ];
    let mut wanted: Vec<String> = wanted.map(str::to_owned).to_vec();
    // The lock on a skeleton that is used; the first view of all has none.
    let skeleton = "RUNTIME/view-DIGEST 1".to_owned();
    if rest.contains(&skeleton) {
        wanted.push(skeleton);
    }
    wanted.sort();
    ensure!(rest == wanted, "open: {rest:#?}\nwanted: {wanted:#?}");
    Ok(())
}

fn the_supervisor(place: &Place) -> Test {
    let run = start(place, None)?;
    let capabilities = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_KILL;
    holds(run.pid(), if is_root() { capabilities } else { 0 })?;
    if !is_root() {
        return Ok(());
    }
    descriptors_of_the_supervisor(place, &run)
}

const SOMEBODY: u32 = 65534;

/// Only root can look at what such a supervisor has open.
fn the_supervisor_of_an_ordinary_user(place: &Place) -> Test {
    if !is_root() {
        return skip("not started by root");
    }
    let run = start(place, Some(SOMEBODY))?;
    holds(run.pid(), 0)?;
    descriptors_of_the_supervisor(place, &run)?;
    holds(run.init, 0)?;
    holds(run.broker, 0)
}

fn init(place: &Place) -> Test {
    let run = start(place, None)?;
    holds(run.init, if is_root() { CAP_KILL } else { 0 })?;
    ensure!(words(run.init).trim().is_empty(), "it shows {:?}", words(run.init));
    if is_root() {
        let seen = open(run.init, &[])?;
        ensure!(seen == ["anon_inode:[signalfd] 1", "socket 1"], "{seen:?}");
    }
    Ok(())
}

/// What a process holds is shown of one pid namespace's processes, and where none is named of none.
fn the_broker_looks_into_the_sandbox_alone(_: &Place) -> Test {
    use sr_process::posture::Opener;
    use std::os::unix::fs::MetadataExt;
    let command = [support::safe_run().into(), "broker".into()];
    let own = fs::metadata("/proc/self/ns/pid")?.ino();
    let pid = std::process::id() as i32;
    for (inside, shown) in [(None, false), (Some(own + 1), false), (Some(own), true)] {
        let broker = sr_runner::broker::Broker::start(&command, inside)?;
        for name in ["mem", "cwd", "fd/1"] {
            let opened = broker.open(pid, name).map_err(|e| e.raw_os_error());
            let fits = match shown {
                // Yama keeps an ordinary user's own processes from one another's memory.
                true if name == "mem" && !support::is_root() => true,
                true => opened.is_ok(),
                false => opened.as_ref().is_err_and(|errno| *errno == Some(1)),
            };
            ensure!(fits, "{name} for {inside:?}: {opened:?}");
        }
        // What every supervisor may see of a process.
        ensure!(broker.open(pid, "exe").is_ok(), "exe for {inside:?}");
    }
    Ok(())
}

fn the_broker(place: &Place) -> Test {
    let run = start(place, None)?;
    holds(
        run.broker,
        if is_root() {
            CAP_DAC_READ_SEARCH | CAP_SYS_PTRACE
        } else {
            0
        },
    )?;
    if is_root() {
        // It may just have answered, and not yet closed what it sent.
        let until = Instant::now() + Duration::from_secs(5);
        let mut seen = open(run.broker, &[])?;
        while seen != ["/dev/null 2", "socket 1"] {
            ensure!(Instant::now() < until, "{seen:?}");
            std::thread::sleep(Duration::from_millis(5));
            seen = open(run.broker, &[])?;
        }
        let environment = fs::read(format!("/proc/{}/environ", run.broker))?;
        ensure!(environment.is_empty(), "it has an environment");
    }
    let broker = run.broker;
    drop(run);
    let until = Instant::now() + Duration::from_secs(5);
    while words(broker).contains("broker") {
        ensure!(Instant::now() < until, "it outlived its supervisor");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn it_starts_nothing_else(place: &Place) -> Test {
    let run = start(place, None)?;
    let mut seen = children(run.pid());
    seen.sort_unstable();
    let mut wanted = [run.init, run.broker];
    wanted.sort_unstable();
    ensure!(seen == wanted, "{seen:?}");
    ensure!(children(run.broker).is_empty(), "the broker has children");
    Ok(())
}

/// Builds the program that makes another process make a system call.
fn injector(place: &Place) -> Result<PathBuf, End> {
    needs(place, "cc")?;
    if !cfg!(target_arch = "x86_64") {
        return skip("calls are injected on x86-64 only");
    }
    let built = place.root().join("inject");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inject.c");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-Wall", "-o"]).arg(&built).arg(source);
    end(cc, b"", LIMIT).ok()?;
    Ok(built)
}

fn made_to_reach_out(place: &Place) -> Test {
    if !is_root() {
        return skip("not started by root");
    }
    let injector = injector(place)?;
    let run = start(place, None)?;
    let canary = place.root().join("canary");
    fs::write(&canary, support::CANARY)?;
    let own = place.last_run().join("policy.json");
    let new = place.root().join("new");
    let text = |path: &Path| format!("s:{}", path.display());
    let made = |call: &[&str]| -> Result<i64, End> {
        let mut command = Command::new(&injector);
        command.arg(run.pid().to_string()).args(call);
        let ran = end(command, b"", LIMIT);
        ran.ok()?;
        ran.out.trim().parse().or_else(|_| fail(format!("{call:?}: {ran}")))
    };
    // A file descriptor, or what the kernel calls the refusal: EPERM by the filter, EACCES by the Landlock domain.
    const EPERM: i64 = -1;
    const EACCES: i64 = -13;
    const AT_FDCWD: &str = "-100";
    const O_CREAT_WRONLY: &str = "0x41";
    let ours = made(&["257", AT_FDCWD, &text(&own), "0"])?;
    ensure!(ours >= 0, "it cannot read its own run's folder: {ours}");
    for (name, wanted, call) in [
        ("read a file", EACCES, vec!["257", AT_FDCWD, &text(&canary), "0"]),
        (
            "make a file",
            EACCES,
            vec!["257", AT_FDCWD, &text(&new), O_CREAT_WRONLY, "0600"],
        ),
        ("remove a file", EACCES, vec!["87", &text(&canary)]),
        (
            "read a signing key",
            EACCES,
            vec!["257", AT_FDCWD, &text(&place.keys.join("default.key")), "0"],
        ),
        (
            "see the program's root",
            EACCES,
            vec!["257", AT_FDCWD, &format!("s:/proc/{}/root/etc", run.init), "0"],
        ),
        ("execute", EPERM, vec!["59", "s:/bin/true", "0", "0"]),
        ("fork", EPERM, vec!["57"]),
        ("clone", EPERM, vec!["56", "17", "0", "0", "0", "0"]),
        ("open a network socket", EPERM, vec!["41", "2", "1", "0"]),
        ("open any socket", EPERM, vec!["41", "1", "1", "0"]),
        ("trace", EPERM, vec!["101", "16", "1", "0", "0"]),
        ("become somebody", EPERM, vec!["105", "1000"]),
        ("mount", EPERM, vec!["165", "0", "0", "0", "0", "0"]),
        ("enter a namespace", EPERM, vec!["308", "0", "0"]),
        ("load code into the kernel", EPERM, vec!["321", "0", "0", "0"]),
        ("signal by number", EPERM, vec!["62", "1", "0"]),
    ] {
        let answer = made(&call)?;
        ensure!(answer == wanted, "{name}: {answer}, not {wanted}");
    }
    ensure!(!new.exists() && canary.exists(), "something was changed");
    // It has gone on all the while.
    let ran = place.tell(&["exec", "--", "true"]);
    ran.ok()
}

/// A run of a few milliseconds ends before the first sample: then it is confined by the time it looks at what was written.
fn a_short_run_is_confined(place: &Place) -> Test {
    if !is_root() {
        // Its memory, and with it the names that it opens, is closed to a tracer of the same user.
        return skip("not started by root");
    }
    needs(place, "strace")?;
    let log = place.root().join("strace");
    let mut command = place.command("strace");
    command.args(["-y", "-o"]).arg(&log).arg(support::safe_run()).args([
        "run",
        "--quiet",
        "--",
        "sh",
        "-c",
        "echo x > changed",
    ]);
    let ran = end(command, b"", LIMIT);
    if ran.err.contains("ptrace") && ran.err.contains("not permitted") {
        return skip("tracing is not permitted");
    }
    ran.ok()?;
    let text = fs::read_to_string(&log)?;
    let at = |what: &str| text.lines().position(|line| line.contains(what));
    let filter = at("SECCOMP_SET_MODE_FILTER").or_else(|| at("seccomp(0x1"));
    // On the sandbox's own file system, or in the store.
    let opened = |line: &str| line.starts_with("open") && (line.contains("\"u0\"") || line.contains("/upper\""));
    let read = text.lines().position(opened);
    let domain = at("landlock_restrict_self(");
    ensure!(
        domain.is_some() && domain < filter && filter < read,
        "domain entered in line {domain:?}, filter in {filter:?}, the layer opened in {read:?}"
    );
    Ok(())
}
