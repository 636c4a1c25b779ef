//! Programs on gVisor's kernel, behind the native wall, with the real `runsc`: how they end, what they see, what holds them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::guest::{agent, failed, target};
use support::{End, Going, LIMIT, Place, Ran, Test, end, is_root, skip};

fn main() {
    support::main(&[
        ("gvisor_echo", echo),
        ("gvisor_exit_status_and_signals", exit_status_and_signals),
        ("gvisor_streams", streams),
        ("gvisor_signals_reach_the_program", signals_reach_the_program),
        ("gvisor_terminal", terminal),
        ("gvisor_is_another_kernel", is_another_kernel),
        ("gvisor_user_and_capabilities", user_and_capabilities),
        ("gvisor_denied_calls", denied_calls),
        ("gvisor_barriers", barriers),
        ("gvisor_the_agent_is_out_of_reach", the_agent_is_out_of_reach),
        ("gvisor_host_files_stay_away", host_files_stay_away),
        (
            "gvisor_changes_are_captured_and_applied",
            changes_are_captured_and_applied,
        ),
        ("gvisor_memory_limit", memory_limit),
        ("gvisor_pids_limit", pids_limit),
        ("gvisor_disk_limit", disk_limit),
        ("gvisor_wall_time_and_output", wall_time_and_output),
        ("gvisor_posture_is_reported", posture_is_reported),
        ("gvisor_the_host_holds_runsc", the_host_holds_runsc),
        ("gvisor_start_counts", start_counts),
        ("gvisor_nothing_left_of_a_killed_run", nothing_left_of_a_killed_run),
        ("gvisor_runsc_killed", runsc_killed),
        ("gvisor_no_runsc", no_runsc),
        ("gvisor_old_runsc", old_runsc),
        ("gvisor_runsc_that_is_none", runsc_that_is_none),
        ("gvisor_no_agent", no_agent),
        ("gvisor_what_it_cannot_give", what_it_cannot_give),
    ]);
}

