//! What a person does in the first hour, done with real programs: run, look, apply, verify.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use support::{LIMIT, Place, Test, end, is_root, needs};

fn main() {
    support::main(&[
        ("echo", echo),
        ("exit_status_passes_through", exit_status_passes_through),
        ("signals_give_128_plus_n", signals_give_128_plus_n),
        ("stdin_is_piped", stdin_is_piped),
        ("streams_stay_apart", streams_stay_apart),
        ("the_callers_processors", the_callers_processors),
        (
            "few_descriptors_are_enough_to_start",
            few_descriptors_are_enough_to_start,
        ),
        (
            "the_callers_umask_and_no_blocked_signal",
            the_callers_umask_and_no_blocked_signal,
        ),
        ("python_imports_and_writes", python_imports_and_writes),
        ("gcc_builds_a_program", gcc_builds_a_program),
        ("git_clones_a_local_repository", git_clones_a_local_repository),
        (
            "git_clones_inside_a_captured_directory",
            git_clones_inside_a_captured_directory,
        ),
        ("diff_then_apply", diff_then_apply),
        ("discard_takes_a_run_away", discard_takes_a_run_away),
        ("report_is_taken_out_and_verifies", report_is_taken_out_and_verifies),
        ("one_flipped_byte_is_found", one_flipped_byte_is_found),
        ("sessions_share_a_layer", sessions_share_a_layer),
        ("strict_shows_no_directory", strict_shows_no_directory),
        ("tty_is_a_terminal", tty_is_a_terminal),
        ("a_policy_file_runs", a_policy_file_runs),
        ("the_strongest_wall_is_told_and_why", the_strongest_wall_is_told_and_why),
        ("a_wall_that_is_not_here_is_refused", a_wall_that_is_not_here_is_refused),
        (
            "nothing_is_kept_of_what_is_not_recorded",
            nothing_is_kept_of_what_is_not_recorded,
        ),
        ("what_has_no_limit_has_none", what_has_no_limit_has_none),
        ("compile_starts_nothing", compile_starts_nothing),
        ("home_is_no_working_directory", home_is_no_working_directory),
        ("exec_joins_a_run", exec_joins_a_run),
        ("environment_is_made_up", environment_is_made_up),
        ("the_program_is_no_host_user", the_program_is_no_host_user),
        ("json_says_how_it_ended", json_says_how_it_ended),
        ("json_glued_to_an_unfinished_line", json_glued_to_an_unfinished_line),
    ]);
}

fn echo(place: &Place) -> Test {
    let ran = place.run(&["--", "echo", "hello", "there"]);
    ran.ok()?;
    ensure!(ran.out == "hello there\n", "{ran}");
    ensure!(ran.err.lines().count() >= 1, "no last line: {ran}");
    place.nothing_left()
}

/// The filter's listener needs a number below the limit, whatever is open when it is made.
/// The sandbox is made away from the supervisor's processor; what runs in it may use all that the caller may.
fn the_callers_processors(place: &Place) -> Test {
    needs(place, "taskset")?;
    let own = fs::read_to_string("/proc/self/status")?;
    let own = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let own = own.expect("it says").trim();
    let first = own.split([',', '-']).next().expect("one").to_owned();
    let status = "/proc/1/status /proc/self/status";
    let line = |of: &str, cpus: &str| format!("/proc/{of}/status:Cpus_allowed_list:\t{cpus}\n");
    for cpus in [own, &first] {
        let mut command = place.command("taskset");
        command.args(["--cpu-list", cpus]).arg(support::safe_run());
        command.args([
            "run",
            "--quiet",
            "--",
            "sh",
            "-c",
            &format!("grep Cpus_allowed_list: {status}"),
        ]);
        let ran = end(command, b"", LIMIT);
        ensure!(ran.out.starts_with(&line("1", cpus)), "{ran}");
        // For an ordinary user the limit may be an affinity.
        let all = ran.out.ends_with(&line("self", cpus));
        ensure!(all || !is_root(), "{ran}");
    }
    Ok(())
}

fn few_descriptors_are_enough_to_start(place: &Place) -> Test {
    let ran = place.run(&["--open-files", "8", "--", "sh", "-c", "ulimit -n"]);
    ran.ok()?;
    ensure!(ran.out == "8\n", "{ran}");
    Ok(())
}

