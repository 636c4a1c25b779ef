//! An ordinary user's runs with safe-run-helper: limits of strength `kernel`, and nothing left whoever is killed. Root sets
//! the scene: a mount namespace with its own `/etc`, `/run` and `/usr/libexec`, control groups of the tests' own, and what
//! starts the helper as root in sudo's stead (one test each has sudo and polkit, by the lines of OPERATIONS.md).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;
use support::{End, LIMIT, Place, Ran, Test, end, needs, slow};

const USER: u32 = 65534;
/// Of the file of rules in OPERATIONS.md.
const GROUP: &str = "4000";
const HELPER: &str = "/usr/libexec/safe-run/safe-run-helper";
const AS_ROOT: &str = "/run/as-root --reuid 0 --regid 0 --clear-groups /usr/libexec/safe-run/safe-run-helper";
const INSIDE: &str = "SAFE_RUN_TEST_INSIDE";

fn main() {
    let listed = std::env::args().any(|word| word == "--list");
    if support::is_root() && !listed && std::env::var_os(INSIDE).is_none() {
        // Built before the libraries' directory is another.
        support::safe_run();
        build();
        let status = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(std::env::current_exe().expect("the path of this test"))
            .args(
                std::env::args()
                    .skip(1)
                    .filter(|word| !word.starts_with("--test-threads=")),
            )
            // They share the operator's files.
            .arg("--test-threads=1")
            .env(INSIDE, "1")
            .status()
            .expect("unshare of util-linux");
        remove_groups();
        std::process::exit(status.code().unwrap_or(101));
    }
    support::main(&[
        ("helper_gives_limits_of_the_kernel", gives_limits_of_the_kernel),
        ("helper_completes_what_is_missing", completes_what_is_missing),
        ("helper_is_not_asked_in_vain", is_not_asked_in_vain),
        ("helper_beside_groups_of_the_users_own", beside_groups_of_the_users_own),
        ("helper_of_a_run_out_of_memory", out_of_memory),
        ("helper_of_a_run_out_of_processes", out_of_processes),
        ("helper_refuses_more_than_its_ceilings", refuses_more_than_its_ceilings),
        ("helper_that_does_not_serve", does_not_serve),
        ("helper_killed_ends_the_run", killed_ends_the_run),
        ("helper_outlives_a_killed_supervisor", outlives_a_killed_supervisor),
        ("helper_groups_are_joined", groups_are_joined),
        (
            "helper_groups_are_joined_beside_the_users_own",
            groups_are_joined_beside_the_users_own,
        ),
        (
            "helper_groups_are_not_joined_without_one",
            groups_are_not_joined_without_one,
        ),
        ("helper_is_left_by_killed_joiners", joins_leave_nothing),
        ("helper_holds_the_limit_on_disk", holds_the_limit_on_disk),
        ("helper_holds_the_number_of_files_on_disk", holds_the_number_of_files),
        ("helper_holds_roots_limit_on_disk", holds_roots_limit_on_disk),
        (
            "helper_keeps_the_program_in_its_project_on_disk",
            keeps_the_program_in_its_project,
        ),
        ("helper_is_not_believed_on_disk", is_not_believed_on_disk),
        ("helper_killed_leaves_no_project_on_disk", killed_leaves_no_project),
        ("helper_limits_no_sessions_on_disk", limits_no_sessions),
        ("helper_started_by_sudo", started_by_sudo),
        ("helper_started_by_polkit", started_by_polkit),
        ("helper_unit_is_one_of_systemds", unit_is_one_of_systemds),
        ("helper_below_the_units_group", below_the_units_group),
    ]);
}

/// The program beside `safe-run`.
fn built() -> PathBuf {
    support::safe_run().with_file_name("safe-run-helper")
}

fn build() {
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile = built();
        let profile = profile.parent().expect("target/PROFILE");
        let mut cargo = Command::new(cargo);
        cargo.args(["build", "--quiet", "-p", "sr-helper", "--target-dir"]);
        cargo.arg(profile.parent().expect("target"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.is_ok_and(|s| s.success()), "sr-helper does not build");
    }
}

const PARENT: &str = "safe-run-test-for-helper";

/// Where each controller's groups can be made by root; the parent of the tests' own is below.
fn parents() -> Option<[PathBuf; 3]> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let top = Path::new("/sys/fs/cgroup");
    let v2 = fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    let of = |name: &str| {
        if v2.split_whitespace().any(|c| c == name) {
            return Some(top.join(PARENT));
        }
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let found = fields.next()?.split(',').any(|c| c == name);
            found.then(|| fields.next()).flatten()
        })?;
        let dir = top.join(name).canonicalize().ok()?.join(path.trim_start_matches('/'));
        dir.is_dir().then(|| dir.join(PARENT))
    };
    Some([of("memory")?, of("cpu")?, of("pids")?])
}

fn remove_groups() {
    for dir in parents().into_iter().flatten() {
        // Only empty ones go: what is left is a test's failure, and stays to be seen.
        let users = fs::read_dir(&dir).into_iter().flatten().flatten();
        for user in users.filter(|e| e.path().is_dir()) {
            let _ = fs::remove_dir(user.path());
        }
        let _ = fs::remove_dir(&dir);
    }
}

/// The fenced block of OPERATIONS.md that begins so.
fn documented(begin: &str) -> String {
    let text = include_str!("../../../OPERATIONS.md");
    let found = text.split("```").find(|block| block.starts_with(begin));
    let block = found.unwrap_or_else(|| panic!("OPERATIONS.md has no block {begin:?}"));
    block.split_once('\n').expect("lines").1.to_owned()
}

/// Sets the scene once; why it cannot be set.
fn scene() -> Result<(), End> {
    static SET: OnceLock<Result<(), String>> = OnceLock::new();
    if !support::is_root() {
        return support::skip("not started by root");
    }
    SET.get_or_init(|| {
        let parents = parents().ok_or("no writable cgroup for memory, cpu and pids here")?;
        let mount = |words: &[&str]| {
            let status = Command::new("mount").args(words).status().expect("mount");
            assert!(status.success(), "mount {words:?}");
        };
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
        for dir in ["/etc", "/usr/libexec"] {
            let layer = format!("/run/layers{dir}");
            fs::create_dir_all(format!("{layer}/upper")).expect("a directory");
            fs::create_dir_all(format!("{layer}/work")).expect("a directory");
            let options = format!("lowerdir={dir},upperdir={layer}/upper,workdir={layer}/work");
            mount(&["-t", "overlay", "-o", &options, "overlay", dir]);
        }
        fs::create_dir_all("/etc/safe-run").expect("a directory");
        fs::create_dir_all(Path::new(HELPER).parent().expect("a parent")).expect("a directory");
        fs::copy(built(), HELPER).expect("the helper");
        fs::copy("/usr/bin/setpriv", "/run/as-root").expect("setpriv of util-linux");
        fs::set_permissions("/run/as-root", fs::Permissions::from_mode(0o4755)).expect("its mode");
        for dir in &parents {
            fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        }
        let [memory, cpu, pids] = parents;
        let place = match memory == pids {
            true => format!("cgroupParent = {memory:?}"),
            false => format!("cgroupParent = {{memory = {memory:?}, cpu = {cpu:?}, pids = {pids:?}}}"),
        };
        let rules = documented("toml");
        let line = rules
            .lines()
            .find(|line| line.starts_with("cgroupParent"))
            .expect("a line");
        fs::write("/etc/safe-run/helper.toml", rules.replace(line, &place)).expect("the file of rules");
        Ok(())
    })
    .clone()
    .or_else(support::skip)
}