/// `runsc`: the one that is named, one on PATH, or the one that was fetched for the tests.
fn runsc() -> Result<PathBuf, End> {
    if let Some(given) = std::env::var_os("SAFE_RUN_RUNSC") {
        return Ok(given.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fetched = target().join("tools/runsc/runsc");
    let mut all = std::env::split_paths(&path)
        .map(|dir| dir.join("runsc"))
        .chain([fetched]);
    match all.find(|path| path.is_file()) {
        Some(found) => Ok(found),
        None => skip("no runsc is installed, and none is in target/tools: `cargo xtask runsc` fetches it"),
    }
}

/// `safe-run run --backend gvisor WORDS`.
fn command(place: &Place, words: &[&str]) -> Result<Command, End> {
    let mut command = place.safe_run(&[&["run", "--backend", "gvisor"], words].concat());
    command.env("SAFE_RUN_RUNSC", runsc()?).env("SAFE_RUN_GUEST", agent());
    Ok(command)
}

fn run(place: &Place, words: &[&str]) -> Result<Ran, End> {
    Ok(end(command(place, words)?, b"", LIMIT))
}

fn shell(place: &Place, script: &str) -> Result<Ran, End> {
    run(place, &["--quiet", "--", "sh", "-c", script])
}

fn echo(place: &Place) -> Test {
    let ran = run(place, &["--", "echo", "hello", "there"])?;
    ran.ok()?;
    ensure!(ran.out == "hello there\n", "{ran}");
    ensure!(place.report()["backend"] == "gvisor", "{}", place.report());
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

fn exit_status_and_signals(place: &Place) -> Test {
    for status in [1, 7, 125, 255] {
        shell(place, &format!("exit {status}"))?.ended(status)?;
        let result = &place.report()["result"];
        ensure!(result["cause"] == "exit" && result["exitCode"] == status, "{result}");
    }
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11)] {
        shell(place, &format!("kill -{signal} $$; sleep 5"))?.ended(128 + number)?;
        let result = &place.report()["result"];
        ensure!(
            result["cause"] == "signal" && result["signal"] == number,
            "{signal}: {result}"
        );
    }
    place.nothing_left()
}

fn streams(place: &Place) -> Test {
    let input: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let ran = end(command(place, &["--quiet", "--", "cat"])?, input.as_bytes(), LIMIT);
    ran.ok()?;
    ensure!(ran.out == input, "{} of {} bytes came back", ran.out.len(), input.len());
    // There, and at its end, before the program is.
    let ran = end(command(place, &["--quiet", "--", "cat"])?, b"short\n", LIMIT);
    ran.ok()?;
    ensure!(ran.out == "short\n", "{ran}");
    let ran = shell(place, "echo out; echo err >&2")?;
    ran.ok()?;
    ensure!(ran.out == "out\n" && ran.err == "err\n", "{ran}");
    Ok(())
}

fn signals_reach_the_program(place: &Place) -> Test {
    let script = "trap 'exit 9' TERM; echo ready; sleep 30 & wait";
    let mut going = Going::start(command(place, &["--quiet", "--", "sh", "-c", script])?)?;
    going.signal(Signal::TERM)?;
    let status = going.wait()?;
    ensure!(status == 9, "ended with {status}");
    place.nothing_left()
}

fn terminal(place: &Place) -> Test {
    let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stty size";
    let ran = run(place, &["--tty", "--", "sh", "-c", script])?;
    ran.ok()?;
    ensure!(ran.out.contains("/dev/pts/") && ran.out.contains("all"), "{ran}");
    Ok(())
}

fn is_another_kernel(place: &Place) -> Test {
    let ran = shell(place, "uname -r; cat /proc/version")?;
    ran.ok()?;
    let host = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(!ran.out.contains(host.trim()), "the host's kernel: {ran}");
    let booted = place.events("guest.booted");
    ensure!(
        booted.len() == 1 && ran.out.starts_with(booted[0]["data"]["kernel"].as_str().unwrap_or("-")),
        "{booted:?}; {ran}"
    );
    Ok(())
}

fn user_and_capabilities(place: &Place) -> Test {
    let ran = shell(
        place,
        "id -u; id -g; id -G; grep -E '^(Cap|Seccomp)' /proc/self/status; ls /sys",
    )?;
    ran.ok()?;
    let mut lines = ran.out.lines();
    ensure!(lines.by_ref().take(3).all(|line| line == "1000"), "{ran}");
    let status: Vec<&str> = lines.collect();
    let none = "0000000000000000";
    let caps = ["CapInh", "CapPrm", "CapEff", "CapBnd"].map(|set| format!("{set}:\t{none}"));
    ensure!(status[..4] == caps && status[4..] == ["Seccomp:\t2"], "{ran}");
    Ok(())
}

fn denied_calls(place: &Place) -> Test {
    let script = "
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
def answer(number, *args):
    ctypes.set_errno(0)
    return errno.errorcode.get(ctypes.get_errno(), 'ok') if libc.syscall(number, *args) == -1 else 'ok'
print('getpid', answer(39))
print('unshare', answer(272, 0x10000000))
print('mount', answer(165, 0, 0, 0, 0, 0))
print('bpf', answer(321, 0, 0, 0))
try:
    socket.socket(socket.AF_INET)
except PermissionError as e:
    print('inet', errno.errorcode[e.errno])
socket.socketpair()
print('unix ok')
";
    place.write("calls.py", script);
    let ran = run(place, &["--quiet", "--", "python3", "calls.py"])?;
    ran.ok()?;
    let wanted = "getpid ok\nunshare EPERM\nmount EPERM\nbpf EPERM\ninet EACCES\nunix ok\n";
    ensure!(ran.out == wanted, "{ran}");
    // Nobody outside is told of them.
    ensure!(place.report()["denied"] == Value::Null, "{}", place.report()["denied"]);
    let ran = run(
        place,
        &[
            "--quiet",
            "--policy",
            "strict",
            "--",
            "python3",
            "-c",
            "import os; os.unshare(0) if hasattr(os, 'unshare') else __import__('ctypes').CDLL(None).unshare(0)",
        ],
    )?;
    ran.ended(128 + 31)
}

/// That `runsc` may register for no barriers of its own takes none from the program.
fn barriers(place: &Place) -> Test {
    let script = "import ctypes, os\n\
                  number = 324 if os.uname().machine == 'x86_64' else 283\n\
                  call = lambda command: ctypes.CDLL(None).syscall(number, command, 0, 0)\n\
                  query, register, private, everywhere = 0, 16, 8, 1\n\
                  print(call(query) & 25, call(register), call(private), call(everywhere))";
    let ran = run(place, &["--quiet", "--", "python3", "-c", script])?;
    ran.ok()?;
    ensure!(ran.out == "25 0 0 0\n", "{ran}");
    Ok(())
}

/// That kernel would let a program end the first process.
fn the_agent_is_out_of_reach(place: &Place) -> Test {
    let script = "kill -9 1 || echo refused; kill -STOP 1 || echo refused; \
                  (exec 3< /proc/1/mem) 2>/dev/null || echo closed; ls /dev/.safe-run 2>/dev/null; kill -0 $$ && echo alive";
    let ran = shell(place, script)?;
    ran.ok()?;
    ensure!(ran.out == "refused\nrefused\nclosed\nalive\n", "{ran}");
    // To all at once: to the others, and neither to itself nor to the first.
    let ran = shell(place, "sleep 30 & kill -9 -1; wait; echo alive")?;
    ran.ok()?;
    ensure!(ran.out == "alive\n", "{ran}");
    Ok(())
}

fn host_files_stay_away(place: &Place) -> Test {
    let secret = place.root().join("secret");
    fs::write(&secret, support::CANARY)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644))?;
    let script = format!(
        "cat {} /etc/shadow /proc/1/root{0} /guest{0} 2>/dev/null; ls -d /home /root /var /run /wall /guest 2>/dev/null; \
         touch /usr/x /etc/x 2>/dev/null && echo written; env | grep -c CANARY",
        secret.display()
    );
    let ran = shell(place, &script)?;
    ensure!(ran.out == "0\n", "{ran}");
    // Such a file is read where the policy shows it.
    let mount = format!("{}:/shown:ro", secret.display());
    let ran = run(place, &["--quiet", "--mount", &mount, "--", "cat", "/shown"])?;
    ran.ok()?;
    ensure!(ran.out == support::CANARY, "{ran}");
    Ok(())
}