/// Init makes the view without a umask and with every signal blocked; the program gets neither.
fn the_callers_umask_and_no_blocked_signal(place: &Place) -> Test {
    let script = format!(
        "umask 027; exec {} run --quiet -- sh -c 'umask; grep -E \"Sig(Blk|Ign)\" /proc/self/status'",
        support::safe_run().display()
    );
    let mut command = place.command("sh");
    command.args(["-c", &script]);
    let ran = support::end(command, b"", support::LIMIT);
    ran.ok()?;
    let lines: Vec<&str> = ran.out.lines().collect();
    ensure!(
        lines == ["0027", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"],
        "{ran}"
    );
    Ok(())
}

fn exit_status_passes_through(place: &Place) -> Test {
    for status in [0, 1, 7, 124, 125, 255] {
        place
            .run(&["--", "sh", "-c", &format!("exit {status}")])
            .ended(status)?;
        let result = &place.report()["result"];
        ensure!(result["cause"] == "exit" && result["exitCode"] == status, "{result}");
    }
    Ok(())
}

fn signals_give_128_plus_n(place: &Place) -> Test {
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("ABRT", 6)] {
        let ran = place.run(&["--", "sh", "-c", &format!("ulimit -c 0; kill -{signal} $$; sleep 5")]);
        ran.ended(128 + number)?;
        let result = &place.report()["result"];
        ensure!(
            result["cause"] == "signal" && result["signal"] == number,
            "{signal}: {result}"
        );
    }
    place.nothing_left()
}

fn stdin_is_piped(place: &Place) -> Test {
    let input: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let ran = place.input(&["--", "cat"], input.as_bytes());
    ran.ok()?;
    ensure!(
        ran.out == input,
        "{} of {} bytes came back; {}",
        ran.out.len(),
        input.len(),
        ran.err
    );
    Ok(())
}

fn streams_stay_apart(place: &Place) -> Test {
    let ran = place.run(&["--quiet", "--", "sh", "-c", "echo out; echo err >&2"]);
    ran.ok()?;
    ensure!(ran.out == "out\n" && ran.err == "err\n", "{ran}");
    Ok(())
}

fn python_imports_and_writes(place: &Place) -> Test {
    needs(place, "python3")?;
    place.write(
        "agent.py",
        "import json, ssl, sqlite3, threading, subprocess, tempfile, multiprocessing\n\
         t = threading.Thread(target=lambda: json.dump({'ok': True}, open('out.json', 'w'))); t.start(); t.join()\n\
         db = sqlite3.connect('a.db'); db.execute('create table t (x)'); db.commit()\n\
         print(subprocess.check_output(['echo', 'sub']).decode(), end='')\n\
         tempfile.NamedTemporaryFile().write(b'x'); ssl.create_default_context()\n\
         print(6 * 7)\n",
    );
    let ran = place.run(&[
        "--cpu",
        "1",
        "--memory",
        "512MB",
        "--timeout",
        "30s",
        "python3",
        "agent.py",
    ]);
    ran.ok()?;
    ensure!(ran.out == "sub\n42\n", "{ran}");
    ensure!(
        !place.project.join("out.json").exists(),
        "a captured write reached the host"
    );
    let diff = place.tell(&["diff", "--names"]);
    ensure!(diff.out.contains("out.json") && diff.out.contains("a.db"), "{diff}");
    Ok(())
}

fn gcc_builds_a_program(place: &Place) -> Test {
    needs(place, "gcc")?;
    place.write(
        "hello.c",
        "#include <stdio.h>\nint main(void) { puts(\"built inside\"); return 3; }\n",
    );
    let ran = place.run(&["--", "sh", "-c", "gcc -O1 -o hello hello.c && ./hello"]);
    ran.ended(3)?;
    ensure!(ran.out == "built inside\n", "{ran}");
    Ok(())
}

fn git_clones_a_local_repository(place: &Place) -> Test {
    needs(place, "git")?;
    let mut git = place.command("sh");
    git.args([
        "-c",
        "git init -q -b main origin && cd origin && git config user.email a@example.com && git config user.name a && \
         echo one > f && git add f && git commit -q -m one",
    ]);
    support::end(git, b"", support::LIMIT).ok()?;
    let origin = format!("{}:/origin:ro", place.project.join("origin").display());
    let script = "git config --global safe.directory '*' && git clone -q /origin copy && cd copy && cat f && git log --format=%s";
    let mounted = place.run(&["--mount", &origin, "--", "sh", "-c", script]);
    mounted.ok()?;
    ensure!(mounted.out == "one\none\n", "{mounted}");
    ensure!(
        !place.project.join("copy").exists(),
        "a captured write reached the host"
    );
    Ok(())
}