/// A subtree of the user's own with memory and pids, and without cpu, as systemd would delegate it.
struct Delegated {
    top: Vec<PathBuf>,
    /// The group in which the user's processes are.
    session: Vec<PathBuf>,
    version: u8,
}

impl Delegated {
    fn new() -> Result<Delegated, End> {
        scene()?;
        let [memory, _, pids] = parents().expect("the scene has them");
        let named = |dir: &Path| dir.with_file_name(format!("safe-run-test-delegated-{}", std::process::id()));
        let one = Delegated {
            version: if memory == pids { 2 } else { 1 },
            top: match memory == pids {
                true => vec![named(&memory)],
                false => vec![named(&memory), named(&pids)],
            },
            session: Vec::new(),
        };
        // Made so that it is removed whatever fails.
        let mut one = one;
        for top in one.top.clone() {
            fs::create_dir_all(&top)?;
            if one.version == 2 {
                fs::write(top.join("cgroup.subtree_control"), "+memory +pids")?;
            }
            let session = match one.version {
                2 => top.join("session"),
                _ => top,
            };
            fs::create_dir_all(&session)?;
            one.session.push(session);
        }
        for dir in one.top.iter().chain(&one.session) {
            chown(dir, Some(USER), Some(USER))?;
            for file in ["cgroup.procs", "cgroup.subtree_control", "tasks"] {
                let file = dir.join(file);
                if file.exists() {
                    chown(file, Some(USER), Some(USER))?;
                }
            }
        }
        Ok(one)
    }