fn changes_are_captured_and_applied(place: &Place) -> Test {
    place.write("kept.txt", "before\n");
    place.write("gone.txt", "gone\n");
    let script = "echo after > kept.txt; rm gone.txt; mkdir d; echo new > d/new; chmod 755 d/new; ln -s new d/link; \
                  id -u > owner; stat -c %u kept.txt >> owner";
    let ran = shell(place, script)?;
    ran.ok()?;
    ensure!(
        fs::read_to_string(place.project.join("kept.txt"))? == "before\n",
        "written through"
    );
    let diff = place.tell(&["diff"]);
    for line in ["gone.txt", "d/new", "+after"] {
        ensure!(diff.out.contains(line), "{line} is missing: {diff}");
    }
    place.tell(&["apply"]).ok()?;
    let read = |name: &str| fs::read_to_string(place.project.join(name));
    ensure!(
        read("kept.txt")? == "after\n" && read("d/new")? == "new\n",
        "not applied"
    );
    ensure!(read("owner")? == "1000\n1000\n", "{}", read("owner")?);
    ensure!(!place.project.join("gone.txt").exists(), "gone.txt is still there");
    let mode = fs::metadata(place.project.join("d/new"))?.permissions().mode();
    ensure!(mode & 0o777 == 0o755, "{mode:o}");
    ensure!(
        fs::read_link(place.project.join("d/link"))? == Path::new("new"),
        "no link"
    );
    Ok(())
}

fn memory_limit(place: &Place) -> Test {
    let take = |mebibytes: u32| format!("import time; x = b'x' * ({mebibytes} << 20); time.sleep(1); print(len(x))");
    let ran = run(place, &["--memory", "128MiB", "--", "python3", "-c", &take(512)])?;
    ran.ended(137)?;
    let result = &place.report()["result"];
    ensure!(result["cause"] == "memory", "{result}");
    let ran = run(place, &["--memory", "128MiB", "--", "python3", "-c", &take(64)])?;
    ran.ok()?;
    let peak = place.report()["peaks"]["memoryBytes"].as_u64();
    ensure!(peak.is_some_and(|peak| peak > 64 << 20 && peak < 128 << 20), "{peak:?}");
    place.nothing_left()
}

fn pids_limit(place: &Place) -> Test {
    let script = "import os, time\nmade = 0\ntry:\n    for _ in range(20):\n        if os.fork() == 0:\n            time.sleep(60); os._exit(0)\n        \
                  made += 1\nexcept BlockingIOError:\n    print('refused after', made)\n";
    place.write("fork.py", script);
    let ran = run(place, &["--quiet", "--pids", "6", "--", "python3", "fork.py"])?;
    ensure!(ran.out == "refused after 5\n", "{ran}");
    Ok(())
}

fn disk_limit(place: &Place) -> Test {
    let script = "head -c 30000000 /dev/zero > big 2>/dev/null; head -c 30000000 /dev/zero > /tmp/big 2>/dev/null; \
                  stat -c %s big /tmp/big";
    let ran = run(place, &["--quiet", "--disk", "8MiB", "--", "sh", "-c", script])?;
    let sizes: Vec<u64> = ran.out.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 8 << 20), "{ran}");
    Ok(())
}