/// Git links the objects where it can and compares inode numbers, which an overlay does not keep: see DESIGN.md, "Hard
/// links of captured files". Every other program links.
fn git_clones_inside_a_captured_directory(place: &Place) -> Test {
    needs(place, "git")?;
    let me = "git config user.email a@example.com && git config user.name a";
    let mut git = place.command("sh");
    let script =
        format!("git init -q -b main origin && cd origin && {me} && echo one > f && git add f && git commit -q -m one");
    git.args(["-c", &script]);
    support::end(git, b"", support::LIMIT).ok()?;
    let script = format!(
        "git clone -q origin copy && git -C copy fsck --strict 2>&1 && cd copy && {me} && echo two > f && \
         git commit -q -a -m two && git log --format=%s && git gc -q && git fsck && cd .. && \
         git init -q -b main fresh && git clone -q copy again && cat again/f && \
         ln origin/f linked && ln linked other && test linked -ef other && stat -c %h linked"
    );
    let ran = place.run(&["--", "sh", "-c", &script]);
    ran.ok()?;
    ensure!(
        ran.out == "two\none\ntwo\n2\n" || ran.out == "two\none\ntwo\n3\n",
        "{ran}"
    );
    let denied = place.report()["denied"].to_string();
    ensure!(!denied.contains("link"), "a link is no denied operation: {denied}");
    // Whoever calls itself git gets what git gets, which is less than others get.
    let ran = place.run(&["--", "sh", "-c", "cp \"$(command -v ln)\" git && : > a && ./git a b"]);
    ensure!(ran.status != 0 && ran.err.contains("cross-device"), "{ran}");
    place.nothing_left()
}

fn diff_then_apply(place: &Place) -> Test {
    place.write("keep.txt", "kept\n");
    place.write("old.txt", "one\ntwo\n");
    place.write("gone.txt", "bye\n");
    let script =
        "echo three >> old.txt; rm gone.txt; mkdir d; echo new > d/new.txt; ln -s keep.txt link; chmod 755 keep.txt";
    place.run(&["--", "sh", "-c", script]).ok()?;
    for (name, text) in [("old.txt", "one\ntwo\n"), ("gone.txt", "bye\n")] {
        ensure!(
            fs::read_to_string(place.project.join(name))? == text,
            "{name} changed before apply"
        );
    }
    let diff = place.tell(&["diff"]);
    diff.ok()?;
    let at = |what: &str| diff.out.find(what);
    ensure!(diff.out.contains("+three"), "{diff}");
    ensure!(
        at("gone.txt").is_some() && at("gone.txt") < at("old.txt") && at("gone.txt") < at("new.txt"),
        "deletions come first: {diff}"
    );
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(
        fs::read_to_string(place.project.join("old.txt"))? == "one\ntwo\nthree\n",
        "old.txt"
    );
    ensure!(
        fs::read_to_string(place.project.join("d/new.txt"))? == "new\n",
        "d/new.txt"
    );
    ensure!(!place.project.join("gone.txt").exists(), "gone.txt is still there");
    ensure!(
        fs::read_link(place.project.join("link"))?.to_str() == Some("keep.txt"),
        "link"
    );
    let keep = fs::metadata(place.project.join("keep.txt"))?;
    ensure!(
        keep.permissions().mode() & 0o777 == 0o755,
        "mode {:o}",
        keep.permissions().mode()
    );
    let owner = fs::metadata(&place.project)?.uid();
    ensure!(
        fs::metadata(place.project.join("d/new.txt"))?.uid() == owner,
        "the owner follows the directory"
    );
    Ok(())
}

fn discard_takes_a_run_away(place: &Place) -> Test {
    place
        .run(&["--", "sh", "-c", "mkdir -p a/b; echo x > a/b/c; chmod 0 a/b"])
        .ok()?;
    let dir = place.last_run();
    place.tell(&["discard"]).ok()?;
    ensure!(!dir.exists(), "{} is still there", dir.display());
    Ok(())
}

