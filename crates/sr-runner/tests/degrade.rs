//! A control that the host cannot give is never dropped silently. Each is taken away for real, from outside: by a system
//! call filter around safe-run, or in a mount or user namespace of the test's own. Beside every refusal stands the same
//! command where nothing is taken away, whose program leaves its mark: so the absence of that mark means something.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::{LIMIT, Place, Ran, Test, end, is_root, needs, sorted};

fn main() {
    support::main(&[
        ("without_landlock", without_landlock),
        ("without_ptrace", without_ptrace),
        ("without_ptrace_no_descriptor_leaks", without_ptrace_no_descriptor_leaks),
        (
            "without_ptrace_what_cannot_be_executed",
            without_ptrace_what_cannot_be_executed,
        ),
        ("without_seccomp", without_seccomp),
        ("without_clone3", without_clone3),
        ("without_the_right_to_make_devices", without_the_right_to_make_devices),
        ("without_a_place_for_what_is_kept", without_a_place_for_what_is_kept),
        ("user_namespaces_used_up", user_namespaces_used_up),
        ("no_control_groups_shown", no_control_groups_shown),
        ("control_groups_read_only", control_groups_read_only),
        ("one_control_group_missing", one_control_group_missing),
        ("limits_hold_without_control_groups", limits_hold_without_control_groups),
        (
            "what_the_kernel_takes_back_at_the_launch",
            what_the_kernel_takes_back_at_the_launch,
        ),
    ]);
}

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

/// x86_64 and aarch64; calls since Linux 5.1 have one number everywhere.
fn number(call: &str) -> u32 {
    let (x86_64, aarch64) = match call {
        "ptrace" => (101, 117),
        "capset" => (126, 91),
        "pivot_root" => (155, 41),
        "sethostname" => (170, 161),
        "swapoff" => (168, 225),
        "unshare" => (272, 97),
        "prlimit64" => (302, 261),
        "seccomp" => (317, 277),
        "execveat" => (322, 281),
        "move_mount" => (429, 429),
        "fsopen" => (430, 430),
        "clone3" => (435, 435),
        "close_range" => (436, 436),
        "mount_setattr" => (442, 442),
        "landlock_create_ruleset" => (444, 444),
        "landlock_add_rule" => (445, 445),
        "landlock_restrict_self" => (446, 446),
        other => panic!("no number for {other}"),
    };
    if cfg!(target_arch = "aarch64") { aarch64 } else { x86_64 }
}

/// Answers one system call with an errno, here and in everything below.
const FILTER: &str = "\
import ctypes, os, struct, sys
error, number = int(sys.argv[1]), int(sys.argv[2])
code = b''.join(struct.pack('<HBBI', *i) for i in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7fff0000)))
code = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack('<HxxxxxxQ', 4, ctypes.addressof(code)))
prctl = ctypes.CDLL(None).prctl
if os.geteuid() != 0: assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
";