fn wall_time_and_output(place: &Place) -> Test {
    run(place, &["--timeout", "1s", "--", "sleep", "30"])?.ended(124)?;
    ensure!(place.report()["result"]["cause"] == "timeout", "{}", place.report());
    let ran = run(
        place,
        &[
            "--quiet",
            "--output",
            "10KiB",
            "--",
            "head",
            "-c",
            "100000",
            "/dev/zero",
        ],
    )?;
    ensure!(ran.out.len() == 10 << 10, "{} bytes", ran.out.len());
    place.nothing_left()
}

fn posture_is_reported(place: &Place) -> Test {
    run(place, &["--", "true"])?.ok()?;
    let seen = place.events("guest.posture");
    ensure!(seen.len() == 1, "{seen:?}");
    let lines = seen[0]["data"]["posture"].as_array().expect("lines");
    ensure!(lines.iter().all(|line| line["holds"] == true), "{lines:?}");
    for control in [
        "seccomp",
        "noNewPrivileges",
        "capabilities",
        "userNamespace",
        "filesystem",
        "pids",
    ] {
        ensure!(
            lines.iter().any(|line| line["control"] == control),
            "nothing of {control}"
        );
    }
    // The agent and `runsc` are vouched for.
    let wall = place.report()["digests"]["wall"].as_array().map_or(0, Vec::len);
    ensure!(wall == 3, "{}", place.report()["digests"]);
    Ok(())
}

/// What the host's kernel shows of `runsc` and of the Sentry, while a program runs.
fn the_host_holds_runsc(place: &Place) -> Test {
    let mark = place.mark();
    let _going = Going::start(command(
        place,
        &["--quiet", "--", "sh", "-c", "echo ready; sleep 30", &mark],
    )?)?;
    let safe_run = u64::from(_going.pid());
    let mut found = Vec::new();
    for (pid, line) in descendants(safe_run) {
        let Some(kind) = ["runsc-sandbox", "runsc-gofer", "/wall/runsc"]
            .into_iter()
            .find(|kind| line.starts_with(kind))
        else {
            continue;
        };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let word = |key: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
            line.unwrap_or_default().to_owned()
        };
        ensure!(word("NoNewPrivs") == "1" && word("Seccomp") == "2", "{kind}: {status}");
        if kind == "/wall/runsc" {
            // What it is root of is a namespace of its own, whose one user is the sandbox's.
            let map = fs::read_to_string(format!("/proc/{pid}/uid_map"))?;
            let map: Vec<&str> = map.split_whitespace().collect();
            let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user"));
            let driver = word("PPid");
            ensure!(map[0] == "0" && map[2] == "1", "{kind}: {map:?}");
            ensure!(namespace(&pid.to_string())? != namespace(&driver)?, "{kind}: {status}");
            let driver = fs::read_to_string(format!("/proc/{driver}/status"))?;
            for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                ensure!(driver.contains(&format!("{set}:\t0000000000000000\n")), "{driver}");
            }
        } else {
            // A filter of its own on top of the wall's.
            ensure!(word("Seccomp_filters") == "2", "{kind}: {status}");
        }
        let uid = word("Uid");
        ensure!(
            !is_root() || !uid.starts_with("0\t"),
            "{kind} is root on the host: {uid}"
        );
        found.push(kind);
    }
    found.sort_unstable();
    found.dedup();
    ensure!(found.len() == 3, "{found:?}");
    Ok(())
}

/// What a start costs in processes and in waiting for the kernel: `runsc` does not start itself once more for a user namespace,
/// and the tables of descriptors, of the Sentry and of the gofer, are large from their beginning.
fn start_counts(place: &Place) -> Test {
    let words = ["--quiet", "--", "sh", "-c", "echo ready; sleep 30"];
    let going = Going::start(command(place, &words)?)?;
    let mut found = Vec::new();
    for (pid, line) in descendants(u64::from(going.pid())) {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        // The processes in which the program's code runs show no arguments.
        if !exe.ends_with("runsc") || line.is_empty() {
            continue;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let size = status.lines().find_map(|line| line.strip_prefix("FDSize:\t"));
        ensure!(size == Some("1024"), "{line}: {status}");
        found.push(line.split(' ').next().unwrap_or_default().to_owned());
    }
    found.sort_unstable();
    ensure!(found == ["/wall/runsc", "runsc-gofer", "runsc-sandbox"], "{found:?}");
    Ok(())
}

fn descendants(pid: u64) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        all.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            next.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u64>().ok()));
        }
    }
    all
}