fn report_is_taken_out_and_verifies(place: &Place) -> Test {
    let report = place.root().join("report.json");
    let report = report.to_str().expect("UTF-8");
    place.run(&["--report", report, "--", "true"]).ok()?;
    place.tell(&["report", "verify", report]).ok()?;
    place.tell(&["report", "verify"]).ok()
}

fn one_flipped_byte_is_found(place: &Place) -> Test {
    place.run(&["--", "true"]).ok()?;
    for name in ["run_report.json", "events.jsonl"] {
        let path = place.last_run().join(name);
        let whole = fs::read(&path)?;
        let mut bad = whole.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, &bad)?;
        let verified = place.tell(&["report", "verify"]);
        ensure!(verified.status == 1, "{name}: {verified}");
        fs::write(&path, &whole)?;
    }
    place.tell(&["report", "verify"]).ok()
}

fn sessions_share_a_layer(place: &Place) -> Test {
    place
        .run(&["--session", "one", "--", "sh", "-c", "echo first > note"])
        .ok()?;
    let ran = place.run(&["--session", "one", "--", "sh", "-c", "cat note; echo second >> note"]);
    ran.ok()?;
    ensure!(ran.out == "first\n", "{ran}");
    let other = place.run(&["--session", "two", "--", "cat", "note"]);
    ensure!(other.status != 0, "another session sees it: {other}");
    ensure!(
        !place.project.join("note").exists(),
        "a captured write reached the host"
    );
    place.nothing_left()
}

fn strict_shows_no_directory(place: &Place) -> Test {
    place.write("mine", "x");
    let path = place.project.to_str().expect("UTF-8").to_owned();
    let ran = place.run(&[
        "--policy",
        "strict",
        "--",
        "sh",
        "-c",
        &format!("ls {path} 2>&1; ls mine 2>&1; echo done"),
    ]);
    ran.ok()?;
    ensure!(
        ran.out.matches("No such file").count() == 2 && ran.out.ends_with("done\n"),
        "{ran}"
    );
    Ok(())
}

fn tty_is_a_terminal(place: &Place) -> Test {
    let ran = place.run(&[
        "--tty",
        "--",
        "sh",
        "-c",
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all",
    ]);
    ran.ok()?;
    ensure!(ran.out.contains("/dev/pts/") && ran.out.contains("all"), "{ran}");
    place.nothing_left()
}

const POLICY: &str = "apiVersion: safe-run/v1\nmetadata: {name: smoke}\nextends: strict\n\
                      runtime: {command: /bin/echo, args: [from, a, file]}\nmounts: []\n";

fn a_policy_file_runs(place: &Place) -> Test {
    place.write("policy.yaml", POLICY);
    let ran = place.run(&["--policy", "./policy.yaml"]);
    ran.ok()?;
    ensure!(ran.out == "from a file\n", "{ran}");
    Ok(())
}