fn filter(call: &str, errno: i32) -> support::Launcher {
    [
        "/usr/bin/python3",
        "-c",
        FILTER,
        &errno.to_string(),
        &number(call).to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// A directory that the program can write through to, and the policy that shows it.
struct Scene<'a> {
    place: &'a Place,
}

impl<'a> Scene<'a> {
    fn new(place: &'a Place) -> Result<Scene<'a>, support::End> {
        needs(place, "python3")?;
        needs(place, "setpriv")?;
        let out = place.root().join("out");
        fs::create_dir(&out)?;
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777))?;
        if is_root() {
            // A writable mount of a directory that belongs to root is refused.
            std::os::unix::fs::chown(&out, Some(4242), Some(4242))?;
        }
        Ok(Scene { place })
    }

    /// Runs a program that leaves its mark, under a policy with these clauses.
    fn run(&self, launcher: &[String], clauses: &str) -> Ran {
        self.run_preset("standard", launcher, clauses)
    }

    fn run_preset(&self, preset: &str, launcher: &[String], clauses: &str) -> Ran {
        let _ = fs::remove_file(self.mark());
        let text = format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: degrade}}\nextends: {preset}\n\
             runtime: {{command: /bin/sh, args: [-c, echo started; echo started > /out/mark]}}\n\
             mounts: [{{source: {}, target: /out, readOnly: false}}]\n{clauses}\n",
            self.place.root().join("out").display()
        );
        let policy = self.place.root().join("policy.yaml");
        fs::write(&policy, text).expect("a policy");
        let words = ["run", "--policy", policy.to_str().expect("UTF-8")];
        end(self.under(launcher, &words), b"", LIMIT)
    }

    fn under(&self, launcher: &[String], words: &[&str]) -> Command {
        match launcher {
            [] => self.place.safe_run(words),
            [program, rest @ ..] => {
                let mut command = self.place.command(program);
                command.args(rest).arg(support::safe_run()).args(words);
                command
            }
        }
    }

    fn mark(&self) -> std::path::PathBuf {
        self.place.root().join("out/mark")
    }

    /// The program ran, and the report says that exactly `degraded` was not enforced.
    fn ran(&self, ran: &Ran, degraded: &[&str]) -> Result<Value, support::End> {
        ran.ok()?;
        ensure!(ran.out == "started\n" && self.mark().exists(), "it did not run: {ran}");
        let report = self.place.report();
        let missing = of(&report, |o| o["enforced"] == false);
        ensure!(
            missing == sorted(degraded),
            "not enforced: {missing:?}, wanted {degraded:?}"
        );
        for obligation in report["obligations"].as_array().into_iter().flatten() {
            ensure!(
                obligation["enforced"] == true || obligation["reason"].is_string(),
                "no reason: {obligation}"
            );
        }
        self.place.tell(&["report", "verify"]).ok()?;
        self.place.nothing_left()?;
        Ok(report)
    }

    /// Nothing of the program ran; the refusal has its code, names `words`, and is evidence.
    fn refused(&self, ran: &Ran, code: &str, words: &[&str]) -> Test {
        ran.ended(125)?;
        ensure!(
            ran.out.is_empty() && !self.mark().exists(),
            "the program was started: {ran}"
        );
        ensure!(ran.err.contains(code), "no {code}: {ran}");
        for word in words {
            ensure!(ran.err.contains(word), "{word:?} is not said: {ran}");
        }
        ensure!(ran.err.contains("fix: "), "no remedy: {ran}");
        let report = self.place.report();
        let result = &report["result"];
        ensure!(
            result["cause"] == "supervisor" && result["status"] == 125 && result["message"].to_string().contains(code),
            "the refusal's report: {result}"
        );
        let events = fs::read_to_string(self.place.last_run().join("events.jsonl"))?;
        ensure!(
            events.contains("\"type\":\"run.refused\"") || events.contains("\"type\":\"run.failed\""),
            "no event says so: {events}"
        );
        ensure!(!events.contains("\"type\":\"run.launch\""), "it was launched: {events}");
        self.place.tell(&["report", "verify"]).ok()?;
        self.place.nothing_left()
    }
}

/// The controls of the obligations that `which` picks, sorted, each once.
fn of(report: &Value, which: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = report["obligations"].as_array().expect("obligations");
    let names = all
        .iter()
        .filter(|o| which(o))
        .map(|o| o["control"].as_str().expect("a control"));
    sorted(&names.collect::<Vec<_>>())
}

/// The recorded strength of the limit `resources.NAME`.
fn strength(report: &Value, name: &str) -> String {
    let clause = format!("resources.{name}");
    let all = report["obligations"].as_array().expect("obligations");
    let found = all.iter().find(|o| o["clause"] == clause.as_str());
    found.map_or("absent".into(), |o| o["strength"].as_str().unwrap_or("none").to_owned())
}