fn nothing_left_of_a_killed_run(place: &Place) -> Test {
    let mark = place.mark();
    let mut going = Going::start(command(
        place,
        &["--quiet", "--", "sh", "-c", "echo ready; sleep 30", &mark],
    )?)?;
    let made = descendants(u64::from(going.pid()));
    ensure!(
        made.iter().any(|(_, line)| line.starts_with("runsc-sandbox")),
        "{made:?}"
    );
    going.signal(Signal::KILL)?;
    going.wait()?;
    place.tell(&["gc"]).ok()?;
    place.nothing_left()?;
    for (pid, line) in made.iter().filter(|(_, line)| line.contains("runsc")) {
        let now = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let now = String::from_utf8_lossy(&now).replace('\0', " ");
        ensure!(now != *line, "{line} is left");
    }
    Ok(())
}

fn runsc_killed(place: &Place) -> Test {
    let mut going = Going::start(command(place, &["--quiet", "--", "sh", "-c", "echo ready; sleep 30"])?)?;
    let all = descendants(u64::from(going.pid()));
    let sandbox = all.iter().find(|(_, line)| line.starts_with("runsc-sandbox"));
    let pid = rustix::process::Pid::from_raw(sandbox.expect("the Sentry").0 as i32).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL)?;
    let status = going.wait()?;
    ensure!(status == 125, "ended with {status}");
    place.nothing_left()
}

fn no_runsc(place: &Place) -> Test {
    let with = |name: &str, value: &Path| -> Ran {
        let mut command = place.safe_run(&["run", "--backend", "gvisor", "--", "/bin/true"]);
        command.env("SAFE_RUN_GUEST", agent()).env(name, value);
        end(command, b"", LIMIT)
    };
    let nowhere = place.root().join("nowhere");
    failed(&with("PATH", &nowhere), "launch.preflight.runsc", "no runsc on PATH")?;
    failed(&with("SAFE_RUN_RUNSC", &nowhere), "launch.preflight.runsc", "nowhere")?;
    let not_executable = place.write("runsc", "");
    failed(
        &with("SAFE_RUN_RUNSC", &not_executable),
        "launch.preflight.runsc",
        "may execute",
    )?;
    place.nothing_left()
}

fn script(place: &Place, text: &str) -> PathBuf {
    let path = place.write("bin/runsc", text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

/// It says of what it is told that it does not know it.
fn old_runsc(place: &Place) -> Test {
    let old = script(
        place,
        "#!/bin/sh\necho flag provided but not defined: -pass-fd >&2\nexit 2\n",
    );
    let mut command = place.safe_run(&["run", "--backend", "gvisor", "--", "true"]);
    command.env("SAFE_RUN_GUEST", agent()).env("SAFE_RUN_RUNSC", old);
    failed(&end(command, b"", LIMIT), "launch.preflight.runsc", "-pass-fd")?;
    place.nothing_left()
}

fn runsc_that_is_none(place: &Place) -> Test {
    let other = script(place, "#!/bin/sh\necho out of order >&2\nexit 3\n");
    let mut command = place.safe_run(&["run", "--backend", "gvisor", "--", "true"]);
    command.env("SAFE_RUN_GUEST", agent()).env("SAFE_RUN_RUNSC", other);
    failed(&end(command, b"", LIMIT), "launch.boot", "out of order")?;
    place.nothing_left()
}

fn no_agent(place: &Place) -> Test {
    let mut command = place.safe_run(&["run", "--backend", "gvisor", "--", "true"]);
    command
        .env("SAFE_RUN_RUNSC", runsc()?)
        .env("SAFE_RUN_GUEST", place.root().join("none"));
    failed(&end(command, b"", LIMIT), "launch.preflight.guest", "none")?;
    place.nothing_left()
}

fn what_it_cannot_give(place: &Place) -> Test {
    for (words, clause) in [
        ("syscalls: {onDenied: log}", "syscalls.onDenied"),
        ("files: {read: [/usr], write: []}", "files"),
        ("evidence: {denied: paths}", "evidence.denied"),
    ] {
        let policy = format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: n}}\nextends: standard\nruntime: {{args: []}}\nmounts: []\n{words}\n"
        );
        place.write("policy.yaml", &policy);
        let ran = run(place, &["--policy", "./policy.yaml", "--", "true"])?;
        ran.ended(125)?;
        ensure!(ran.err.contains(clause), "{words}: {ran}");
    }
    Ok(())
}