    /// The same command, in the subtree.
    fn within(&self, command: &Command) -> Command {
        let joins: String = self
            .session
            .iter()
            .map(|dir| format!("echo 0 > {}/cgroup.procs; ", dir.display()))
            .collect();
        let mut inside = Command::new("sh");
        inside.args(["-ec", &format!("{joins}exec \"$@\""), "sh"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside.env_clear();
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            inside.current_dir(dir);
        }
        inside
    }

    fn groups(&self) -> Vec<PathBuf> {
        let all = self
            .top
            .iter()
            .flat_map(|top| fs::read_dir(top).into_iter().flatten().flatten());
        let run = |e: &fs::DirEntry| e.file_name().to_string_lossy().starts_with("safe-run-");
        all.filter(run).map(|e| e.path()).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in self.session.iter().chain(&self.top) {
            // A process that was killed may not be gone yet.
            let until = Instant::now() + LIMIT;
            while fs::remove_dir(dir).is_err() && dir.exists() && Instant::now() < until {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }
}

/// `safe-run WORDS` of the user, with `helper` (none: as the operator says).
fn command(place: &Place, helper: Option<&str>, words: &[&str]) -> Result<Command, End> {
    scene()?;
    for dir in [place.root(), &place.project, &place.home, &place.runtime] {
        chown(dir, Some(USER), Some(USER))?;
    }
    let mut command = place.command("setpriv");
    let user = USER.to_string();
    command.args(["--reuid", &user, "--regid", &user, "--groups", GROUP, "--"]);
    command.arg(support::safe_run()).args(words);
    if let Some(helper) = helper {
        command.env("SAFE_RUN_HELPER", helper);
    }
    Ok(command)
}

fn run(place: &Place, words: &[&str]) -> Result<Ran, End> {
    let words = [&["run", "--quiet"], words].concat();
    Ok(end(command(place, Some(AS_ROOT), &words)?, b"", LIMIT))
}

fn nothing_left(place: &Place) -> Test {
    let until = Instant::now() + slow(LIMIT);
    loop {
        let mut left: Vec<String> = Vec::new();
        for dir in parents().into_iter().flatten() {
            let users = fs::read_dir(dir)?.flatten().map(|e| e.path());
            left.extend(users.filter(|p| p.is_dir()).map(|p| p.display().to_string()));
        }
        let slots = fs::read_dir("/run/safe-run-helper").into_iter().flatten().flatten();
        let slots = slots.filter_map(|e| e.file_name().into_string().ok());
        left.extend(slots.filter(|name| !name.ends_with(".lock")));
        if left.is_empty() {
            return place.nothing_left();
        }
        ensure!(Instant::now() < until, "left behind: {left:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// A run that goes on, its supervisor and its helper.
struct Running {
    process: std::process::Child,
    supervisor: Pid,
    helper: Pid,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(place: &Place, words: &[&str]) -> Result<Running, End> {
    start_in(place, None, words)
}

fn start_in(place: &Place, delegated: Option<&Delegated>, words: &[&str]) -> Result<Running, End> {
    let words = [&["run", "--quiet"], words].concat();
    let mut command = command(place, Some(AS_ROOT), &words)?;
    if let Some(delegated) = delegated {
        command = delegated.within(&command);
    }
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut out = process.stdout.take().expect("a pipe");
    let said = std::io::Read::read(&mut out, &mut [0; 64])?;
    // sh and setpriv become safe-run.
    let supervisor = Pid::from_child(&process);
    let number = supervisor.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{number}/task/{number}/children"))?;
    let mut running = Running {
        process,
        supervisor,
        helper: supervisor,
    };
    ensure!(said > 0, "the run ended before its program said something");
    let helper = children
        .split_whitespace()
        .find(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(HELPER)));
    match helper.and_then(|pid| Pid::from_raw(pid.parse().ok()?)) {
        Some(helper) => running.helper = helper,
        None => return support::fail(format!("no helper among {children}")),
    }
    Ok(running)
}

fn obligation(report: &Value, clause: &str) -> Value {
    let all = report["obligations"].as_array().expect("obligations");
    all.iter()
        .find(|o| o["clause"] == clause)
        .cloned()
        .unwrap_or(Value::Null)
}

fn gives_limits_of_the_kernel(place: &Place) -> Test {
    scene()?;
    let policy = place.root().join("policy.yaml");
    let text = "apiVersion: safe-run/v1\nmetadata: {name: kernel}\nextends: standard\n\
        runtime: {command: /bin/true, args: []}\nmounts: []\n\
        resources: {cpu: all, memory: 128MiB, pids: 40, disk: 16MiB, strength: kernel}\n";
    fs::write(&policy, text)?;
    let policy = policy.to_str().expect("UTF-8");
    // Without a helper the same is refused, or there are control groups of the user's own.
    let alone = end(
        command(place, None, &["run", "--quiet", "--policy", policy])?,
        b"",
        LIMIT,
    );
    if alone.status == 0 {
        return support::skip("an ordinary user has control groups of his own here");
    }
    alone.ended(125)?;
    ensure!(alone.err.contains("SR-RUN-001"), "{alone}");
    let script = "cat /proc/self/cgroup; sleep 0.2";
    let ran = run(place, &["--policy", policy, "--", "sh", "-c", script])?;
    ran.ok()?;
    let report = place.report();
    for (name, value) in [("memory", "134217728"), ("pids", "40")] {
        let found = obligation(&report, &format!("resources.{name}"));
        let by = found["mechanism"]
            .as_str()
            .is_some_and(|m| m.ends_with(", by safe-run-helper"));
        ensure!(
            by && found["strength"] == "kernel" && found["enforced"] == true,
            "{found}"
        );
        let held = report["posture"]
            .as_array()
            .expect("a posture")
            .iter()
            .any(|line| line["control"] == name && line["requested"] == value && line["holds"] == true);
        ensure!(held, "{name}: {}", report["posture"]);
    }
    // Where none is asked the ceiling holds.
    let cpu = obligation(&report, "resources.cpu");
    ensure!(cpu["strength"] == "kernel", "{cpu}");
    ensure!(report["host"]["cgroup"]["helper"]["cpu"] == 4000, "{}", report["host"]);
    let member = report["posture"]
        .as_array()
        .expect("a posture")
        .iter()
        .any(|line| line["mechanism"] == "moved by safe-run-helper" && line["holds"] == true);
    ensure!(member, "{}", report["posture"]);
    ensure!(report["peaks"]["memoryBytes"].as_u64() > Some(0), "{}", report["peaks"]);
    nothing_left(place)
}

/// What the user has stays the user's own where each controller has a hierarchy of its own.
fn completes_what_is_missing(place: &Place) -> Test {
    let delegated = Delegated::new()?;
    let policy = place.root().join("policy.yaml");
    let text = "apiVersion: safe-run/v1\nmetadata: {name: kernel}\nextends: standard\n\
        runtime: {command: /bin/true, args: []}\nmounts: []\n\
        resources: {cpu: 1.5, memory: 128MiB, pids: 40, disk: 16MiB, strength: kernel}\n";
    fs::write(&policy, text)?;
    let words = ["run", "--quiet", "--policy", policy.to_str().expect("UTF-8")];
    // Alone the user can have all but one.
    let alone = end(delegated.within(&command(place, None, &words)?), b"", LIMIT);
    alone.ended(125)?;
    ensure!(
        alone.err.contains("resources.cpu") && !alone.err.contains("resources.pids"),
        "{alone}"
    );
    let script = "sleep 0.2";
    let words = [&words[..], &["--", "sh", "-c", script]].concat();
    end(delegated.within(&command(place, Some(AS_ROOT), &words)?), b"", LIMIT).ok()?;
    let report = place.report();
    let by_helper = match delegated.version {
        2 => vec!["memory", "cpu", "pids"],
        _ => vec!["cpu"],
    };
    for (name, value) in [("memory", "134217728"), ("cpu", "150000"), ("pids", "40")] {
        let found = obligation(&report, &format!("resources.{name}"));
        let helped = found["mechanism"]
            .as_str()
            .is_some_and(|m| m.ends_with(", by safe-run-helper"));
        ensure!(
            helped == by_helper.contains(&name) && found["strength"] == "kernel" && found["enforced"] == true,
            "{found}"
        );
        let held = report["posture"].as_array().expect("a posture").iter().any(|line| {
            let requested = line["requested"].as_str().unwrap_or_default();
            line["control"] == name && requested.split(' ').next() == Some(value) && line["holds"] == true
        });
        ensure!(held, "{name}: {}", report["posture"]);
    }
    let named = report["host"]["cgroup"]["helper"].as_object().expect("ceilings");
    let mut named: Vec<&str> = named.keys().map(String::as_str).collect();
    let mut expected = by_helper.clone();
    named.sort_unstable();
    expected.sort_unstable();
    ensure!(named == expected, "{named:?}");
    ensure!(report["peaks"]["memoryBytes"].as_u64() > Some(0), "{}", report["peaks"]);
    ensure!(report["peaks"]["cpuMicros"].as_u64() > Some(0), "{}", report["peaks"]);
    ensure!(delegated.groups().is_empty(), "left behind: {:?}", delegated.groups());
    nothing_left(place)
}

/// A helper that would be no start is not started where the policy limits nothing that the user lacks.
fn is_not_asked_in_vain(place: &Place) -> Test {
    let delegated = Delegated::new()?;
    let policy = place.root().join("policy.yaml");
    let text = |cpu| {
        format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: kernel}}\nextends: standard\n\
             runtime: {{command: /bin/true, args: []}}\nmounts: []\n\
             resources: {{cpu: {cpu}, memory: 128MiB, pids: 40, disk: 16MiB, strength: kernel}}\n"
        )
    };
    let words = ["run", "--quiet", "--policy", policy.to_str().expect("UTF-8")];
    let ran = |cpu| {
        fs::write(&policy, text(cpu))?;
        let command = command(place, Some("/bin/false"), &words)?;
        Ok::<_, End>(end(delegated.within(&command), b"", LIMIT))
    };
    ran("all")?.ok()?;
    let report = place.report();
    ensure!(
        report["host"]["cgroup"]["helper"].is_null(),
        "{}",
        report["host"]["cgroup"]
    );
    ensure!(
        obligation(&report, "resources.pids")["strength"] == "kernel",
        "{report}"
    );
    ran("1")?.ended(125)?;
    nothing_left(place)
}

/// Two who clean up: the helper what is its, `gc` what is the user's.
fn beside_groups_of_the_users_own(place: &Place) -> Test {
    let delegated = Delegated::new()?;
    let words = [
        "--pids",
        "40",
        "--",
        "sh",
        "-c",
        "sleep 600 & echo up; wait",
        &place.mark(),
    ];
    for kill_supervisor in [true, false] {
        let mut running = start_in(place, Some(&delegated), &words)?;
        ensure!(
            delegated.groups().is_empty() == (delegated.version == 2),
            "{:?}",
            delegated.groups()
        );
        let victim = match kill_supervisor {
            true => running.supervisor,
            false => running.helper,
        };
        kill_process(victim, Signal::KILL)?;
        let status = running.process.wait()?;
        match kill_supervisor {
            true => end(delegated.within(&command(place, None, &["gc"])?), b"", LIMIT).ok()?,
            false => {
                ensure!(status.code() == Some(125), "{status}");
                let again = command(place, Some(AS_ROOT), &["run", "--quiet", "--", "true"])?;
                end(delegated.within(&again), b"", LIMIT).ok()?;
            }
        }
        ensure!(delegated.groups().is_empty(), "left behind: {:?}", delegated.groups());
        nothing_left(place)?;
    }
    Ok(())
}

fn out_of_memory(place: &Place) -> Test {
    scene()?;
    needs(place, "python3")?;
    let script = "x = bytearray(160 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1";
    run(place, &["--memory", "1GiB", "--", "/usr/bin/python3", "-c", script])?.ok()?;
    let ran = run(place, &["--memory", "64MiB", "--", "/usr/bin/python3", "-c", script])?;
    ran.ended(137)?;
    let report = place.report();
    let result = &report["result"];
    ensure!(
        result["cause"] == "memory" && result["limitsHit"] == json!(["resources.memory"]),
        "{result}"
    );
    ensure!(
        report["peaks"]["memoryBytes"].as_u64() <= Some(64 << 20),
        "{}",
        report["peaks"]
    );
    nothing_left(place)
}

fn out_of_processes(place: &Place) -> Test {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; sleep 600";
    let ran = run(place, &["--pids", "8", "--timeout", "20s", "--", "sh", "-c", script])?;
    ensure!(ran.status != 0 && ran.status != 124, "{ran}");
    let report = place.report();
    ensure!(
        report["result"]["limitsHit"] == json!(["resources.pids"]),
        "{}",
        report["result"]
    );
    nothing_left(place)
}

fn refuses_more_than_its_ceilings(place: &Place) -> Test {
    let ran = run(place, &["--memory", "64GiB", "--", "true"])?;
    ran.ended(125)?;
    ensure!(
        ran.err.contains("SR-RUN-001") && ran.err.contains("resources.memory") && ran.err.contains("helper.toml"),
        "{ran}"
    );
    nothing_left(place)
}

fn does_not_serve(place: &Place) -> Test {
    let of = |helper: &str| Ok::<_, End>(end(command(place, Some(helper), &["run", "--", "true"])?, b"", LIMIT));
    for (helper, word) in [
        ("/bin/false", "is gone"),
        ("/no/such/file", "cannot be started"),
        ("/usr/libexec/safe-run/safe-run-helper", "must be started as root"),
        ("safe-run-helper", "no absolute path"),
    ] {
        let ran = of(helper)?;
        ran.ended(125)?;
        ensure!(
            ran.err.contains("SR-RUN-001") && ran.err.contains(word),
            "{helper}: {ran}"
        );
    }
    // Root's own runs have no use for one.
    let root = place
        .safe_run(&["run", "--quiet", "--no-sign", "--", "true"])
        .env("SAFE_RUN_HELPER", "/bin/false")
        .status()?;
    ensure!(root.success(), "{root}");
    nothing_left(place)
}

fn killed_ends_the_run(place: &Place) -> Test {
    let mut running = start(place, &["--", "sh", "-c", "sleep 600 & echo up; wait", &place.mark()])?;
    kill_process(running.helper, Signal::KILL)?;
    let status = running.process.wait()?;
    ensure!(status.code() == Some(125), "{status}");
    let message = place.report()["result"]["message"].clone();
    ensure!(
        message.as_str().is_some_and(|m| m.contains("safe-run-helper")),
        "{message}"
    );
    // The next run's helper finishes what that one left.
    run(place, &["--", "true"])?.ok()?;
    nothing_left(place)
}

fn outlives_a_killed_supervisor(place: &Place) -> Test {
    let mut running = start(place, &["--", "sh", "-c", "sleep 600 & echo up; wait", &place.mark()])?;
    kill_process(running.supervisor, Signal::KILL)?;
    running.process.wait()?;
    // The supervisor's own journal is its user's to finish.
    end(command(place, None, &["gc"])?, b"", LIMIT).ok()?;
    nothing_left(place)
}

/// What the directories of a run's group hold, each once.
fn members() -> Vec<Vec<String>> {
    let mut dirs: Vec<PathBuf> = parents().into_iter().flatten().collect();
    dirs.dedup();
    let groups = dirs.iter().flat_map(|dir| {
        fs::read_dir(dir.join(format!("user-{USER}")))
            .into_iter()
            .flatten()
            .flatten()
    });
    groups
        .filter_map(|group| fs::read_to_string(group.path().join("cgroup.procs")).ok())
        .map(|text| text.lines().map(str::to_owned).collect())
        .collect()
}

fn cancel(mut running: Running) -> Test {
    kill_process(running.supervisor, Signal::TERM)?;
    running.process.wait()?;
    Ok(())
}

fn groups_are_joined(place: &Place) -> Test {
    let running = start(
        place,
        &[
            "--pids",
            "12",
            "--",
            "sh",
            "-c",
            "sleep 600 & echo up; wait",
            &place.mark(),
        ],
    )?;
    let before = members();
    ensure!(
        !before.is_empty() && before.iter().all(|group| *group == before[0]),
        "{before:?}"
    );
    let exec = |words: &[&str]| command(place, Some(AS_ROOT), &[&["exec", "last", "--"], words].concat());
    // While it runs it is where the program is.
    let mut guest = exec(&["sh", "-c", "echo on; read end"])?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = [0; 3];
    std::io::Read::read_exact(guest.stdout.as_mut().expect("a pipe"), &mut said)?;
    let with_guest = members();
    let grown = with_guest.iter().zip(&before).all(|(now, then)| now.len() > then.len());
    ensure!(
        grown && with_guest.len() == before.len(),
        "{before:?} became {with_guest:?}"
    );
    // Its helper is gone by then.
    let helpers = |of: u32| fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let its = helpers(guest.id());
    let own = its
        .split_whitespace()
        .filter(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(HELPER)));
    ensure!(own.count() == 0, "a helper is left: {its}");
    drop(guest.stdin.take());
    ensure!(guest.wait()?.code() == Some(1), "read ended otherwise");
    // One limit counts both.
    let crowd = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done";
    let ran = end(exec(&["sh", "-c", crowd])?, b"", LIMIT);
    ensure!(ran.status != 0 && ran.err.contains("ork"), "{ran}");
    cancel(running)?;
    let report = place.report();
    ensure!(
        report["result"]["limitsHit"] == json!(["resources.pids"]),
        "{}",
        report["result"]
    );
    let seen = place.events("exec.started");
    ensure!(seen.len() == 2, "{seen:?}");
    for event in seen {
        let held = event["data"]["posture"]
            .as_array()
            .expect("a posture")
            .iter()
            .any(|line| line["mechanism"] == "moved by safe-run-helper" && line["holds"] == true);
        ensure!(held, "{event}");
    }
    nothing_left(place)
}

fn groups_are_joined_beside_the_users_own(place: &Place) -> Test {
    let delegated = Delegated::new()?;
    let running = start_in(
        place,
        Some(&delegated),
        &["--", "sh", "-c", "sleep 600 & echo up; wait", &place.mark()],
    )?;
    let exec = command(
        place,
        Some(AS_ROOT),
        &["exec", "last", "--", "sh", "-c", "sleep 0.1; echo joined"],
    )?;
    // From anywhere in version 1; in version 2 nothing is the user's own.
    let ran = end(delegated.within(&exec), b"", LIMIT);
    ran.ok()?;
    ensure!(ran.out == "joined\n", "{ran}");
    let outside = end(exec, b"", LIMIT);
    outside.ok()?;
    cancel(running)?;
    ensure!(
        place.events("exec.started").len() == 2,
        "{:?}",
        place.events("exec.started")
    );
    ensure!(delegated.groups().is_empty(), "left behind: {:?}", delegated.groups());
    nothing_left(place)
}

fn groups_are_not_joined_without_one(place: &Place) -> Test {
    needs(place, "python3")?;
    let running = start(place, &["--", "sh", "-c", "sleep 600 & echo up; wait", &place.mark()])?;
    let before = members();
    for (helper, word) in [
        (None, "none is named"),
        (Some("/bin/false"), "is gone"),
        // It says yes to anybody, and moves nobody: the supervisor looks by itself.
        (Some("/run/yes"), "cgroup"),
    ] {
        let said = r#"{"version":1,"say":{"ready":{"memory":{"version":1,"parent":"/x"},"cpu":{"version":1,"parent":"/x"},"pids":{"version":1,"parent":"/x"},"ceilings":{"memory":1,"cpu":1,"pids":1}}}}"#;
        let yes = format!(
            "#!/usr/bin/python3\nimport socket\ns = socket.socket(fileno=0)\ns.send(b'{said}')\ns.recv(4096)\n\
             s.send(b'{{\"version\":1,\"say\":\"done\"}}')\ns.recv(4096)\n"
        );
        fs::write("/run/yes", yes)?;
        fs::set_permissions("/run/yes", fs::Permissions::from_mode(0o755))?;
        let ran = end(command(place, helper, &["exec", "last", "--", "true"])?, b"", LIMIT);
        ran.ended(125)?;
        ensure!(ran.err.contains(word), "{helper:?}: {ran}");
        ensure!(members() == before, "{helper:?}: {before:?} became {:?}", members());
    }
    let let_in = place.events("exec.started");
    ensure!(let_in.is_empty(), "{let_in:?}");
    cancel(running)?;
    nothing_left(place)
}

/// Who joins is killed at random moments, and the run's own helper, supervisor and groups stay as they are.
fn joins_leave_nothing(place: &Place) -> Test {
    let running = start(place, &["--", "sh", "-c", "sleep 600 & echo up; wait", &place.mark()])?;
    let before = members();
    for round in 0..24u64 {
        let mut guest = command(place, Some(AS_ROOT), &["exec", "last", "--", "sleep", "600"])?
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(round * 3));
        guest.kill()?;
        guest.wait()?;
    }
    let until = Instant::now() + slow(LIMIT);
    while members() != before {
        ensure!(Instant::now() < until, "{before:?} became {:?}", members());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let slots = || {
        let names = fs::read_dir("/run/safe-run-helper").into_iter().flatten().flatten();
        names
            .filter(|e| !e.file_name().to_string_lossy().ends_with(".lock"))
            .count()
    };
    while slots() != 1 {
        ensure!(Instant::now() < until, "{} helpers", slots());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    end(
        command(place, Some(AS_ROOT), &["exec", "last", "--", "true"])?,
        b"",
        LIMIT,
    )
    .ok()?;
    cancel(running)?;
    nothing_left(place)
}

const DISK: &str = "/run/disk";
const PROJECTS: std::ops::RangeInclusive<u32> = 1_000_000..=1_000_099;

/// A file system with project quotas, and on it the run store of `place`, which is `owner`'s. `files`: the ceiling.
struct Quotas<'a> {
    place: &'a Place,
}

impl<'a> Quotas<'a> {
    fn new(place: &'a Place, owner: u32, files: u32) -> Result<Quotas<'a>, End> {
        static MADE: OnceLock<Result<(), String>> = OnceLock::new();
        scene()?;
        needs(place, "mkfs.ext4")?;
        MADE.get_or_init(|| {
            let image = fs::File::create("/run/disk.img").expect("a file");
            image.set_len(256 << 20).expect("its size");
            fs::create_dir(DISK).expect("a directory");
            for words in [
                &["mkfs.ext4", "-q", "-O", "quota,project", "-I", "256", "/run/disk.img"][..],
                &["mount", "-o", "loop,prjquota", "/run/disk.img", DISK],
            ] {
                let ran = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
                if !ran.status.success() {
                    let said = String::from_utf8_lossy(&ran.stderr);
                    let first = said.lines().next().unwrap_or_default();
                    return Err(format!("no file system with project quotas here: {first}"));
                }
            }
            Ok(())
        })
        .clone()
        .or_else(support::skip)?;
        let rules = fs::read_to_string("/etc/safe-run/helper.toml")?;
        let mut disk = documented("toml\n# Project quotas");
        for (what, with) in [("\"/home\"", format!("{DISK:?}")), ("1065535", "1000099".into())] {
            disk = match disk.rfind(what) {
                Some(at) => format!("{}{with}{}", &disk[..at], &disk[at + what.len()..]),
                None => return support::fail(format!("no {what} in {disk}")),
            };
        }
        let line = disk
            .lines()
            .find(|line| line.starts_with("files"))
            .expect("a line")
            .to_owned();
        let disk = disk.replace(&line, &format!("files = {files}"));
        let rules = rules.split("[disk]").next().expect("a part").to_owned();
        fs::write("/etc/safe-run/helper.toml", format!("{rules}{disk}"))?;
        let on_disk = Path::new(DISK).join(place.mark());
        for dir in [&on_disk, &place.store] {
            fs::create_dir(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
            chown(dir, Some(owner), Some(owner))?;
        }
        let quotas = Quotas { place };
        let status = Command::new("mount")
            .arg("--bind")
            .arg(&on_disk)
            .arg(&place.store)
            .status()?;
        ensure!(status.success(), "mount --bind");
        Ok(quotas)
    }

    /// The projects that have limits.
    fn limited(&self) -> Result<Vec<u32>, End> {
        let disk = fs::File::open(DISK)?;
        let mut found = Vec::new();
        for id in PROJECTS {
            let held = sr_kernel::quota::read(std::os::fd::AsFd::as_fd(&disk), id)?;
            if held.most_bytes != 0 || held.most_inodes != 0 {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// No limit, and of the run only what it captured.
    fn nothing_left(&self) -> Test {
        nothing_left(self.place)?;
        ensure!(self.limited()?.is_empty(), "limits are left: {:?}", self.limited()?);
        for run in self.place.runs() {
            ensure!(
                !run.join("layers/scratch").exists(),
                "{} has its scratch directories",
                run.display()
            );
        }
        Ok(())
    }
}

impl Drop for Quotas<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.place.store).status();
        let _ = fs::remove_dir_all(Path::new(DISK).join(self.place.mark()));
        let rules = fs::read_to_string("/etc/safe-run/helper.toml").unwrap_or_default();
        let _ = fs::write(
            "/etc/safe-run/helper.toml",
            rules.split("[disk]").next().unwrap_or_default(),
        );
    }
}

/// More on disk than in memory: the layers are kept in the store.
fn disk_policy(place: &Place, disk: &str, strength: &str) -> Result<String, End> {
    let policy = place.root().join("policy.yaml");
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: disk}}\nextends: standard\nruntime: {{command: /bin/true, args: []}}\n\
         mounts: [{{source: ., captured: true}}]\n\
         resources: {{cpu: 1, memory: 40MiB, pids: 40, disk: {disk}, strength: {strength}}}\n"
    );
    fs::write(&policy, text)?;
    Ok(policy.to_str().expect("UTF-8").to_owned())
}

/// Fills the captured directory and then others, and says what came of each.
const FILL: &str = "for f in one two /tmp/three /dev/shm/four; do \
    if dd if=/dev/zero of=$f bs=256k count=100 2>/tmp/said; then echo whole; else grep -o 'quota exceeded' /tmp/said || echo no word; fi; \
    done; ls -ln one two /tmp/three; echo end";

/// Nested, and closed to their owner: they are removed by a supervisor that has confined itself.
const NESTED: &str = "mkdir -p /tmp/a/b/c /tmp/a/d /dev/shm/e/f; echo x > /tmp/a/b/c/x; chmod 0 /tmp/a/b; ";

/// No process of a user namespace changes a project, or lets what it makes have none.
const OWN_PROJECT: &str = "import errno, fcntl, os, struct\n\
    for path in ('.', '/tmp', 'own', '/tmp/own'):\n\
    \x20 if path.endswith('own'): open(path, 'w').close()\n\
    \x20 fd = os.open(path, os.O_RDONLY)\n\
    \x20 for flags, project in ((0x200, 0), (0, 0), (0, 1000001), (0x200, 1000001)):\n\
    \x20   try:\n\
    \x20     fcntl.ioctl(fd, 0x401c5820, struct.pack('IIIII8x', flags, 0, 0, project, 0))\n\
    \x20     print(path, flags, project, 'done')\n\
    \x20   except OSError as e: print(path, errno.errorcode[e.errno])\n";

fn kernels_limit_on_disk(place: &Place, by_root: bool) -> Test {
    let quotas = Quotas::new(place, if by_root { 0 } else { USER }, 5000)?;
    let policy = disk_policy(place, "44MiB", "any")?;
    let script = format!("{NESTED}{FILL}");
    let words = [
        "run",
        "--quiet",
        "--no-sign",
        "--policy",
        &policy,
        "--",
        "sh",
        "-c",
        &script,
    ];
    let started = match by_root {
        true => {
            let mut roots = place.safe_run(&words);
            roots.env("SAFE_RUN_HELPER", HELPER);
            roots
        }
        false => command(place, Some(AS_ROOT), &words)?,
    };
    let ran = end(started, b"", LIMIT);
    // One that stays full for long is ended.
    ensure!(ran.status == 0 || place.report()["result"]["cause"] == "disk", "{ran}");
    let said: Vec<&str> = ran.out.lines().take(4).collect();
    // The note of what dd said may have no room itself.
    ensure!(
        said[0] == "whole" && said[1..].iter().all(|word| *word != "whole"),
        "{ran}"
    );
    let report = place.report();
    let found = obligation(&report, "resources.disk");
    let by = found["mechanism"]
        .as_str()
        .is_some_and(|m| m.starts_with("project quota of that size, 5000 files"));
    ensure!(
        by && found["strength"] == "kernel" && found["enforced"] == true,
        "{found}"
    );
    let lines: Vec<Value> = report["posture"].as_array().expect("a posture").clone();
    let of_quota = lines
        .iter()
        .filter(|line| line["requested"] == "46137344 bytes, 5000 files");
    // The folder, the captured directory, /tmp and /dev/shm.
    ensure!(of_quota.clone().count() == 4, "{}", report["posture"]);
    ensure!(
        of_quota.clone().all(|line| line["holds"] == true),
        "{}",
        report["posture"]
    );
    ensure!(
        report["peaks"]["diskBytes"]
            .as_u64()
            .is_some_and(|n| (25 << 20..=44 << 20).contains(&n)),
        "{}",
        report["peaks"]
    );
    ensure!(report["changes"]["added"] == 2, "{}", report["changes"]);
    quotas.nothing_left()?;
    // What it left is charged until it is discarded, and the next run has another project of its own.
    let disk = fs::File::open(DISK)?;
    let charged = |id| sr_kernel::quota::read(std::os::fd::AsFd::as_fd(&disk), id);
    ensure!(charged(1_000_000)?.bytes > 25 << 20, "{:?}", charged(1_000_000));
    let discard = ["discard", "last"];
    let discards = match by_root {
        true => place.safe_run(&discard),
        false => command(place, None, &discard)?,
    };
    end(discards, b"", LIMIT).ok()?;
    ensure!(charged(1_000_000)?.inodes == 0, "{:?}", charged(1_000_000));
    Ok(())
}

fn keeps_the_program_in_its_project(place: &Place) -> Test {
    let quotas = Quotas::new(place, USER, 5000)?;
    needs(place, "python3")?;
    let policy = disk_policy(place, "44MiB", "any")?;
    let ran = run(
        place,
        &["--policy", &policy, "--", "/usr/bin/python3", "-c", OWN_PROJECT],
    )?;
    ran.ok()?;
    ensure!(ran.out.lines().count() == 16 && !ran.out.contains("done"), "{ran}");
    // The same is the caller's to do outside.
    let own = place.root().join("runs/own");
    fs::create_dir(&own)?;
    sr_kernel::quota::assign(std::os::fd::AsFd::as_fd(&fs::File::open(&own)?), 7)?;
    fs::remove_dir(&own)?;
    quotas.nothing_left()
}

/// A helper that says yes and does nothing: the supervisor asks the kernel.
fn is_not_believed_on_disk(place: &Place) -> Test {
    let quotas = Quotas::new(place, 0, 5000)?;
    needs(place, "python3")?;
    let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(DISK)?);
    let at = r#"{"version":2,"parent":"/x"}"#;
    let ready = format!(
        r#"{{"version":1,"say":{{"ready":{{"memory":{at},"cpu":{at},"pids":{at},"ceilings":{{"memory":1,"cpu":1,"pids":1}},"disk":{{"devices":[{device}],"bytes":1000000000,"files":5000}}}}}}}}"#
    );
    let yes = format!(
        "#!/usr/bin/python3\nimport socket\ns = socket.socket(fileno=0)\ns.send(b'{ready}')\n\
         while s.recv(4096): s.send(b'{{\"version\":1,\"say\":\"done\"}}')\n"
    );
    fs::write("/run/yes", yes)?;
    fs::set_permissions("/run/yes", fs::Permissions::from_mode(0o755))?;
    let policy = disk_policy(place, "44MiB", "any")?;
    let mut order = place.safe_run(&["run", "--policy", &policy, "--", "true"]);
    order.env("SAFE_RUN_HELPER", "/run/yes");
    let ran = end(order, b"", LIMIT);
    ran.ended(125)?;
    ensure!(
        ran.err.contains("SR-RUN-002") && ran.err.contains("launch.posture.disk"),
        "{ran}"
    );
    quotas.nothing_left()
}