fn without_landlock(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    scene.ran(&scene.run(&filter("swapoff", ENOSYS), ""), &[])?;
    // Not built in, switched off at boot, forbidden by a container.
    for errno in [ENOSYS, EOPNOTSUPP, EPERM] {
        let without = filter("landlock_create_ruleset", errno);
        let ran = scene.run(&without, "");
        scene.refused(&ran, "SR-RUN-001", &["Landlock", "degrade: [landlock]"])?;
        // The permission to go without another control is none for this one.
        let ran = scene.run(&without, "degrade: [postureAtExec]");
        scene.refused(&ran, "SR-RUN-001", &["Landlock"])?;
        let report = scene.ran(&scene.run(&without, "degrade: [landlock]"), &["landlock"])?;
        ensure!(report["host"]["landlockAbi"] == 0, "{}", report["host"]);
        ensure!(
            !report["posture"].to_string().contains("landlock"),
            "a posture that cannot hold: {}",
            report["posture"]
        );
    }
    // The permission alone takes nothing away.
    scene.ran(&scene.run(&[], "degrade: [landlock, postureAtExec]"), &[])?;
    Ok(())
}

fn without_ptrace(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    for errno in [EPERM, ENOSYS] {
        let without = filter("ptrace", errno);
        let ran = scene.run(&without, "");
        scene.refused(&ran, "SR-RUN-001", &["ptrace", "degrade: [postureAtExec]"])?;
        for preset in ["standard", "strict"] {
            let ran = scene.run_preset(preset, &without, "degrade: [postureAtExec]");
            let report = scene.ran(&ran, &["postureAtExec"])?;
            let posture = report["posture"].as_array().expect("a posture");
            // The handshake comes before the exec: what can be read then is read, and what cannot is not claimed.
            ensure!(
                posture.len() > 10 && posture.iter().all(|line| line["holds"] == true),
                "{posture:?}"
            );
            ensure!(
                report["posture"].to_string().contains("not executed yet"),
                "what was executed is claimed: {posture:?}"
            );
        }
    }
    Ok(())
}

fn without_ptrace_no_descriptor_leaks(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    let policy = place.root().join("only.yaml");
    fs::write(
        &policy,
        "apiVersion: safe-run/v1\nmetadata: {name: d}\nextends: standard\nruntime: {command: /bin/true, args: []}\nmounts: []\ndegrade: [postureAtExec]\n",
    )?;
    let mut words = vec!["run", "--policy", policy.to_str().expect("UTF-8"), "--"];
    words.extend(["/bin/sh", "-c", "ls /proc/self/fd; exit 3"]);
    let ran = end(scene.under(&filter("ptrace", EPERM), &words), b"", LIMIT);
    ran.ended(3)?;
    // 3 is ls's own.
    ensure!(ran.out == "0\n1\n2\n3\n", "descriptors leaked: {ran}");
    Ok(())
}

/// Without the exec stop too, a program that never ran has no exit status.
fn without_ptrace_what_cannot_be_executed(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    let bad = place.write("bad", "\u{7f}ELF, and no more");
    fs::set_permissions(&bad, fs::Permissions::from_mode(0o755))?;
    let policy = place.root().join("only.yaml");
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: d}}\nextends: standard\nruntime: {{command: /own/bad, args: []}}\n\
         mounts: [{{source: {}, target: /own, readOnly: true}}]\ndegrade: [postureAtExec]\n",
        place.project.display()
    );
    fs::write(&policy, text)?;
    let words = ["run", "--policy", policy.to_str().expect("UTF-8")];
    for launcher in [support::Launcher::new(), filter("ptrace", EPERM)] {
        let ran = end(scene.under(&launcher, &words), b"", LIMIT);
        ensure!(
            ran.status == 125 && ran.err.contains("SR-RUN-002") && ran.err.contains("Exec format error"),
            "{ran}"
        );
        let result = &place.report()["result"];
        ensure!(
            result["cause"] == "supervisor" && result["exitCode"].is_null(),
            "{result}"
        );
        place.nothing_left()?;
    }
    // What the handshake itself needs cannot be denied.
    for name in ["sendmsg", "read"] {
        let ran = scene.run(
            &filter("ptrace", EPERM),
            &format!("degrade: [postureAtExec]\nsyscalls: {{deny: [{name}]}}"),
        );
        ensure!(
            ran.status == 125 && ran.err.contains("launch floor") && ran.err.contains("syscalls.deny[0]"),
            "{ran}"
        );
        ensure!(!scene.mark().exists(), "{ran}");
    }
    Ok(())
}

