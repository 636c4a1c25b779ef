//! Commands that join a running sandbox: they are where its program is, may do what it may, end when it ends; and the
//! run's chain says so. A denial has its errno and, where it is harmless, the bare host as control.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use support::{CANARY, End, LIMIT, Place, Test, end, fail, is_root, needs, skip};

fn main() {
    support::main(&[
        ("the_same_sandbox", the_same_sandbox),
        (
            "writes_are_captured_with_the_runs_own",
            writes_are_captured_with_the_runs_own,
        ),
        ("statuses_and_streams_pass", statuses_and_streams_pass),
        ("no_more_than_the_program", no_more_than_the_program),
        ("denied_calls", denied_calls),
        (
            "denied_calls_of_what_it_leaves_running",
            denied_calls_of_what_it_leaves_running,
        ),
        ("who_joins_gives_nothing_away", who_joins_gives_nothing_away),
        ("memory_is_shared_with_the_run", memory_is_shared_with_the_run),
        ("cpus_are_shared_with_the_run", cpus_are_shared_with_the_run),
        ("processes_are_shared_with_the_run", processes_are_shared_with_the_run),
        ("the_chain_tells", the_chain_tells),
        ("scripts_are_named", scripts_are_named),
        ("it_ends_with_the_run", it_ends_with_the_run),
        ("it_ends_with_who_joined", it_ends_with_who_joined),
        ("it_ends_with_the_supervisor", it_ends_with_the_supervisor),
        (
            "what_it_leaves_running_ends_with_the_run",
            what_it_leaves_running_ends_with_the_run,
        ),
        ("signals_reach_it_alone", signals_reach_it_alone),
        ("who_is_stopped_holds_nothing_up", who_is_stopped_holds_nothing_up),
        ("output_is_limited", output_is_limited),
        ("a_terminal_of_its_own", a_terminal_of_its_own),
        ("several_at_once", several_at_once),
        ("what_is_refused", what_is_refused),
        ("another_user_is_refused", another_user_is_refused),
        ("nonsense_at_the_door", nonsense_at_the_door),
        (
            "a_killed_supervisors_door_is_collected",
            a_killed_supervisors_door_is_collected,
        ),
    ]);
}

/// A program that is there to be joined.
const WAIT: [&str; 4] = ["--", "sh", "-c", "echo ready; sleep 20"];