fn holds_the_limit_on_disk(place: &Place) -> Test {
    kernels_limit_on_disk(place, false)
}

/// The supervisor gives up what it would take to remove the limit: it has a helper for it, too.
fn holds_roots_limit_on_disk(place: &Place) -> Test {
    kernels_limit_on_disk(place, true)
}

fn holds_the_number_of_files(place: &Place) -> Test {
    let quotas = Quotas::new(place, USER, 100)?;
    // As much as no disk here has, which only a quota lets a policy ask for with this strength.
    let policy = disk_policy(place, "1TiB", "kernel")?;
    let refused = run(place, &["--policy", &policy, "--", "true"])?;
    ensure!(refused.status == 125 && refused.err.contains("[disk]"), "{refused}");
    let rules = fs::read_to_string("/etc/safe-run/helper.toml")?;
    let line = rules.lines().find(|line| line.starts_with("bytes")).expect("a line");
    fs::write("/etc/safe-run/helper.toml", rules.replace(line, "bytes = \"4TiB\""))?;
    let script = "n=0; while [ $n -lt 200 ] && mkdir $n 2>/tmp/said; do n=$((n+1)); done; echo $n; \
                  cat /tmp/said; mkdir /tmp/x || echo none there";
    let ran = run(place, &["--policy", &policy, "--", "sh", "-c", script])?;
    ran.ok()?;
    let mut lines = ran.out.lines();
    let made = lines.next().and_then(|n| n.parse::<u32>().ok());
    ensure!(made.is_some_and(|n| (50..100).contains(&n)), "{ran}");
    ensure!(
        ran.out.ends_with("none there\n") && ran.err.contains("quota exceeded"),
        "{ran}"
    );
    let report = place.report();
    ensure!(
        obligation(&report, "resources.disk")["strength"] == "kernel",
        "{report}"
    );
    quotas.nothing_left()
}

