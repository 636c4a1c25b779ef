//! Every way a run can go wrong: the cause, the exit status, how strongly the limit was held, and that nothing is left
//! alive.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Stdio;
use std::time::Duration;
use support::{LIMIT, Place, Ran, Test, end, is_root, needs, slow};

fn main() {
    support::main(&[
        ("a_fault_at_the_exec_stop", a_fault_at_the_exec_stop),
        ("memory", memory),
        ("memory_of_many_processes", memory_of_many_processes),
        ("memory_a_process", memory_a_process),
        ("fork_bomb", fork_bomb),
        ("threads_without_end", threads_without_end),
        ("pids_met_once_is_no_cause", pids_met_once_is_no_cause),
        ("daemon_that_outlives_the_program", daemon_that_outlives_the_program),
        ("daemon_that_writes_to_the_end", daemon_that_writes_to_the_end),
        ("timeout_of_a_daemon_that_holds_stdout", timeout_of_a_daemon),
        ("timeout_of_a_stopped_program", timeout_of_a_stopped_program),
        ("timeout_of_an_endless_loop", timeout_of_an_endless_loop),
        ("output_kills_under_strict", output_kills_under_strict),
        ("output_is_cut_under_standard", output_is_cut_under_standard),
        ("disk_bytes", disk_bytes),
        ("disk_bytes_in_shared_memory", disk_bytes_in_shared_memory),
        ("disk_that_ends_the_program", disk_that_ends_the_program),
        ("disk_inodes", disk_inodes),
        ("disk_in_the_store", disk_in_the_store),
        ("signals_taken_for_limits", signals_taken_for_limits),
        ("what_cannot_be_started", what_cannot_be_started),
        ("a_mount_source_that_is_missing", a_mount_source_that_is_missing),
        ("a_store_that_cannot_be_written", a_store_that_cannot_be_written),
        ("a_store_that_is_read_only", a_store_that_is_read_only),
        ("a_store_that_is_full", a_store_that_is_full),
        ("a_store_that_fills_up", a_store_that_fills_up),
        ("a_killed_supervisor", a_killed_supervisor),
        ("a_caller_that_stops_reading", a_caller_that_stops_reading),
    ]);
}

/// How the report says that the limit on `name` was held: by a control group where this host gives the caller one, as
/// it must give it to root; else as `otherwise` says.
fn strength(place: &Place, name: &str, otherwise: &str) -> Test {
    let report = place.report();
    let group = report["host"]["cgroup"][name].is_object();
    ensure!(group || !is_root(), "no control group for {name}: {}", report["host"]);
    let wanted = if group { "kernel" } else { otherwise };
    held(place, name, wanted)
}

fn held(place: &Place, name: &str, wanted: &str) -> Test {
    let report = place.report();
    let clause = format!("resources.{name}");
    let all = report["obligations"].as_array().expect("obligations");
    let found = all
        .iter()
        .find(|o| o["clause"] == clause.as_str())
        .expect("the obligation");
    ensure!(
        found["strength"] == wanted && found["enforced"] == true,
        "wanted {wanted}: {found}"
    );
    // Weaker than it could be: the report says why. A wall clock is never the kernel's.
    ensure!(
        found["reason"].is_string() == (wanted != "kernel" && name != "wallTime"),
        "{found}"
    );
    Ok(())
}