fn without_seccomp(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    for errno in [EPERM, ENOSYS] {
        let ran = scene.run(&filter("seccomp", errno), "");
        scene.refused(&ran, "SR-RUN-001", &["launch.preflight.seccomp", "seccomp filter"])?;
    }
    let ran = scene.run(&[], "degrade: [seccomp]");
    ensure!(ran.status == 125 && ran.err.contains("SR-RULE-degrade-wall"), "{ran}");
    Ok(())
}

fn without_clone3(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    for errno in [EPERM, ENOSYS] {
        let ran = scene.run(&filter("clone3", errno), "");
        scene.refused(
            &ran,
            "SR-RUN-001",
            &["launch.preflight.namespaces", "user namespace", "clone3"],
        )?;
    }
    let ran = scene.run(&[], "degrade: [userNamespace]");
    ensure!(ran.status == 125 && ran.err.contains("SR-RULE-degrade-wall"), "{ran}");
    ensure!(!scene.mark().exists(), "the program was started: {ran}");
    Ok(())
}

/// Where root may not make device nodes (in a container, say), they are the host's own, mounted: as for an ordinary user.
fn without_the_right_to_make_devices(place: &Place) -> Test {
    needs(place, "setpriv")?;
    let script = "grep -cE ' /dev/(null|zero|full|random|urandom|tty) ' /proc/self/mountinfo; \
        echo x > /dev/null && head -c 2 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
        (echo x > /dev/full) 2>/dev/null || echo full; (: > /dev/made) 2>/dev/null || echo closed; \
        mknod /tmp/null c 1 3 2>/dev/null || echo none";
    let words = ["run", "--", "sh", "-c", script];
    let works = "\n2\n3\nfull\nclosed\nnone\n";
    let ran = place.tell(&words);
    ensure!(ran.out == format!("{}{works}", if is_root() { 0 } else { 6 }), "{ran}");
    let mut command = place.command("setpriv");
    if is_root() {
        command.args(["--bounding-set=-mknod", "--inh-caps=-mknod"]);
    }
    command.arg(support::safe_run()).args(words);
    let ran = end(command, b"", LIMIT);
    ensure!(ran.out == format!("6{works}"), "{ran}");
    place.nothing_left()
}

/// Where nothing can be kept from run to run, the view's skeleton is made each time, and is the same.
fn without_a_place_for_what_is_kept(place: &Place) -> Test {
    fs::create_dir(place.project.join("sub"))?;
    for hidden in [".env", "sub/.env", "sub/.npmrc", "shown"] {
        fs::write(place.project.join(hidden), "x")?;
    }
    // A device node may be root's or nobody's, and a directory's count of links its file system's own.
    let script = "d='find / ( -path /proc -o -path /usr ) -prune -o'; \
        $d ! -type c -printf '%p %y %m %U %G %l\\n' | sort; $d -type c -printf '%p %y %m\\n' | sort; \
        find /etc -type f -exec sha256sum {} + | sort; find . -printf '%p %y %m %U %G %T@\\n' | sort; \
        ls -A . sub; stat -f -c '%f %d' /tmp; \
        echo x > /dev/null && head -c 2 /dev/zero | wc -c; grep -c 'safe-run/view-[0-9a-f]* / ro,nosuid' /proc/self/mountinfo; \
        for d in / /dev /etc /etc/ssl; do (: > $d/made) 2>/dev/null || echo closed; done";
    let words = ["run", "--quiet", "--", "sh", "-c", script];
    let end_of = |kept: u32| format!("\n2\n{kept}\nclosed\nclosed\nclosed\nclosed\n");
    // The second makes it, the third finds it.
    let said: Vec<Ran> = (0..3).map(|_| place.tell(&words)).collect();
    let common = said[0].out.strip_suffix(&end_of(0)).unwrap_or_default();
    ensure!(common.lines().count() > 50, "{}", said[0]);
    for ran in &said[1..] {
        ensure!(
            ran.out == format!("{common}{}", end_of(1)),
            "{ran}\ninstead of {common}"
        );
    }
    let folder = place.runtime.join("safe-run");
    ensure!(
        fs::read_dir(&folder)?.count() == 2,
        "one is kept, and what was asked for"
    );

    let elsewhere = place.root().join("full");
    fs::create_dir(&elsewhere)?;
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o700))?;
    fs::write(elsewhere.join("safe-run"), "in the way")?;
    let mut command = place.safe_run(&words);
    command.env("XDG_RUNTIME_DIR", &elsewhere);
    let made = end(command, b"", LIMIT);
    ensure!(made.out == format!("{common}{}", end_of(0)), "{made}");
    if !is_root() {
        let mut command = place.safe_run(&words);
        command.env_remove("XDG_RUNTIME_DIR");
        let made = end(command, b"", LIMIT);
        ensure!(made.out == format!("{common}{}", end_of(0)), "{made}");
    }
    place.nothing_left()
}