fn killed_leaves_no_project(place: &Place) -> Test {
    let quotas = Quotas::new(place, USER, 5000)?;
    let policy = disk_policy(place, "100MiB", "any")?;
    let script = "echo x > /tmp/x; mkdir -p /tmp/a/b; chmod 0 /tmp/a; echo up; sleep 600";
    let words = ["--policy", &policy, "--", "sh", "-c", script, &place.mark()];
    for kill_supervisor in [true, false] {
        let mut running = start(place, &words)?;
        let limited = quotas.limited()?;
        ensure!(limited.len() == 1, "{limited:?}");
        let scratch = place.last_run().join("layers/scratch/0");
        ensure!(scratch.exists(), "no {}", scratch.display());
        match kill_supervisor {
            true => kill_process(running.supervisor, Signal::KILL)?,
            false => kill_process(running.helper, Signal::KILL)?,
        }
        let status = running.process.wait()?;
        match kill_supervisor {
            true => {
                end(command(place, None, &["gc"])?, b"", LIMIT).ok()?;
            }
            false => {
                ensure!(status.code() == Some(125), "{status}");
                ensure!(quotas.limited()? == limited, "the limit holds on");
                run(place, &["--", "true"])?.ok()?;
            }
        }
        quotas.nothing_left()?;
    }
    Ok(())
}

