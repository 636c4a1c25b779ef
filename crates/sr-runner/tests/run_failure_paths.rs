//! Every way a run can go wrong: the cause, the exit status, and that nothing is left alive.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Stdio;
use std::time::Duration;
use support::{LIMIT, Place, Ran, Test, end, is_root, needs, skip};

fn main() {
    support::main(&[
        ("a_fault_at_the_exec_stop", a_fault_at_the_exec_stop),
        ("memory", memory),
        ("fork_bomb", fork_bomb),
        ("timeout_of_a_daemon_that_holds_stdout", timeout_of_a_daemon),
        ("timeout_of_a_stopped_program", timeout_of_a_stopped_program),
        ("timeout_of_an_endless_loop", timeout_of_an_endless_loop),
        ("output_kills_under_strict", output_kills_under_strict),
        ("output_is_cut_under_standard", output_is_cut_under_standard),
        ("disk_bytes", disk_bytes),
        ("disk_inodes", disk_inodes),
        ("what_cannot_be_started", what_cannot_be_started),
        ("a_mount_source_that_is_missing", a_mount_source_that_is_missing),
        ("a_store_that_cannot_be_written", a_store_that_cannot_be_written),
        ("a_store_that_is_full", a_store_that_is_full),
        ("a_killed_supervisor", a_killed_supervisor),
        ("a_caller_that_stops_reading", a_caller_that_stops_reading),
    ]);
}