fn user_namespaces_used_up(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    // The setting is a user namespace's own: the machine's is not touched.
    let script = "echo $MOST > /proc/sys/user/max_user_namespaces; exec $UNDRESS \"$@\"";
    let launcher = |most: &str| -> support::Launcher {
        let most = format!("MOST={most}");
        let undress = "UNDRESS=setpriv --ambient-caps=-all --inh-caps=-all --bounding-set=-all";
        let undress = if is_root() { "UNDRESS=" } else { undress };
        [
            "unshare",
            "--user",
            "--map-current-user",
            "--keep-caps",
            "env",
            &most,
            undress,
            "sh",
            "-ec",
            script,
            "sh",
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let ran = scene.run(&launcher("0"), "");
    scene.refused(&ran, "SR-RUN-001", &["user namespaces", "max_user_namespaces is 0"])?;
    if !is_root() {
        scene.ran(&scene.run(&launcher("100"), ""), &[])?;
    }
    Ok(())
}

/// Hides what is mounted on the control groups' directory.
const HIDE: &str = "mount -t tmpfs -o size=64k,mode=755 tmpfs /sys/fs/cgroup";
/// What is mounted by others stays as it is for them: only this namespace's mounts change.
const READ_ONLY: &str = "for at in $(awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/self/mounts); do \
                         mount -o remount,bind,ro \"$at\"; done";

fn without_control_groups(place: &Place, launcher: &[String]) -> Test {
    let scene = Scene::new(place)?;
    let report = scene.ran(&scene.run(launcher, ""), &[])?;
    for (name, wanted) in [("cpu", "perProcess"), ("memory", "sampled"), ("pids", "perProcess")] {
        ensure!(
            strength(&report, name) == wanted,
            "{name}: {} instead of {wanted}",
            strength(&report, name)
        );
    }
    ensure!(
        report["host"]["cgroup"].to_string().matches("parent").count() == 0,
        "{}",
        report["host"]
    );
    let per_process = scene.run(launcher, "resources: {strength: perProcess}");
    let report = scene.ran(&per_process, &[])?;
    ensure!(
        strength(&report, "memory") == "perProcess",
        "{}",
        strength(&report, "memory")
    );
    let ran = scene.run(launcher, "resources: {strength: kernel}");
    let limits = [
        "resources.cpu",
        "resources.memory",
        "resources.pids",
        "degrade: [memory]",
    ];
    scene.refused(&ran, "SR-RUN-001", &limits)?;
    let ran = scene.run(launcher, "resources: {strength: kernel}\ndegrade: [cpu, pids]");
    scene.refused(&ran, "SR-RUN-001", &["resources.memory"])?;
    ensure!(!ran.err.contains("resources.pids"), "{ran}");
    let ran = scene.run(launcher, "resources: {strength: kernel}\ndegrade: [cpu, memory, pids]");
    let report = scene.ran(&ran, &["cpu", "memory", "pids"])?;
    ensure!(strength(&report, "disk") == "kernel", "{}", strength(&report, "disk"));
    Ok(())
}

fn no_control_groups_shown(place: &Place) -> Test {
    without_control_groups(place, &support::in_namespaces(HIDE))
}

fn control_groups_read_only(place: &Place) -> Test {
    without_control_groups(place, &support::in_namespaces(READ_ONLY))
}

fn one_control_group_missing(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    let cgroup = &scene.ran(&scene.run(&[], ""), &[])?["host"]["cgroup"];
    let usable = |name: &str| cgroup[name]["version"] == 1;
    if !(usable("memory") && usable("pids") && usable("cpu")) {
        return support::skip(format!("no writable v1 hierarchy for each controller here: {cgroup}"));
    }
    let hide = support::in_namespaces("mount -t tmpfs -o size=64k tmpfs \"$(dirname /sys/fs/cgroup/memory/.)\"");
    let ran = scene.run(&hide, "resources: {strength: kernel}");
    scene.refused(&ran, "SR-RUN-001", &["resources.memory", "degrade: [memory]"])?;
    ensure!(
        !ran.err.contains("resources.pids") && !ran.err.contains("resources.cpu"),
        "{ran}"
    );
    let ran = scene.run(&hide, "resources: {strength: kernel}\ndegrade: [memory]");
    let report = scene.ran(&ran, &["memory"])?;
    ensure!(
        strength(&report, "memory") == "sampled" && strength(&report, "pids") == "kernel",
        "{report}"
    );
    Ok(())
}

fn limits_hold_without_control_groups(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    let hide = support::in_namespaces(HIDE);
    let mark = place.mark();
    let run = |words: &[&str]| {
        end(
            scene.under(&hide, &[&["run", "--timeout", "20s"], words].concat()),
            b"",
            LIMIT,
        )
    };
    let eat = "import time\nx = bytearray(200 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(15)";
    let ran = run(&["--memory", "64MiB", "--", "python3", "-c", eat, &mark]);
    ran.ended(137)?;
    ensure!(
        place.report()["result"]["cause"] == "memory",
        "{}",
        place.report()["result"]
    );
    let bomb = "import os\nwhile True:\n try: os.fork()\n except OSError: pass";
    let ran = run(&["--pids", "24", "--", "python3", "-c", bomb, &mark]);
    ran.ended(137)?;
    let report = place.report();
    ensure!(report["result"]["cause"] == "pids", "{}", report["result"]);
    ensure!(
        report["peaks"]["pids"].as_u64() <= Some(26),
        "more than the limit: {}",
        report["peaks"]
    );
    let ran = run(&[
        "--cpu",
        "1",
        "--",
        "python3",
        "-c",
        "import os; print(len(os.sched_getaffinity(0)))\ntry: os.sched_setaffinity(0, range(64))\nexcept OSError as e: print(e.errno)",
    ]);
    ran.ok()?;
    ensure!(ran.out == "1\n1\n", "the affinity can be widened: {ran}");
    place.nothing_left()
}

fn what_the_kernel_takes_back_at_the_launch(place: &Place) -> Test {
    let scene = Scene::new(place)?;
    // Nothing foretells these: the step that fails ends the launch, whatever the policy lets go.
    let all = "degrade: [landlock, postureAtExec, cpu, memory, pids, disk]";
    for (call, word) in [
        ("landlock_add_rule", "Landlock"),
        ("landlock_restrict_self", "Landlock"),
        ("unshare", "network, ipc and uts namespaces"),
        ("mount_setattr", "mount"),
        ("move_mount", "mount"),
        ("fsopen", "file system"),
        ("pivot_root", ""),
        ("sethostname", ""),
        ("prlimit64", "limit"),
        ("capset", ""),
        ("close_range", ""),
        ("execveat", "execute the program"),
    ] {
        let ran = scene.run(&filter(call, EPERM), all);
        scene
            .refused(&ran, "SR-RUN-00", &[word])
            .or_else(|why| support::fail(format!("{call}: {why:?}")))?;
    }
    Ok(())
}