/// What a session captured before counts for nobody: its limit is sampled, and said to be.
fn limits_no_sessions(place: &Place) -> Test {
    let quotas = Quotas::new(place, USER, 5000)?;
    let policy = disk_policy(place, "100MiB", "any")?;
    run(
        place,
        &["--session", "s", "--policy", &policy, "--", "sh", "-c", "echo x > x"],
    )?
    .ok()?;
    let found = obligation(&place.report(), "resources.disk");
    ensure!(found["strength"] == "sampled", "{found}");
    // And what memory holds is no project's either.
    let small = disk_policy(place, "16MiB", "kernel")?;
    run(place, &["--policy", &small, "--", "sh", "-c", "echo x > x"])?.ok()?;
    let found = obligation(&place.report(), "resources.disk");
    ensure!(
        found["mechanism"].as_str().is_some_and(|m| m.starts_with("tmpfs")),
        "{found}"
    );
    quotas.nothing_left()
}

/// As OPERATIONS.md says, word by word.
fn started_by_sudo(place: &Place) -> Test {
    scene()?;
    needs(place, "sudo")?;
    let rules = Path::new("/etc/sudoers.d/safe-run");
    fs::write(rules, documented("sudoers"))?;
    fs::set_permissions(rules, fs::Permissions::from_mode(0o440))?;
    let mut check = place.command("visudo");
    check.args(["-c", "-f", "/etc/sudoers.d/safe-run"]);
    end(check, b"", LIMIT).ok()?;
    let operator = documented("yaml\n# /etc/safe-run/host.yaml, with the helper");
    fs::write("/etc/safe-run/host.yaml", operator)?;
    // Not in the group yet.
    let before = end(command(place, None, &["run", "--", "true"])?, b"", LIMIT);
    let groups = join_the_group()?;
    let ran = end(command(place, None, &["run", "--quiet", "--", "true"])?, b"", LIMIT);
    fs::write("/etc/group", groups)?;
    fs::remove_file("/etc/safe-run/host.yaml")?;
    before.ended(125)?;
    ensure!(
        before.err.contains("SR-RUN-001") && before.err.contains("sudo"),
        "{before}"
    );
    ran.ok()?;
    let report = place.report();
    ensure!(
        obligation(&report, "resources.memory")["strength"] == "kernel",
        "{report}"
    );
    // Nothing else may be asked for, and no argument be given.
    let user = USER.to_string();
    for words in [&[HELPER, "--help"][..], &["/bin/true"]] {
        let mut sudo = place.command("setpriv");
        sudo.args(["--reuid", &user, "--regid", &user, "--groups", GROUP, "sudo", "-n"])
            .args(words);
        ensure!(end(sudo, b"", LIMIT).err.contains("password is required"), "{words:?}");
    }
    nothing_left(place)
}