fn soon(what: &str, mut done: impl FnMut() -> bool) -> Test {
    let until = Instant::now() + Duration::from_secs(5);
    while !done() {
        ensure!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Whether a process that carries `mark` lives, other than `safe-run` itself.
fn lives(mark: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|p| fs::read(p.path().join("cmdline")).ok())
        .any(|line| {
            let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            words.contains(&mark.as_bytes()) && words.first().is_some_and(|w| !w.ends_with(b"safe-run"))
        })
}

/// A command that has joined and runs: it has said so.
fn joined(place: &Place, mark: &str) -> Result<Child, End> {
    let mut joiner = place
        .safe_run(&["exec", "--", "sh", "-c", "echo on; sleep 30; :", mark])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut said = [0; 3];
    std::io::Read::read_exact(joiner.stdout.as_mut().expect("a pipe"), &mut said)?;
    ensure!(lives(mark), "it does not live");
    Ok(joiner)
}

fn the_same_sandbox(place: &Place) -> Test {
    let script = "echo inside > /tmp/here; hostname; id; pwd; echo $TOKEN; echo ready; sleep 20";
    let run = place.start(&["-e", "TOKEN=from-the-policy", "--", "sh", "-c", script])?;
    let script = "cat /tmp/here; pwd; echo $TOKEN; readlink /proc/1/ns/pid >/dev/null; \
                  for p in /proc/[0-9]*; do cat $p/comm; done; echo $$";
    let ran = place.tell(&["exec", "last", "--", "sh", "-c", script]);
    ran.ok()?;
    ensure!(
        ran.out.contains("inside\n") && ran.out.contains("from-the-policy\n"),
        "{ran}"
    );
    ensure!(ran.out.contains("sleep\n"), "the run's processes are not seen: {ran}");
    ensure!(
        ran.out.contains(&format!("{}\n", place.project.display())),
        "the working directory is another: {ran}"
    );
    let pid = ran.out.lines().last().and_then(|l| l.parse::<u32>().ok()).unwrap_or(0);
    ensure!((2..100).contains(&pid), "not of the run's pid namespace: {ran}");
    // Files of the host that the view lacks are lacking here too.
    let canary = place.root().join("canary");
    fs::write(&canary, CANARY)?;
    let ran = place.tell(&["exec", "--", "cat", canary.to_str().unwrap()]);
    ran.ended(1)?;
    ensure!(!ran.out.contains(CANARY) && ran.err.contains("No such file"), "{ran}");
    run.cancel()?;
    place.nothing_left()
}

/// The run may end before the command that ends it does, and takes it along.
fn ends_the_run(place: &Place, script: &str) -> Test {
    let ran = place.tell(&["exec", "--", "sh", "-c", script]);
    ensure!(ran.status == 0 || ran.err.contains("the run has ended"), "{ran}");
    Ok(())
}

fn writes_are_captured_with_the_runs_own(place: &Place) -> Test {
    let run = place.start(&[
        "--",
        "sh",
        "-c",
        "echo ready; while [ ! -e stop ]; do sleep 0.05; done; cat stop",
    ])?;
    place.tell(&["exec", "--", "sh", "-c", "echo joined > new"]).ok()?;
    ends_the_run(place, "echo go > stop")?;
    let mut run = run;
    ensure!(run.wait()? == 0, "the program did not see the file");
    ensure!(!place.project.join("new").exists(), "a captured write reached the host");
    let diff = place.tell(&["diff", "--names"]);
    ensure!(diff.out.contains("new") && diff.out.contains("stop"), "{diff}");
    place.nothing_left()
}

fn statuses_and_streams_pass(place: &Place) -> Test {
    let run = place.start(&WAIT)?;
    for status in [0, 1, 7, 124, 255] {
        place
            .tell(&["exec", "--", "sh", "-c", &format!("exit {status}")])
            .ended(status)?;
    }
    place
        .tell(&["exec", "--", "sh", "-c", "ulimit -c 0; kill -SEGV $$"])
        .ended(139)?;
    let input: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let ran = end(place.safe_run(&["exec", "--", "cat"]), input.as_bytes(), LIMIT);
    ran.ok()?;
    ensure!(ran.out == input, "{} of {} bytes came back", ran.out.len(), input.len());
    let ran = place.tell(&["exec", "--", "sh", "-c", "echo out; echo err >&2"]);
    ensure!(ran.out == "out\n" && ran.err == "err\n", "{ran}");
    run.cancel()?;
    place.nothing_left()
}

/// What the kernel shows of a process: the same for the program and for who joins it.
const SELF: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Cpus_allowed_list)' /proc/self/status; \
    for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; \
    grep -vE 'processes|pending' /proc/self/limits; ls /proc/self/fd | head -3; hostname; cat /proc/self/mountinfo; env | sort";

fn no_more_than_the_program(place: &Place) -> Test {
    let script = format!("({SELF}) > own; echo ready; sleep 20");
    let run = place.start(&["--", "sh", "-c", &script])?;
    let ran = place.tell(&[
        "exec",
        "--",
        "sh",
        "-c",
        &format!("({SELF}) > /tmp/joined; diff own /tmp/joined && cat own"),
    ]);
    ran.ok()?;
    for line in [
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
    ] {
        ensure!(ran.out.contains(line), "{line} is missing: {ran}");
    }
    run.cancel()?;
    place.nothing_left()
}