/// Only the native wall tells of denied calls, so it is the strongest for a policy that demands it.
fn the_strongest_wall_is_told_and_why(place: &Place) -> Test {
    let policy = POLICY.replace(
        "runtime: {",
        "evidence: {denied: calls}\nruntime: {backend: strongest, ",
    );
    place.write("policy.yaml", &policy);
    let ran = place.run(&["--policy", "./policy.yaml"]);
    ran.ok()?;
    ensure!(ran.out == "from a file\n", "{ran}");
    ensure!(
        ran.err.contains("backend strongest: process, it is the strongest"),
        "{ran}"
    );
    let report = place.report();
    ensure!(report["backend"] == "process", "{report}");
    let told = &report["obligations"][0];
    ensure!(
        told["clause"] == "runtime.backend" && told["requested"] == "strongest",
        "{told}"
    );
    let reason = told["reason"].as_str().unwrap_or_default();
    for wall in ["firecracker", "cloud-hypervisor", "qemu", "gvisor"] {
        ensure!(ran.err.contains(&format!("{wall}: ")), "{wall} is not told of: {ran}");
        ensure!(reason.contains(&format!("{wall}: ")), "{wall} has no reason: {reason}");
    }
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

/// Nothing of the program runs, and why is on record.
fn a_wall_that_is_not_here_is_refused(place: &Place) -> Test {
    place.write("fire.sh", "#!/bin/sh\ntouch started\n");
    let mut command = place.safe_run(&["run", "--backend", "microvm:firecracker", "--", "sh", "fire.sh"]);
    command.env("SAFE_RUN_FIRECRACKER", place.root().join("none"));
    let ran = end(command, b"", LIMIT);
    ran.ended(125)?;
    let found = format!("{} does not exist", place.root().join("none").display());
    ensure!(
        ran.err.contains("SR-RUN-002 launch.preflight.firecracker: ") && ran.err.contains(&found),
        "{ran}"
    );
    ensure!(!place.project.join("started").exists(), "it was started: {ran}");
    let report = place.report();
    ensure!(
        report["backend"] == "microvm:firecracker" && report["result"]["cause"] == "supervisor",
        "{report}"
    );
    place.nothing_left()
}

/// The same wall, watched in the same way, and no folder, document or signature of it afterwards.
fn nothing_is_kept_of_what_is_not_recorded(place: &Place) -> Test {
    let policy = "apiVersion: safe-run/v1\nmetadata: {name: u}\nextends: standard\nruntime: {args: []}\n\
                  mounts: []\nevidence: {sign: none, durability: none}\n";
    place.write("policy.yaml", policy);
    let unrecorded = |words: &[&str]| place.run(&[&["--policy", "./policy.yaml"], words].concat());
    let ran = unrecorded(&["--", "sh", "-c", "cat /proc/self/status; exit 7"]);
    ran.ended(7)?;
    ensure!(
        ran.out.contains("NoNewPrivs:\t1\nSeccomp:\t2\n") && ran.err.contains("no evidence kept"),
        "{ran}"
    );
    let ran = unrecorded(&[
        "--json",
        "--timeout",
        "200ms",
        "--",
        "sh",
        "-c",
        "sleep 60",
        &place.mark(),
    ]);
    ran.ended(124)?;
    let last: serde_json::Value = serde_json::from_str(ran.err.lines().last().unwrap_or_default())?;
    ensure!(last["cause"] == "timeout" && last["dir"].is_null(), "{ran}");
    // Nor of what was refused.
    unrecorded(&["--", "/none"]).ended(125)?;
    // What a killed supervisor left is found by its journal alone.
    let mut going = place.start(&[
        "--policy",
        "./policy.yaml",
        "--",
        "sh",
        "-c",
        "echo up; sleep 60",
        &place.mark(),
    ])?;
    let joined = place.tell(&["exec", "last", "--", "true"]);
    ensure!(joined.status == 125 && joined.err.contains("no runs"), "{joined}");
    going.signal(rustix::process::Signal::KILL)?;
    going.wait()?;
    place.tell(&["gc"]).ok()?;
    ensure!(place.runs().is_empty() && !place.keys.exists(), "{:?}", place.runs());
    place.nothing_left()
}

/// No group, no limit for each process; what it used is told all the same.
fn what_has_no_limit_has_none(place: &Place) -> Test {
    needs(place, "python3")?;
    // As sanitizers and some runtimes reserve addresses.
    let reserve = "import mmap; mmap.mmap(-1, 1 << 40, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000); \
                   x = bytearray(64 << 20); import time; time.sleep(0.3); print('held')";
    let ran = place.run(&[
        "--cpu", "all", "--memory", "all", "--pids", "all", "--", "python3", "-c", reserve,
    ]);
    ran.ok()?;
    let report = place.report();
    let obligations = report["obligations"].as_array().expect("a list");
    for clause in ["resources.cpu", "resources.memory", "resources.pids"] {
        let one = obligations.iter().find(|o| o["clause"] == clause).expect(clause);
        ensure!(
            one["requested"] == "all" && one["mechanism"] == "no limit asked" && one["strength"].is_null(),
            "{one}"
        );
    }
    let posture = report["posture"].as_array().expect("a list");
    let grouped = posture
        .iter()
        .find(|o| o["mechanism"].as_str().is_some_and(|m| m.contains("cgroup")));
    ensure!(grouped.is_none(), "{grouped:?}");
    let peaks = &report["peaks"];
    ensure!(
        peaks["memoryBytes"].as_u64() > Some(64 << 20) && peaks["pids"].as_u64() > Some(1),
        "{peaks}"
    );
    place.nothing_left()
}

fn compile_starts_nothing(place: &Place) -> Test {
    place.write("policy.yaml", POLICY);
    let ran = place.tell(&["compile", "--dry-run", "--policy", "./policy.yaml"]);
    ran.ok()?;
    let bundle: serde_json::Value = serde_json::from_str(&ran.out)?;
    ensure!(
        bundle.get("networkPlan").is_some_and(serde_json::Value::is_null),
        "networkPlan: {ran}"
    );
    ensure!(place.runs().is_empty(), "a run was made");
    let again = place.tell(&["compile", "--dry-run", "--policy", "./policy.yaml"]);
    ensure!(
        again.out == ran.out,
        "the same policy on the same host gave other bytes"
    );
    let without = place.tell(&["compile", "--policy", "./policy.yaml"]);
    ensure!(without.status == 2 && without.err.contains("SR-CMP-002"), "{without}");
    Ok(())
}

fn home_is_no_working_directory(place: &Place) -> Test {
    for dir in [
        place.home.as_path(),
        place.root(),
        std::path::Path::new("/"),
        std::path::Path::new("/etc"),
    ] {
        let mut command = place.safe_run(&["run", "--", "touch", "started"]);
        command.current_dir(dir);
        let ran = support::end(command, b"", support::LIMIT);
        ensure!(ran.status == 125, "{}: {ran}", dir.display());
        ensure!(!dir.join("started").exists(), "it was started in {}", dir.display());
    }
    Ok(())
}

fn exec_joins_a_run(place: &Place) -> Test {
    let run = place.start(&["--", "sh", "-c", "echo inside > here; echo ready; sleep 15"])?;
    let ran = place.tell(&["exec", "last", "--", "cat", "here"]);
    ran.ok()?;
    ensure!(ran.out == "inside\n", "{ran}");
    place.tell(&["exec", "--", "sh", "-c", "exit 7"]).ended(7)?;
    run.cancel()?;
    place.tell(&["report", "verify", "last"]).ok()?;
    place.nothing_left()
}

fn environment_is_made_up(place: &Place) -> Test {
    let ran = place.run(&["-e", "GIVEN=yes", "--", "env"]);
    ran.ok()?;
    ensure!(ran.out.lines().any(|l| l == "GIVEN=yes"), "{ran}");
    ensure!(
        !ran.out.contains("CANARY") && !ran.out.contains("SAFE_RUN_WORKDIR_BASE"),
        "{ran}"
    );
    Ok(())
}

fn the_program_is_no_host_user(place: &Place) -> Test {
    let ran = place.run(&[
        "--",
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map; grep -i groups /proc/self/status",
    ]);
    ran.ok()?;
    ensure!(ran.out.starts_with("1000\n"), "{ran}");
    for line in ran.out.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [inside, outside, _] = words[..]
            && inside.parse::<u32>().is_ok()
        {
            ensure!(outside != "0", "host uid 0 is mapped: {ran}");
        }
    }
    Ok(())
}