/// Puts the user into the group; what the list said before.
fn join_the_group() -> Result<String, End> {
    let groups = fs::read_to_string("/etc/group")?;
    // Whoever has that number here.
    let others = groups.lines().filter(|line| line.split(':').nth(2) != Some(GROUP));
    let others: String = others.map(|line| format!("{line}\n")).collect();
    fs::write("/etc/group", format!("{others}safe-run:x:{GROUP}:nobody\n"))?;
    Ok(groups)
}

/// A daemon of the scene's own, ended with this value.
struct Daemon {
    process: std::process::Child,
    _out: std::io::BufReader<std::process::ChildStdout>,
}

impl Daemon {
    /// It is ready when it has written a line with `word`.
    fn start(place: &Place, words: &[&str], word: &str) -> Result<Daemon, End> {
        let mut command = place.command(words[0]);
        command.args(&words[1..]).current_dir("/").stdin(Stdio::null());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = std::io::BufReader::new(process.stdout.take().expect("a pipe"));
        let mut daemon = Daemon { process, _out: out };
        let mut said = String::new();
        while !said.contains(word) {
            said.clear();
            let length = std::io::BufRead::read_line(&mut daemon._out, &mut said)?;
            ensure!(length > 0, "{words:?} ended before it said {word:?}");
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As OPERATIONS.md says, word by word, with a bus and a polkit of the scene's own.
fn started_by_polkit(place: &Place) -> Test {
    scene()?;
    for program in ["pkexec", "dbus-daemon"] {
        needs(place, program)?;
    }
    let polkitd = ["/usr/lib/polkit-1/polkitd", "/usr/libexec/polkitd"];
    let Some(polkitd) = polkitd.into_iter().find(|path| Path::new(path).exists()) else {
        return support::skip("polkitd is not installed");
    };
    let rules = Path::new("/etc/polkit-1/rules.d/50-safe-run.rules");
    fs::write(rules, documented("js"))?;
    fs::set_permissions(rules, fs::Permissions::from_mode(0o644))?;
    let operator = documented("yaml\n# /etc/safe-run/host.yaml, with the helper by polkit");
    fs::write("/etc/safe-run/host.yaml", operator)?;
    fs::create_dir_all("/run/dbus")?;
    let bus = [
        "dbus-daemon",
        "--system",
        "--nofork",
        "--nopidfile",
        "--nosyslog",
        "--print-address=1",
    ];
    let bus = Daemon::start(place, &bus, "/run/dbus/system_bus_socket")?;
    let polkit = Daemon::start(place, &[polkitd], "Acquired the name org.freedesktop.PolicyKit1")?;
    // Who may is asked of the list of groups: the process's own say nothing.
    let before = end(command(place, None, &["run", "--", "true"])?, b"", LIMIT);
    let groups = join_the_group()?;
    let ran = end(command(place, None, &["run", "--quiet", "--", "true"])?, b"", LIMIT);
    let pkexec = |user: u32, words: &[&str]| {
        let mut pkexec = place.command("setpriv");
        let user = user.to_string();
        pkexec.args([
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "env",
            "-u",
            "SHELL",
        ]);
        pkexec.args(["pkexec", "--disable-internal-agent"]).args(words);
        end(pkexec, b"", LIMIT)
    };
    // It is reached, and serves nobody but Safe-Run.
    let reached = pkexec(USER, &[HELPER]);
    let others = [
        ("another user", pkexec(1, &[HELPER]), "Not authorized"),
        (
            "an argument",
            pkexec(USER, &[HELPER, "--help"]),
            "No authentication agent found",
        ),
        (
            "another program",
            pkexec(USER, &["/bin/true"]),
            "No authentication agent found",
        ),
        (
            "as another user",
            pkexec(USER, &["--user", "daemon", HELPER]),
            "No authentication agent found",
        ),
    ];
    fs::write("/etc/group", groups)?;
    drop(polkit);
    drop(bus);
    fs::remove_file("/etc/safe-run/host.yaml")?;
    before.ended(125)?;
    for word in ["SR-RUN-001 launch.preflight.helper", "Not authorized", "OPERATIONS.md"] {
        ensure!(before.err.contains(word), "{word:?} is not said: {before}");
    }
    ran.ok()?;
    let report = place.report();
    for limit in ["resources.memory", "resources.pids", "resources.cpu"] {
        ensure!(obligation(&report, limit)["strength"] == "kernel", "{limit}: {report}");
    }
    ensure!(reached.err.contains("not a socket of Safe-Run's"), "{reached}");
    for (what, ran, word) in others {
        ensure!(ran.status == 127 && ran.err.contains(word), "{what}: {ran}");
    }
    nothing_left(place)
}

fn unit_is_one_of_systemds(place: &Place) -> Test {
    scene()?;
    needs(place, "systemd-analyze")?;
    let unit = place.root().join("safe-run-helper.service");
    fs::write(&unit, documented("ini\n[Unit]"))?;
    let mut verify = place.command("systemd-analyze");
    verify.arg("verify").arg(&unit);
    let ran = end(verify, b"", LIMIT);
    ran.ok()?;
    // What it does not know it says, and goes on.
    ensure!(ran.err.is_empty(), "{ran}");
    Ok(())
}

/// The group that systemd makes for the unit, what the unit does in it, and the file of rules as OPERATIONS.md has it.
fn below_the_units_group(place: &Place) -> Test {
    scene()?;
    if std::env::var_os("SAFE_RUN_TEST_RIG").is_none() {
        return support::skip("only on the rig: SAFE_RUN_TEST_RIG is not set");
    }
    let top = Path::new("/sys/fs/cgroup");
    let unit = top.join("system.slice/safe-run-helper.service");
    fs::create_dir_all(&unit)?;
    for dir in [top, &top.join("system.slice")] {
        fs::write(dir.join("cgroup.subtree_control"), "+memory +cpu +pids")?;
    }
    let text = documented("ini\n[Unit]");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/bin/sh -ec "))
        .expect("a line");
    // systemd starts it in the unit's group.
    let script = format!("echo 0 > {}/cgroup.procs; exec sh -ec {line}", unit.display());
    let mut holder = Command::new("sh").args(["-ec", &script]).spawn()?;
    let until = Instant::now() + slow(LIMIT);
    while !fs::read_to_string(unit.join("cgroup.subtree_control"))?.contains("pids") {
        ensure!(
            Instant::now() < until && holder.try_wait()?.is_none(),
            "the unit's command failed"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let rules = fs::read("/etc/safe-run/helper.toml")?;
    fs::write("/etc/safe-run/helper.toml", documented("toml"))?;
    let ran = run(place, &["--", "sh", "-c", "cat /proc/self/cgroup; sleep 0.1"]);
    fs::write("/etc/safe-run/helper.toml", rules)?;
    holder.kill()?;
    holder.wait()?;
    ran?.ok()?;
    let parent = place.report()["host"]["cgroup"]["pids"]["parent"].clone();
    ensure!(parent == format!("{}/runs/user-{USER}", unit.display()), "{parent}");
    for dir in [unit.join("runs"), unit.join("holder"), unit] {
        fs::remove_dir(&dir).or_else(|e| support::fail(format!("{}: {e}", dir.display())))?;
    }
    nothing_left(place)
}