/// The run ended by the limit on `cause`, and nothing of it lives.
fn ended_by(place: &Place, ran: &Ran, status: i32, cause: &str) -> Test {
    ran.ended(status)?;
    let result = &place.report()["result"];
    ensure!(result["cause"] == cause, "wanted cause {cause}: {result}\n{ran}");
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

/// The key is loaded while the program is held at its exec. A held program that is given up once kept its init, and
/// with it the supervisor, from ending.
fn a_fault_at_the_exec_stop(place: &Place) -> Test {
    use std::os::unix::fs::PermissionsExt;
    place.run(&["--", "true"]).ok()?;
    fs::set_permissions(place.keys.join("default.key"), fs::Permissions::from_mode(0o755))?;
    let ran = place.run(&["--", "sh", "-c", "echo started"]);
    ran.ended(125)?;
    ensure!(ran.err.contains("evidence.key") && ran.out.is_empty(), "{ran}");
    place.nothing_left()
}

fn memory(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "x = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): x[i] = 1";
    let ran = place.run(&["--memory", "64MB", "--timeout", "20s", "--", "python3", "-c", script]);
    // Without a control group the allocation itself may be refused: then the program ends by its own error.
    if ran.status == 1 && ran.err.contains("MemoryError") && !is_root() {
        return place.nothing_left();
    }
    ended_by(place, &ran, 137, "memory")
}

fn fork_bomb(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import os\nwhile True:\n try: os.fork()\n except OSError: pass";
    let ran = place.run(&[
        "--pids",
        "64",
        "--timeout",
        "20s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 137, "pids")
}

fn timeout_of_a_daemon(place: &Place) -> Test {
    let mark = place.mark();
    let script = "(setsid sh -c 'sleep 60' $0 &) ; sleep 60";
    let ran = place.run(&["--timeout", "1s", "--", "sh", "-c", script, &mark]);
    ensure!(ran.took < Duration::from_secs(6), "{ran}");
    ended_by(place, &ran, 124, "timeout")
}

fn timeout_of_a_stopped_program(place: &Place) -> Test {
    let ran = place.run(&["--timeout", "1s", "--", "sh", "-c", "kill -STOP $$", &place.mark()]);
    ended_by(place, &ran, 124, "timeout")
}

fn timeout_of_an_endless_loop(place: &Place) -> Test {
    let script = "trap '' TERM INT HUP; while :; do :; done";
    let ran = place.run(&["--timeout", "1s", "--", "sh", "-c", script, &place.mark()]);
    ended_by(place, &ran, 124, "timeout")
}

fn output_kills_under_strict(place: &Place) -> Test {
    let ran = place.run(&["--policy", "strict", "--", "sh", "-c", "yes", &place.mark()]);
    ensure!(ran.out.len() <= 4 << 20, "{} bytes came through", ran.out.len());
    ended_by(place, &ran, 137, "output")
}

fn output_is_cut_under_standard(place: &Place) -> Test {
    for program in ["yes | head -c 40000000", "head -c 40000000 /dev/zero"] {
        let ran = place.run(&["--output", "1MiB", "--", "sh", "-c", program]);
        ensure!(ran.out.len() <= 1 << 20, "{} bytes came through", ran.out.len());
        ended_by(place, &ran, 0, "exit")?;
        let report = place.report();
        ensure!(
            report["outputs"]["stdout"]["dropped"].as_u64() > Some(30_000_000),
            "{}",
            report["outputs"]
        );
        ensure!(
            report["result"]["limitsHit"].to_string().contains("resources.output"),
            "{}",
            report["result"]
        );
    }
    Ok(())
}

fn disk_bytes(place: &Place) -> Test {
    let script = "while :; do head -c 1000000 /dev/zero >> big 2>/dev/null; done";
    let ran = place.run(&[
        "--disk",
        "16MiB",
        "--timeout",
        "20s",
        "--",
        "sh",
        "-c",
        script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 137, "disk")
}

fn disk_inodes(place: &Place) -> Test {
    let script = "i=0; while :; do i=$((i+1)); : > /tmp/f$i; done 2>/dev/null";
    let script = format!("({script}); while :; do : ; ({script}); done");
    let ran = place.run(&[
        "--disk",
        "8MiB",
        "--timeout",
        "25s",
        "--",
        "bash",
        "-c",
        &script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 137, "disk")
}

fn what_cannot_be_started(place: &Place) -> Test {
    place.write("plain", "no program");
    place.write("orphan", "#!/no/such/interpreter\n");
    let mut chmod = place.command("chmod");
    chmod.args(["755", "orphan"]);
    end(chmod, b"", LIMIT).ok()?;
    for words in [
        ["no-such-command-here"],
        ["./plain"],
        ["./orphan"],
        ["./missing"],
        ["/"],
    ] {
        let ran = place.run(&[&["--"][..], &words[..]].concat());
        ensure!(ran.status == 125 && ran.err.contains("SR-RUN-00"), "{words:?}: {ran}");
        place.nothing_left()?;
    }
    Ok(())
}

fn a_mount_source_that_is_missing(place: &Place) -> Test {
    let ran = place.run(&["--mount", "./not-there:/data", "--", "touch", "started"]);
    ensure!(ran.status == 125 && ran.err.contains("not-there"), "{ran}");
    place.nothing_left()
}

fn a_store_that_cannot_be_written(place: &Place) -> Test {
    fs::write(&place.store, "a file where the store should be")?;
    let ran = place.run(&["--mount", ".:/out:rw", "--", "touch", "/out/started"]);
    ensure!(ran.status == 125 && ran.err.contains("SR-"), "{ran}");
    ensure!(!place.project.join("started").exists(), "the program was started");
    Ok(())
}

fn a_store_that_is_full(place: &Place) -> Test {
    if !is_root() {
        return skip("not started by root: no file system of its own can be mounted");
    }
    fs::create_dir(&place.store)?;
    let script = "mount -t tmpfs -o size=16k,mode=700 tmpfs \"$1\" && head -c 1000000 /dev/zero > \"$1/fill\" 2>/dev/null; \
                  shift; exec \"$@\"";
    let mut command = place.command("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-c", script, "sh"])
        .arg(&place.store);
    command
        .arg(support::safe_run())
        .args(["run", "--", "sh", "-c", "echo started"]);
    let ran = end(command, b"", LIMIT);
    ensure!(ran.status == 125 && !ran.out.contains("started"), "{ran}");
    ensure!(
        ran.err.contains("SR-RUN-001") || ran.err.contains("SR-EVD-001"),
        "{ran}"
    );
    place.nothing_left()
}

fn a_killed_supervisor(place: &Place) -> Test {
    let mark = place.mark();
    for millis in [0, 2, 5, 8, 12, 16, 25, 60, 300] {
        let mut child = place
            .safe_run(&["run", "--", "sh", "-c", "(setsid sleep 50 $0 &); sleep 50", &mark])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(millis));
        child.kill()?;
        child.wait()?;
        std::thread::sleep(Duration::from_millis(100));
        place.tell(&["gc"]).ok()?;
        if let Err(why) = place.nothing_left() {
            return support::fail(format!("killed after {millis} ms: {why:?}"));
        }
    }
    for run in place.runs() {
        if !run.join("events.jsonl").exists() {
            continue;
        }
        let run = run.to_str().expect("UTF-8");
        let ran = place.tell(&["report", "verify", run]);
        ensure!(
            ran.status == 3 && format!("{}{}", ran.out, ran.err).contains("incomplete"),
            "{run}: {ran}"
        );
    }
    Ok(())
}

fn a_caller_that_stops_reading(place: &Place) -> Test {
    let mut command = place.command("sh");
    command.args(["-c", "\"$1\" run --timeout 10s -- yes \"$2\" | head -1", "sh"]);
    command.arg(support::safe_run()).arg(place.mark());
    let ran = end(command, b"", LIMIT);
    ensure!(ran.status == 0 && ran.out.lines().count() == 1 && !ran.over, "{ran}");
    ensure!(
        ran.took < Duration::from_secs(5),
        "it went on after its reader had gone: {ran}"
    );
    place.nothing_left()
}