fn denied_calls(place: &Place) -> Test {
    needs(place, "python3")?;
    let payload = "import os, socket, ctypes\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def t(name, f):\n\
        \x20 try: f()\n\
        \x20 except OSError as e: print('DENIED', name, e.errno)\n\
        \x20 else: print('GOT', name)\n\
        def call(*a):\n\
        \x20 if libc.syscall(*[ctypes.c_long(x) if isinstance(x, int) else x for x in a]) < 0: raise OSError(ctypes.get_errno(), '')\n\
        t('inet', lambda: socket.socket())\n\
        t('mount', lambda: call(165, b'none', b'/tmp', b'tmpfs', 0, 0))\n\
        t('unshare', lambda: call(272, 0x10000000))\n\
        t('setns', lambda: call(308, os.open('/proc/self/ns/net', 0), 0))\n\
        t('ptrace', lambda: call(101, 16, 1, 0, 0))\n\
        t('usr', lambda: open('/usr/x', 'w'))\n\
        t('setuid', lambda: os.setuid(0))\n\
        socket.socketpair(); print('ALLOWED socketpair')\n\
        open('/tmp/x', 'w'); print('ALLOWED /tmp')\n";
    let payload = if cfg!(target_arch = "x86_64") {
        payload.to_owned()
    } else {
        payload
            .lines()
            .filter(|l| !l.contains("call(1") && !l.contains("call(2") && !l.contains("call(3"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let run = place.start(&WAIT)?;
    let ran = place.tell(&["exec", "--", "/usr/bin/python3", "-c", &payload]);
    ran.ok()?;
    ensure!(!ran.out.contains("GOT") && ran.out.contains("DENIED inet 13"), "{ran}");
    ensure!(ran.out.matches("ALLOWED").count() == 2, "no control: {ran}");
    run.cancel()?;
    let told: Vec<_> = place
        .events("operation.denied")
        .into_iter()
        .map(|e| e["data"]["operation"].clone())
        .collect();
    let all = match cfg!(target_arch = "x86_64") {
        true => vec!["socket AF_INET", "mount", "unshare", "setns", "ptrace"],
        false => vec!["socket AF_INET"],
    };
    ensure!(told == all, "{told:?}");
    place.tell(&["report", "verify", "last"]).ok()
}

/// What a command leaves running is under the same filter after the command's end, and is told of too.
fn denied_calls_of_what_it_leaves_running(place: &Place) -> Test {
    needs(place, "python3")?;
    let run = place.start(&WAIT)?;
    let payload = "import socket\n\
        try: socket.socket(socket.AF_INET6)\n\
        except OSError as e: open('/tmp/said', 'w').write(f'DENIED {e.errno}')\n";
    let script = "(sleep 0.5; python3 -c \"$1\") > /dev/null 2>&1 &";
    place.tell(&["exec", "--", "sh", "-c", script, "sh", payload]).ok()?;
    let ran = place.tell(&[
        "exec",
        "--",
        "sh",
        "-c",
        "until [ -s /tmp/said ]; do sleep 0.05; done; cat /tmp/said",
    ]);
    ran.ok()?;
    ensure!(ran.out == "DENIED 13", "{ran}");
    run.cancel()?;
    let told = place.events("operation.denied");
    ensure!(
        told.len() == 1 && told[0]["data"]["operation"] == "socket AF_INET6",
        "{told:?}"
    );
    place.nothing_left()
}

/// A hostile program looks at everything that comes into its pid namespace, as fast as it can.
fn who_joins_gives_nothing_away(place: &Place) -> Test {
    needs(place, "python3")?;
    let watcher = "import os, time, sys\n\
        print('ready', flush=True)\n\
        seen, got, until = set(), set(), time.monotonic() + 4\n\
        own = {1, os.getpid()}\n\
        while time.monotonic() < until and not os.path.exists('stop'):\n\
        \x20 for p in os.listdir('/proc'):\n\
        \x20\x20 if not p.isdigit() or int(p) in own: continue\n\
        \x20\x20 seen.add(p)\n\
        \x20\x20 for f in ('environ', 'auxv', 'maps', 'mem'):\n\
        \x20\x20\x20 try: b = open(f'/proc/{p}/{f}', 'rb').read(1 << 16)\n\
        \x20\x20\x20 except OSError: continue\n\
        \x20\x20\x20 if b'CANARY' in b: got.add(('text', f))\n\
        \x20\x20 try:\n\
        \x20\x20\x20 for fd in os.listdir(f'/proc/{p}/fd'):\n\
        \x20\x20\x20\x20 to = os.readlink(f'/proc/{p}/fd/{fd}')\n\
        \x20\x20\x20\x20 if 'safe-run-test' in to: got.add(('fd', to))\n\
        \x20\x20 except OSError: pass\n\
        \x20\x20 for f in ('cwd', 'root', 'exe'):\n\
        \x20\x20\x20 try: to = os.readlink(f'/proc/{p}/{f}')\n\
        \x20\x20\x20 except OSError: continue\n\
        \x20\x20\x20 if to.endswith('safe-run'): got.add((f, to))\n\
        open('result', 'w').write(f'{len(seen)} seen, got {sorted(got)}')\n";
    let watcher = watcher.replace("CANARY", CANARY);
    let mut run = place.start(&["--", "/usr/bin/python3", "-c", &watcher])?;
    for _ in 0..12 {
        place.tell(&["exec", "--", "true"]).ok()?;
    }
    let ran = place.tell(&[
        "exec",
        "--",
        "sh",
        "-c",
        "touch stop; while [ ! -e result ]; do sleep 0.02; done; cat result",
    ]);
    run.wait()?;
    // 137: the run ended before the command had.
    ensure!([0, 137].contains(&ran.status), "{ran}");
    place.tell(&["apply", "--yes"]).ok()?;
    let result = fs::read_to_string(place.project.join("result"))?;
    ensure!(result.ends_with("got []"), "{result}");
    ensure!(
        !result.starts_with("0 "),
        "nobody was seen, so nothing was tested: {result}"
    );
    place.nothing_left()
}

/// Four processes that each keep within the limit, and together do not: the run ends, as if they were its own.
fn memory_is_shared_with_the_run(place: &Place) -> Test {
    needs(place, "python3")?;
    let mut run = place.start(&["--memory", "200MB", "--", "sh", "-c", "echo ready; sleep 20"])?;
    let script = "for i in 1 2 3 4; do python3 -c 'import time; b = b\"x\" * 80_000_000; time.sleep(10)' & done; wait";
    let ran = place.tell(&["exec", "--", "sh", "-c", script]);
    ensure!(run.wait()? == 137, "the run's limit did not hold: {ran}");
    ensure!(ran.took < Duration::from_secs(9), "{ran}");
    let result = &place.report()["result"];
    ensure!(result["cause"] == "memory", "{result}");
    place.nothing_left()
}

/// Where CPU affinity is the limit it is the program's CPU that is shared, not one more.
fn cpus_are_shared_with_the_run(place: &Place) -> Test {
    needs(place, "taskset")?;
    const ALLOWED: &str = "grep Cpus_allowed_list /proc/self/status";
    let run = place.start(&[
        "--cpu",
        "1",
        "--",
        "sh",
        "-c",
        &format!("{ALLOWED} > own; echo ready; sleep 20"),
    ])?;
    let own = place.tell(&["exec", "--", "cat", "own"]).out;
    let bundle = fs::read_to_string(place.last_run().join("bundle.json"))?;
    let last = std::thread::available_parallelism()?.get() - 1;
    let mut command = place.command("taskset");
    command.args(["-c", &last.to_string()]).arg(support::safe_run());
    command.args(["exec", "--", "sh", "-c", ALLOWED]);
    let ran = end(command, b"", LIMIT);
    ran.ok()?;
    ensure!(
        ran.out == own || !bundle.contains("\"affinity\""),
        "the program's: {own}{ran}"
    );
    run.cancel()?;
    place.nothing_left()
}

fn processes_are_shared_with_the_run(place: &Place) -> Test {
    needs(place, "python3")?;
    let run = place.start(&[
        "--pids",
        "24",
        "--",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 20 & done; echo ready; wait",
    ])?;
    let script = "import os, time\nn = 0\ntry:\n  while n < 40:\n    if os.fork() == 0: time.sleep(1); os._exit(0)\n    n += 1\n\
                  except OSError as e: print('DENIED', e.errno, n)\nelse: print('GOT', n)\n";
    let ran = place.tell(&["exec", "--", "python3", "-c", script]);
    ran.ok()?;
    let forks = ran
        .out
        .strip_prefix("DENIED 11 ")
        .and_then(|n| n.trim().parse::<u32>().ok());
    ensure!(forks.is_some_and(|n| n < 16), "{ran}");
    run.cancel()?;
    place.nothing_left()
}

fn the_chain_tells(place: &Place) -> Test {
    let mut run = place.start(&["--", "sh", "-c", "echo ready; while [ ! -e stop ]; do sleep 0.05; done"])?;
    place.tell(&["exec", "--", "sh", "-c", "exit 3", "a", "b c"]).ended(3)?;
    // It is recorded before the command's end is passed on.
    let (started, ended) = (place.events("exec.started"), place.events("exec.ended"));
    ensure!(started.len() == 1 && ended.len() == 1, "{started:?} {ended:?}");
    let data = &started[0]["data"];
    ensure!(
        data["argv"] == serde_json::json!(["sh", "-c", "exit 3", "a", "b c"]),
        "{data}"
    );
    let path = data["executable"]["path"].as_str().unwrap_or_default();
    let digest = data["executable"]["digest"].as_str().unwrap_or_default();
    ensure!(path.starts_with('/') && digest.starts_with("sha256:"), "{data}");
    let posture = data["posture"].as_array().cloned().unwrap_or_default();
    ensure!(
        posture.len() >= 15 && posture.iter().all(|line| line["holds"] == true),
        "{data}"
    );
    ensure!(data["by"]["uid"] == rustix::process::geteuid().as_raw(), "{data}");
    ensure!(
        ended[0]["data"]["status"] == 3 && ended[0]["data"]["id"] == data["id"],
        "{ended:?}"
    );
    ends_the_run(place, "touch stop")?;
    ensure!(run.wait()? == 0, "the run");
    place.tell(&["report", "verify", "last"]).ok()?;
    // One byte of what joined is one byte of the chain.
    let path = place.last_run().join("events.jsonl");
    let text = fs::read_to_string(&path)?.replacen("exit 3", "exit 4", 1);
    fs::write(&path, text)?;
    let ran = place.tell(&["report", "verify", "last"]);
    ensure!(ran.status == 1 && !ran.over, "{ran}");
    Ok(())
}

fn scripts_are_named(place: &Place) -> Test {
    place.write("tool", "#!/bin/sh -e\necho \"$0\" \"$@\"\n");
    fs::set_permissions(place.project.join("tool"), fs::Permissions::from_mode(0o755))?;
    let run = place.start(&WAIT)?;
    let ran = place.tell(&["exec", "--", "./tool", "x y"]);
    ran.ok()?;
    ensure!(ran.out.ends_with("/tool x y\n"), "{ran}");
    let started = place.events("exec.started");
    let digest = sr_common_digest(&fs::read(place.project.join("tool"))?);
    ensure!(
        started[0]["data"]["script"]["digest"] == digest,
        "{digest}: {started:?}"
    );
    run.cancel()?;
    place.nothing_left()
}

fn sr_common_digest(bytes: &[u8]) -> String {
    sr_common::Digest::of(bytes).to_string()
}

fn it_ends_with_the_run(place: &Place) -> Test {
    let mark = place.mark();
    let mut run = place.start(&["--", "sh", "-c", "echo ready; sleep 1"])?;
    let ran = place.tell(&["exec", "--", "sh", "-c", "sleep 30", &mark]);
    ran.ended(137)?;
    ensure!(ran.err.contains("the run has ended"), "{ran}");
    ensure!(ran.took < Duration::from_secs(5), "{ran}");
    ensure!(run.wait()? == 0, "the run did not end by itself");
    let ended = place.events("exec.ended");
    ensure!(ended.len() == 1 && ended[0]["data"]["cause"] == "runEnded", "{ended:?}");
    let report = place.report();
    ensure!(
        report["result"]["cause"] == "exit" && report["complete"] == true,
        "{report}"
    );
    ensure!(
        report["durationMicros"].as_u64().unwrap_or(u64::MAX) < 5_000_000,
        "{report}"
    );
    ensure!(!lives(&mark), "the command lives");
    place.tell(&["report", "verify", "last"]).ok()?;
    place.nothing_left()
}

fn it_ends_with_who_joined(place: &Place) -> Test {
    let mark = place.mark();
    let run = place.start(&WAIT)?;
    let mut joiner = joined(place, &mark)?;
    joiner.kill()?;
    joiner.wait()?;
    soon("the command outlives who joined", || !lives(&mark))?;
    soon("its end is not recorded", || !place.events("exec.ended").is_empty())?;
    let ended = place.events("exec.ended");
    ensure!(ended[0]["data"]["cause"] == "joinerGone", "{ended:?}");
    // The run goes on.
    place.tell(&["exec", "--", "true"]).ok()?;
    run.cancel()?;
    place.nothing_left()
}

fn it_ends_with_the_supervisor(place: &Place) -> Test {
    let mark = place.mark();
    let run = place.start(&WAIT)?;
    let joiner = joined(place, &mark)?;
    run.signal(Signal::KILL)?;
    let output = joiner.wait_with_output()?;
    ensure!(output.status.code() == Some(137), "{output:?}");
    // What it had started dies with the pid namespace, which nobody waits for.
    soon("the command lives", || !lives(&mark))?;
    drop(run);
    let ran = place.tell(&["exec", "--", "true"]);
    ran.ended(125)?;
    ensure!(ran.err.contains("has ended"), "{ran}");
    place.tell(&["gc"]).ok()?;
    place.nothing_left()
}

fn what_it_leaves_running_ends_with_the_run(place: &Place) -> Test {
    let mark = place.mark();
    let run = place.start(&WAIT)?;
    let script = format!("(sleep 30; echo {mark}) & sh -c 'sleep 30; :' {mark} & echo left");
    let ran = place.tell(&["exec", "--", "sh", "-c", &script]);
    ran.ok()?;
    // It holds the pipe, and is not waited for.
    ensure!(ran.out == "left\n" && ran.took < Duration::from_secs(5), "{ran}");
    ensure!(lives(&mark), "what was left running is gone");
    run.cancel()?;
    ensure!(!lives(&mark), "it lives longer than the run");
    place.nothing_left()
}

fn signals_reach_it_alone(place: &Place) -> Test {
    let script = "trap 'echo hit > hit' INT TERM HUP; echo ready; while :; do sleep 0.1; done";
    let run = place.start(&["--", "sh", "-c", script])?;
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15)] {
        let mark = format!("{}-{number}", place.mark());
        let mut joiner = joined(place, &mark)?;
        let pid = rustix::process::Pid::from_raw(joiner.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal)?;
        let status = joiner.wait()?;
        ensure!(status.code() == Some(128 + number), "{status:?}");
    }
    let ran = place.tell(&["exec", "--", "cat", "hit"]);
    ensure!(
        ran.status == 1 && ran.err.contains("No such file"),
        "the program was signalled: {ran}"
    );
    run.signal(Signal::KILL)?;
    drop(run);
    place.tell(&["gc"]).ok()?;
    place.nothing_left()
}

/// `safe-run exec` is stopped (Ctrl-Z) once its command runs, or as soon as it can be seen, which may be while it is held
/// at its exec.
fn who_is_stopped_holds_nothing_up(place: &Place) -> Test {
    for once_it_runs in [true, false, false, false] {
        let mark = place.mark();
        let mut run = place.start(&["--", "sh", "-c", "echo ready; sleep 1.5"])?;
        let mut joiner = if once_it_runs {
            joined(place, &mark)?
        } else {
            let mut command = place.safe_run(&["exec", "--", "sh", "-c", "sleep 30; :", &mark]);
            let joiner = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
            soon("it did not start", || lives(&mark))?;
            joiner
        };
        let pid = rustix::process::Pid::from_raw(joiner.id() as i32).unwrap();
        rustix::process::kill_process(pid, Signal::STOP)?;
        let begun = Instant::now();
        let status = run.wait();
        rustix::process::kill_process(pid, Signal::CONT)?;
        let code = joiner.wait()?.code();
        ensure!(
            status? == 0 && begun.elapsed() < Duration::from_secs(5),
            "after {:?}",
            begun.elapsed()
        );
        // 125: it had not been let go.
        ensure!(code == Some(137) || (code == Some(125) && !once_it_runs), "{code:?}");
        place.tell(&["report", "verify", "last"]).ok()?;
    }
    place.nothing_left()
}

fn output_is_limited(place: &Place) -> Test {
    let run = place.start(&["--output", "64KiB", "--", "sh", "-c", "echo ready; sleep 20"])?;
    let ran = place.tell(&["exec", "--", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"]);
    ran.ok()?;
    ensure!(
        ran.out.len() == 64 * 1024 && ran.err.contains("resources.output"),
        "{} bytes: {}",
        ran.out.len(),
        ran.err
    );
    run.cancel()?;
    place.nothing_left()
}

fn a_terminal_of_its_own(place: &Place) -> Test {
    let run = place.start(&WAIT)?;
    let ran = place.tell(&[
        "exec",
        "--tty",
        "--",
        "sh",
        "-c",
        "tty && test -t 0 && test -t 1 && test -t 2 && echo yes",
    ]);
    ran.ok()?;
    ensure!(ran.out.contains("/dev/pts/") && ran.out.contains("yes"), "{ran}");
    let ran = place.tell(&["exec", "--", "sh", "-c", "test -t 0 || echo none"]);
    ensure!(ran.out == "none\n", "{ran}");
    run.cancel()?;
    place.nothing_left()
}

fn several_at_once(place: &Place) -> Test {
    let run = place.start(&WAIT)?;
    let all: Vec<_> = (0..6)
        .map(|n| {
            let script = format!("echo {n}; sleep 0.5; exit {n}");
            place
                .safe_run(&["exec", "--", "sh", "-c", &script])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<Result<_, _>>()?;
    for (n, joiner) in all.into_iter().enumerate() {
        let output = joiner.wait_with_output()?;
        ensure!(output.status.code() == Some(n as i32), "{n}: {output:?}");
        ensure!(output.stdout == format!("{n}\n").as_bytes(), "{n}: {output:?}");
    }
    ensure!(place.events("exec.ended").len() == 6, "not all are recorded");
    run.cancel()?;
    place.tell(&["report", "verify", "last"]).ok()?;
    place.nothing_left()
}

fn what_is_refused(place: &Place) -> Test {
    let ran = place.tell(&["exec", "--", "true"]);
    ensure!(ran.status == 125 && ran.err.contains("no runs yet"), "{ran}");
    place.run(&["--", "true"]).ok()?;
    let ran = place.tell(&["exec", "last", "--", "true"]);
    ensure!(ran.status == 125 && ran.err.contains("has ended"), "{ran}");
    let run = place.start(&WAIT)?;
    let ran = place.tell(&["exec", "0zzzzzzzzzz", "--", "true"]);
    ensure!(ran.status == 125 && ran.err.contains("no run"), "{ran}");
    for command in ["no-such-command", "./no-such-file", "/etc", "/etc/passwd", ""] {
        let ran = place.tell(&["exec", "--", command]);
        ensure!(
            ran.status == 125 && ran.err.contains("runtime.command"),
            "{command:?}: {ran}"
        );
    }
    // What the host has and the view has not cannot be started, whatever links lead there.
    let outside = place.root().join("outside");
    fs::write(&outside, "#!/bin/sh\necho GOT\n")?;
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755))?;
    let link = format!("ln -s {} link; mkfifo fifo; chmod 755 fifo", outside.display());
    place.tell(&["exec", "--", "sh", "-c", &link]).ok()?;
    for command in [outside.to_str().unwrap(), "./link", "./fifo", "/proc/self/exe"] {
        let ran = place.tell(&["exec", "--", command]);
        ensure!(ran.status == 125 && !ran.out.contains("GOT"), "{command:?}: {ran}");
    }
    run.cancel()?;
    place.nothing_left()
}

/// The door's folder is closed to others, and who gets there all the same is asked who he is.
fn another_user_is_refused(place: &Place) -> Test {
    const OTHER: u32 = 65534;
    if !is_root() {
        return skip("not started by root");
    }
    let binary = place.root().join("safe-run");
    fs::copy(support::safe_run(), &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    for dir in [place.root(), &place.project, &place.home] {
        chown(dir, Some(OTHER), Some(OTHER))?;
    }
    let mut command = place.command(&binary);
    command.args(["run", "--quiet"]).args(WAIT).uid(OTHER).gid(OTHER);
    let mut run = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut said = [0; 16];
    let read = std::io::Read::read(run.stdout.as_mut().unwrap(), &mut said);
    let ran = place.tell(&["exec", "--", "true"]);
    let mut same = place.command(&binary);
    same.args(["exec", "--", "true"]).uid(OTHER).gid(OTHER);
    let control = end(same, b"", LIMIT);
    run.kill()?;
    run.wait()?;
    ensure!(read? > 0, "the run did not start");
    ensure!(
        ran.status == 125 && ran.err.contains("only the user who started"),
        "{ran}"
    );
    control.ok()
}

fn door(place: &Place) -> PathBuf {
    place.last_run().join("join")
}

fn nonsense_at_the_door(place: &Place) -> Test {
    let run = place.start(&WAIT)?;
    soon("no door", || door(place).exists())?;
    let meta = fs::symlink_metadata(door(place))?;
    ensure!(
        meta.file_type().is_socket() && meta.permissions().mode() & 0o777 == 0o600,
        "{:o}",
        meta.permissions().mode()
    );
    let ready = "{\"ready\":{\"listener\":true,\"script\":null}}";
    for words in [
        "",
        "x",
        "{\"ended\":{\"status\":0}}",
        "\"go\"",
        ready,
        &"y".repeat(100_000),
    ] {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            None,
        )?;
        let Ok(address) = rustix::net::SocketAddrUnix::new(door(place)) else {
            return fail("the path is too long for this test");
        };
        rustix::net::connect(&socket, &address)?;
        // What is too long for a packet does not even leave.
        let _ = rustix::io::write(&socket, words.as_bytes());
        drop(socket);
    }
    place.tell(&["exec", "--", "true"]).ok()?;
    run.cancel()?;
    ensure!(!door(place).exists(), "the door is left");
    place.tell(&["report", "verify", "last"]).ok()?;
    place.nothing_left()
}

fn a_killed_supervisors_door_is_collected(place: &Place) -> Test {
    let run = place.start(&WAIT)?;
    soon("no door", || door(place).exists())?;
    run.signal(Signal::KILL)?;
    drop(run);
    ensure!(door(place).exists(), "nothing to collect");
    place.tell(&["gc"]).ok()?;
    ensure!(!door(place).exists(), "the door is left");
    place.nothing_left()
}