/// The run ended by the limit on `cause`, and nothing of it lives.
fn ended_by(place: &Place, ran: &Ran, status: i32, cause: &str) -> Test {
    ran.ended(status)?;
    let result = &place.report()["result"];
    ensure!(result["cause"] == cause, "wanted cause {cause}: {result}\n{ran}");
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

/// The key is loaded while the program comes to its exec. A held program that is given up once kept its init, and
/// with it the supervisor, from ending.
fn a_fault_at_the_exec_stop(place: &Place) -> Test {
    use std::os::unix::fs::PermissionsExt;
    place.run(&["--", "true"]).ok()?;
    fs::set_permissions(place.keys.join("default.key"), fs::Permissions::from_mode(0o755))?;
    // Before the program's process exists, and after: it is made meanwhile.
    for _ in 0..10 {
        let ran = place.run(&["--", "sh", "-c", "echo started"]);
        ran.ended(125)?;
        ensure!(ran.err.contains("evidence.key") && ran.out.is_empty(), "{ran}");
    }
    place.nothing_left()
}

fn memory(place: &Place) -> Test {
    needs(place, "python3")?;
    // Less than the address space that the backstop leaves, so that only what is used counts.
    let script = "import time\nx = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): x[i] = 1\ntime.sleep(15)";
    let ran = place.run(&[
        "--memory",
        "64MB",
        "--timeout",
        "20s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 137, "memory")?;
    ensure!(
        place.report()["result"]["limitsHit"] == serde_json::json!(["resources.memory"]),
        "{}",
        place.report()["result"]
    );
    strength(place, "memory", "sampled")
}

/// None of them has much; together they have too much, in memory of their own and shared.
fn memory_of_many_processes(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import mmap, os, time\nfor n in range(8):\n if os.fork() == 0:\n  \
                  m = mmap.mmap(-1, 16 << 20, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS if n % 2 else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n  \
                  m.write(bytes(16 << 20)); time.sleep(15); os._exit(0)\ntime.sleep(15)";
    let ran = place.run(&[
        "--memory",
        "64MiB",
        "--timeout",
        "20s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 137, "memory")?;
    // And the same below the limit is nobody's concern, though each counts all of what they share.
    let script = "import mmap, os, time\nm = mmap.mmap(-1, 24 << 20, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)\nm.write(bytes(24 << 20))\n\
                  for n in range(4):\n if os.fork() == 0:\n  [m[i] for i in range(0, 24 << 20, 4096)]; time.sleep(0.6); os._exit(0)\nfor n in range(4): os.wait()";
    let ran = place.run(&[
        "--memory",
        "96MiB",
        "--timeout",
        "20s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 0, "exit")
}

/// Demanded of each process, the limit is one on its address space: the allocation fails, and the program says how it
/// ends. Where a control group holds more than that, it is used.
fn memory_a_process(place: &Place) -> Test {
    needs(place, "python3")?;
    let policy = place.root().join("policy.yaml");
    fs::write(
        &policy,
        "apiVersion: safe-run/v1\nmetadata: {name: m}\nextends: standard\n\
         runtime: {command: /usr/bin/python3, args: [-c, \"x = bytearray(256 << 20); x[::4096] = bytes(65536)\"]}\n\
         mounts: []\nresources: {memory: 64MiB, strength: perProcess}\n",
    )?;
    let ran = place.run(&["--policy", policy.to_str().expect("UTF-8")]);
    strength(place, "memory", "perProcess")?;
    if place.report()["host"]["cgroup"]["memory"].is_object() {
        return ended_by(place, &ran, 137, "memory");
    }
    ensure!(ran.err.contains("MemoryError"), "{ran}");
    ended_by(place, &ran, 1, "exit")
}

fn fork_bomb(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import os\nwhile True:\n try: os.fork()\n except OSError: pass";
    let words = [
        "--pids",
        "64",
        "--timeout",
        "20s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ];
    let ran = place.run(&words);
    ended_by(place, &ran, 137, "pids")?;
    let peak = &place.report()["peaks"]["pids"];
    ensure!(
        peak.as_u64() <= Some(64) && peak.as_u64() > Some(32),
        "{peak} processes"
    );
    strength(place, "pids", "perProcess")
}

fn threads_without_end(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import threading, time\nwhile True:\n try: threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n except RuntimeError: pass";
    let ran = place.run(&[
        "--pids",
        "32",
        "--timeout",
        "20s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ]);
    ended_by(place, &ran, 137, "pids")?;
    ensure!(
        place.report()["peaks"]["pids"].as_u64() <= Some(32),
        "{}",
        place.report()["peaks"]
    );
    Ok(())
}

/// The limit counts processes and threads, the sandbox's init among them; a program that meets it and gives up is not
/// ended for it.
fn pids_met_once_is_no_cause(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import os, signal\nchildren = []\ntry:\n while True:\n  child = os.fork()\n  if child == 0: signal.pause()\n  children.append(child)\n\
                  except OSError as e: print(len(children), e.errno, flush=True)\n\
                  for child in children: os.kill(child, 9); os.wait()";
    for limit in [2, 3, 12] {
        let ran = place.run(&[
            "--pids",
            &limit.to_string(),
            "--",
            "python3",
            "-c",
            script,
            &place.mark(),
        ]);
        ensure!(ran.out == format!("{} 11\n", limit - 2), "limit {limit}: {ran}");
        ended_by(place, &ran, 0, "exit")?;
        strength(place, "pids", "perProcess")?;
    }
    let ran = place.run(&["--pids", "1", "--", "true"]);
    ensure!(ran.status == 125 && ran.err.contains("SR-RULE-pids-range"), "{ran}");
    Ok(())
}

/// Forked twice, in a session of its own, with the program's output open: it ends with the program.
fn daemon_that_outlives_the_program(place: &Place) -> Test {
    let script =
        "(setsid sh -c 'trap \"\" TERM HUP INT; echo up; while :; do sleep 60; done' $0 &) ; sleep 0.3; exit 5";
    let ran = place.run(&["--timeout", "20s", "--", "sh", "-c", script, &place.mark()]);
    ensure!(ran.took < slow(Duration::from_secs(6)) && ran.out == "up\n", "{ran}");
    ended_by(place, &ran, 5, "exit")
}

/// What a daemon writes while the program ends is all in the manifest, or not in the layer: `apply` compares the two.
fn daemon_that_writes_to_the_end(place: &Place) -> Test {
    let writer = "(setsid sh -c 'n=0; while :; do echo $n >> log; echo $n > f$((n % 100)); n=$((n+1)); done' $0 > /dev/null 2>&1 &); while [ ! -s log ]; do sleep 0.05; done; sleep 0.1";
    for _ in 0..5 {
        let ran = place.run(&["--timeout", "20s", "--", "sh", "-c", writer, &place.mark()]);
        ended_by(place, &ran, 0, "exit")?;
        place.tell(&["apply", "--yes"]).ok()?;
        let written = fs::read_to_string(place.project.join("log"))?.lines().count();
        ensure!(written > 0, "the daemon wrote nothing");
        fs::remove_dir_all(&place.project)?;
        fs::create_dir(&place.project)?;
    }
    Ok(())
}

fn timeout_of_a_daemon(place: &Place) -> Test {
    let mark = place.mark();
    let script = "(setsid sh -c 'echo up; sleep 60' $0 &) ; sleep 60";
    let ran = place.run(&["--timeout", "1s", "--", "sh", "-c", script, &mark]);
    ended_in_time(place, &ran)?;
    ensure!(ran.out == "up\n", "{ran}");
    held(place, "wallTime", "sampled")
}

/// The second that it had, and little more.
fn ended_in_time(place: &Place, ran: &Ran) -> Test {
    ensure!(
        (Duration::from_millis(900)..slow(Duration::from_secs(6))).contains(&ran.took),
        "{ran}"
    );
    ended_by(place, ran, 124, "timeout")
}

fn timeout_of_a_stopped_program(place: &Place) -> Test {
    let mark = place.mark();
    for script in ["kill -STOP $$", "kill -STOP 0", "sleep 50 & kill -STOP $! -1 $$"] {
        let ran = place.run(&["--timeout", "1s", "--", "sh", "-c", script, &mark]);
        ended_in_time(place, &ran)?;
    }
    Ok(())
}

fn timeout_of_an_endless_loop(place: &Place) -> Test {
    let script = "trap '' TERM INT HUP; while :; do :; done";
    let ran = place.run(&["--timeout", "1s", "--", "sh", "-c", script, &place.mark()]);
    ended_in_time(place, &ran)?;
    // Hundreds of milliseconds on an idle machine; what Safe-Run itself needs is a few.
    let cpu = &place.report()["peaks"]["cpuMicros"];
    ensure!(cpu.as_u64() >= Some(20_000), "{cpu} µs of CPU for a second's loop");
    Ok(())
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
    let words = [
        "--disk",
        "16MiB",
        "--timeout",
        "20s",
        "--",
        "sh",
        "-c",
        script,
        &place.mark(),
    ];
    let ran = place.run(&words);
    ended_by(place, &ran, 137, "disk")?;
    let peak = &place.report()["peaks"]["diskBytes"];
    ensure!(peak.as_u64() == Some(16 << 20), "{peak} bytes");
    held(place, "disk", "kernel")
}

/// What is not captured counts too.
fn disk_bytes_in_shared_memory(place: &Place) -> Test {
    let script = "head -c 6M /dev/zero > big; head -c 6M /dev/zero > /tmp/big; while :; do head -c 1000000 /dev/zero >> /dev/shm/big 2>/dev/null; done";
    let words = [
        "--disk",
        "16MiB",
        "--timeout",
        "20s",
        "--",
        "sh",
        "-c",
        script,
        &place.mark(),
    ];
    let ran = place.run(&words);
    ended_by(place, &ran, 137, "disk")
}

/// A program that ends because the disk is full has that cause and its own status; one that lives with it has not.
fn disk_that_ends_the_program(place: &Place) -> Test {
    for (then, status, cause) in [("exit 3", 3, "disk"), ("exit 0", 0, "exit")] {
        let script = format!("head -c 32M /dev/zero > big 2>/dev/null || {then}");
        let ran = place.run(&[
            "--disk",
            "8MiB",
            "--timeout",
            "20s",
            "--",
            "sh",
            "-c",
            &script,
            &place.mark(),
        ]);
        ended_by(place, &ran, status, cause)?;
        ensure!(
            place.report()["result"]["limitsHit"] == serde_json::json!(["resources.disk"]),
            "{}",
            place.report()["result"]
        );
    }
    Ok(())
}

fn disk_inodes(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = "import itertools\nfor n in itertools.count():\n try: open('f%d' % n, 'w')\n except OSError as e: assert e.errno == 28";
    let words = [
        "--disk",
        "8MiB",
        "--timeout",
        "25s",
        "--",
        "python3",
        "-c",
        script,
        &place.mark(),
    ];
    let ran = place.run(&words);
    ended_by(place, &ran, 137, "disk")?;
    held(place, "disk", "kernel")
}

/// What is larger than memory allows is kept in the store, where a walk finds it: bytes, and entries.
fn disk_in_the_store(place: &Place) -> Test {
    needs(place, "python3")?;
    let bytes = "import os\nn = 0\nwhile True:\n open('f%d' % n, 'wb').write(bytes(1 << 20)); n += 1";
    let entries = "import itertools\nfor n in itertools.count(): open('f%d' % n, 'w')";
    for script in [bytes, entries] {
        let words = [
            "--memory",
            "32MiB",
            "--disk",
            "40MiB",
            "--timeout",
            "25s",
            "--",
            "python3",
            "-c",
            script,
            &place.mark(),
        ];
        let ran = place.run(&words);
        ended_by(place, &ran, 137, "disk")?;
        held(place, "disk", "sampled")?;
        place.tell(&["discard"]).ok()?;
    }
    // One file alone is held by the kernel, also where it grows without a byte written.
    let words = ["--memory", "32MiB", "--disk", "40MiB", "--timeout", "25s", "--"];
    let one_file = |program: &str| place.run(&[&words[..], &["sh", "-c", program, &place.mark()]].concat());
    let ran = one_file("truncate -s 40M big; exec truncate -s 100M big");
    ended_by(place, &ran, 128 + 25, "disk")?;
    place.tell(&["discard"]).ok()?;
    // Where it leaves nothing, a signal of its own would look the same.
    let ran = one_file("exec truncate -s 100M big");
    ended_by(place, &ran, 128 + 25, "signal")?;
    let result = &place.report()["result"];
    ensure!(
        result["message"].as_str().is_some_and(|m| m.contains("resources.disk")) && ran.err.contains("resources.disk"),
        "{result}: {ran}"
    );
    place.tell(&["discard"]).ok()?;
    // One that is written comes to both limits together, and either may be the first to end it.
    let ran = one_file("exec head -c 100M /dev/zero > big");
    ended_by(place, &ran, if ran.status == 137 { 137 } else { 128 + 25 }, "disk")?;
    let written = fs::metadata(place.last_run().join("layers/0/upper/big"))?.len();
    ensure!(
        (30 << 20..=40 << 20).contains(&written) && (ran.status == 137 || written == 40 << 20),
        "{written} bytes: {ran}"
    );
    Ok(())
}

/// A program that sent itself SIGSYS or SIGXFSZ was reported as ended by the policy, or by the disk limit.
fn signals_taken_for_limits(place: &Place) -> Test {
    let ends = |words: &[&str], status: i32, cause: &str, said: &str| -> Test {
        let ran = place.run(words);
        ended_by(place, &ran, status, cause)?;
        let result = &place.report()["result"];
        let message = result["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains(said) && result["limitsHit"] == serde_json::json!([]),
            "{result}: {ran}"
        );
        Ok(())
    };
    ends(
        &["--", "sh", "-c", "kill -SYS $$"],
        128 + 31,
        "signal",
        "sent from inside",
    )?;
    ends(
        &["--", "sh", "-c", "kill -XFSZ $$"],
        128 + 25,
        "signal",
        "sent from inside",
    )?;
    let strict = ["--policy", "strict", "--", "/bin/sh", "-c", "kill -SYS $$"];
    ends(&strict, 128 + 31, "policy", "was sent from inside")?;
    // Neither in memory nor in the store is what was written near the limit.
    let little = [
        "--disk",
        "8MiB",
        "--",
        "sh",
        "-c",
        "head -c 7M /dev/zero > f; kill -XFSZ $$",
    ];
    ends(&little, 128 + 25, "signal", "disk limit of 8MiB")?;
    let stored = [&["--memory", "4MiB"][..], &little].concat();
    ends(&stored, 128 + 25, "signal", "disk limit of 8MiB")?;
    // A file as large as the limit is what the signal is for.
    let full = [
        "--disk",
        "8MiB",
        "--",
        "sh",
        "-c",
        "truncate -s 8M f; exec truncate -s 9M f",
    ];
    let ran = place.run(&full);
    ended_by(place, &ran, 128 + 25, "disk")?;
    ensure!(
        place.report()["result"]["limitsHit"] == serde_json::json!(["resources.disk"]),
        "{}",
        place.report()["result"]
    );
    Ok(())
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
    let ran = place.run(&["--", "echo", "started"]);
    ensure!(
        ran.status == 125 && ran.out.is_empty(),
        "the program was started: {ran}"
    );
    ensure!(ran.err.contains("SR-RUN-001") && ran.err.contains("fix: "), "{ran}");
    ensure!(fs::read(&place.store)?.starts_with(b"a file"), "the file was changed");
    place.nothing_left()
}

/// safe-run and `report verify` behind one another, where the store is what `mount` made it; what both said.
fn in_a_store(place: &Place, mount: &str, words: &str) -> Ran {
    let _ = fs::create_dir(&place.store);
    let script = format!(
        "store={:?}; {mount}\nset +e; $UNDRESS \"$@\" {words}; echo \"run $?\" >&2; \
         for d in \"$store\"/runs/*; do test -e \"$d\" || continue; $UNDRESS \"$@\" report verify \"$d\" >&2; echo \"verify $? $(grep -o '\"cause\":\"[a-z]*\"' \"$d/run_report.json\" 2>/dev/null)\" >&2; done; \
         ls -A \"$store/journal\" 2>/dev/null | sed 's/^/left: /' >&2; exit 0",
        place.store.display()
    );
    let launcher = support::in_namespaces(&script);
    let mut command = place.command(&launcher[0]);
    command.args(&launcher[1..]).arg(support::safe_run());
    end(command, b"", LIMIT)
}

fn a_store_that_is_read_only(place: &Place) -> Test {
    let mount = "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$store\"; mount -o remount,ro \"$store\"";
    let ran = in_a_store(place, mount, "run -- echo started");
    ran.ok()?;
    ensure!(
        ran.err.contains("run 125") && ran.out.is_empty(),
        "the program was started: {ran}"
    );
    ensure!(ran.err.contains("SR-RUN-001") && ran.err.contains("fix: "), "{ran}");
    place.nothing_left()
}

/// From no room at all to enough: either all of a run is there, or it was refused, and nothing passes for a whole.
fn a_store_that_is_full(place: &Place) -> Test {
    let (mut whole, mut refused) = (0, 0);
    for pages in [0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 24, 30, 64, 256] {
        let mount = format!(
            "mount -t tmpfs -o size=$((4096 * 1000)),mode=700 tmpfs \"$store\"; \
             head -c $((4096 * (1000 - {pages}))) /dev/zero > \"$store/fill\" 2>/dev/null || true"
        );
        let ran = in_a_store(place, &mount, "run -- echo started");
        ran.ok()?;
        if ran.err.contains("run 0\n") {
            whole += 1;
            ensure!(
                ran.out == "started\n" && ran.err.contains("verify 0 \"cause\":\"exit\"\n"),
                "{pages} pages: {ran}"
            );
        } else {
            refused += 1;
            ensure!(ran.err.contains("run 125\n"), "{pages} pages: {ran}");
            ensure!(
                ran.err.contains("SR-RUN-001") || ran.err.contains("SR-EVD-00"),
                "{pages} pages: {ran}"
            );
            ensure!(ran.err.contains("fix: "), "{pages} pages: no remedy: {ran}");
            ensure!(
                !ran.err.contains("verify 0 \"cause\":\"exit\"\n"),
                "{pages} pages: half a report passes for a whole: {ran}"
            );
        }
        ensure!(!ran.err.contains("left: "), "{pages} pages: a journal is left: {ran}");
        place.nothing_left()?;
    }
    ensure!(whole >= 1 && refused >= 3, "{whole} whole, {refused} refused");
    Ok(())
}

/// The store fills up while the program runs: it is ended, since what it does is no longer recorded.
fn a_store_that_fills_up(place: &Place) -> Test {
    needs(place, "python3")?;
    let mount = "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$store\"; (sleep 1; exec head -c 9M /dev/zero > \"$store/fill\" 2>/dev/null) &";
    let grow = "import time; x = []\nwhile True: x.append(bytearray(4 << 20)); time.sleep(0.1)";
    let words = format!(
        "run --timeout 20s --memory 1GiB -- python3 -c '{grow}' {}",
        place.mark()
    );
    let ran = in_a_store(place, mount, &words);
    ran.ok()?;
    ensure!(ran.err.contains("run 125\n") && ran.err.contains("SR-EVD-001"), "{ran}");
    ensure!(ran.took < slow(Duration::from_secs(12)), "it went on: {ran}");
    ensure!(
        !ran.err.contains("verify 0 \"cause\":\"exit\"\n"),
        "half a report passes for a whole: {ran}"
    );
    place.nothing_left()
}

fn a_killed_supervisor(place: &Place) -> Test {
    let mark = place.mark();
    for millis in [0, 2, 5, 8, 12, 16, 25, 60, 300] {
        let mut child = place
            .safe_run(&["run", "--", "sh", "-c", "(setsid sleep 50 $0 &); sleep 50", &mark])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(millis));
        child.kill()?;
        // An init that has not come to closing what it was born with holds the output's end, and the journal's lock.
        child.wait_with_output()?;
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
        ran.took < slow(Duration::from_secs(5)),
        "it went on after its reader had gone: {ran}"
    );
    place.nothing_left()
}