fn json_says_how_it_ended(place: &Place) -> Test {
    let ran = place.run(&["--json", "--", "sh", "-c", "echo x > f; exit 4"]);
    ran.ended(4)?;
    let last: serde_json::Value = serde_json::from_str(ran.err.lines().last().unwrap_or_default())?;
    ensure!(
        last["exitCode"] == 4 && last["cause"] == "exit" && last["changes"]["added"] == 1,
        "{ran}"
    );
    Ok(())
}

/// What a program printed last stood in front of it, on the same line.
fn json_glued_to_an_unfinished_line(place: &Place) -> Test {
    for (printed, before) in [
        ("unfinished", "unfinished\n"),
        ("finished\\n", "finished\n"),
        ("", ""),
        ("nothing\\0", "nothing\0\n"),
    ] {
        let program = format!("printf '{printed}' >&2; exit 7");
        let ran = place.run(&["--json", "--", "sh", "-c", &program]);
        ran.ended(7)?;
        let json = ran.err.strip_prefix(before).unwrap_or_default();
        let last: serde_json::Value = serde_json::from_str(json).map_err(|e| format!("{printed}: {e}: {ran}"))?;
        ensure!(last["status"] == 7, "{ran}");
        let ran = place.run(&["--", "sh", "-c", &program]);
        ensure!(ran.err.starts_with(&format!("{before}safe-run: exit 7")), "{ran}");
    }
    Ok(())
}
