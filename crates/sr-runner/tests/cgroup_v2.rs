//! Limits by control groups of version 2: written, read back, and held by the kernel. The same programs run as root and
//! as an ordinary user to whom a subtree was delegated. Where the controllers are those of version 1 each is a skip.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use support::{LIMIT, Place, Test, control_groups, end, needs, slow};

fn main() {
    support::main(&[
        ("v2_limits_are_written_and_read_back", limits_are_written_and_read_back),
        (
            "v2_groups_lie_where_the_caller_may_make_them",
            groups_lie_where_they_may,
        ),
        ("v2_memory_ends_the_whole_run", memory_ends_the_whole_run),
        ("v2_processes_are_counted_by_the_kernel", processes_are_counted),
        ("v2_cpu_time_is_held", cpu_time_is_held),
        ("v2_who_joins_is_in_the_group", who_joins_is_in_the_group),
        ("v2_what_a_killed_supervisor_left_is_killed", what_was_left_is_killed),
    ]);
}

/// The controllers that Safe-Run found here, all of version 2; else a skip.
fn controllers(place: &Place) -> Result<Value, support::End> {
    place.run(&["--quiet", "--", "true"]).ok()?;
    let found = place.report()["host"]["cgroup"].clone();
    let all = ["memory", "cpu", "pids"].iter().all(|name| found[name]["version"] == 2);
    match all {
        true => Ok(found),
        false => support::skip(format!("no cgroup v2 with memory, cpu and pids here: {found}")),
    }
}

/// The group of the last run.
fn group(place: &Place) -> Result<PathBuf, support::End> {
    let run = place.last_run();
    let name = format!("safe-run-{}", run.file_name().and_then(|n| n.to_str()).expect("an id"));
    let found: Vec<PathBuf> = control_groups().into_iter().filter(|g| g.ends_with(&name)).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        other => support::fail(format!("one group for all controllers, not {other:?}")),
    }
}

fn text(group: &Path, file: &str) -> Result<String, support::End> {
    match fs::read_to_string(group.join(file)) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) => support::fail(format!("{file}: {e}")),
    }
}

/// The number after `key`.
fn number(group: &Path, file: &str, key: &str) -> Result<u64, support::End> {
    let text = text(group, file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    match line.and_then(|n| n.parse().ok()) {
        Some(n) => Ok(n),
        None => support::fail(format!("no {key} in {file}: {text}")),
    }
}

fn until(what: &str, mut seen: impl FnMut() -> Result<bool, support::End>) -> Test {
    let end = Instant::now() + slow(LIMIT);
    while !seen()? {
        ensure!(Instant::now() < end, "never seen: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(())
}

/// A policy with these resources, all of them the kernel's business.
fn policy(place: &Place, resources: &str) -> String {
    let path = place.root().join("policy.yaml");
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: v2}}\nextends: standard\nruntime: {{command: /bin/true, args: []}}\n\
         mounts: []\nresources: {{{resources}, strength: kernel}}\n"
    );
    fs::write(&path, text).expect("a policy");
    path.to_str().expect("UTF-8").to_owned()
}

fn limits_are_written_and_read_back(place: &Place) -> Test {
    controllers(place)?;
    let policy = policy(place, "cpu: 0.5, memory: 96MiB, pids: 48");
    let run = place.start(&["--policy", &policy, "--", "sh", "-c", "echo up; sleep 600"])?;
    let group = group(place)?;
    let mut wanted = vec![
        ("memory.max", "100663296"),
        ("memory.oom.group", "1"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "48"),
    ];
    // A kernel without swap has no such file.
    if group.join("memory.swap.max").exists() {
        wanted.push(("memory.swap.max", "0"));
    }
    for (file, value) in &wanted {
        ensure!(text(&group, file)? == *value, "{file} is {}", text(&group, file)?);
    }
    until("init, the shell and what it waits for", || {
        let members = text(&group, "cgroup.procs")?.lines().count();
        Ok(members == 3 && text(&group, "pids.current")? == "3")
    })?;
    run.cancel()?;
    let report = place.report();
    let posture = report["posture"].as_array().expect("a posture");
    for (file, value) in &wanted {
        let line = posture
            .iter()
            .find(|line| line["mechanism"] == format!("cgroup {file}"));
        ensure!(
            line.is_some_and(|l| l["holds"] == true && l["observed"] == format!("{file}: {value}")),
            "the posture of {file}: {line:?}"
        );
    }
    for (name, file) in [("memory", "memory.max"), ("cpu", "cpu.max"), ("pids", "pids.max")] {
        let all = report["obligations"].as_array().expect("obligations");
        let found = all.iter().find(|o| o["clause"] == format!("resources.{name}"));
        let held = found.is_some_and(|o| {
            o["strength"] == "kernel" && o["enforced"] == true && o["mechanism"] == format!("cgroup v2 {file}")
        });
        ensure!(held, "{name}: {found:?}");
    }
    ensure!(!group.exists(), "{} is left", group.display());
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

/// At the top for root in the real root group; else beside the caller's own group, which holds processes.
fn groups_lie_where_they_may(place: &Place) -> Test {
    let found = controllers(place)?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    let top = Path::new("/sys/fs/cgroup");
    let wanted = match own {
        "" => top.to_owned(),
        path => top.join(path).parent().expect("a parent").to_owned(),
    };
    let at = json!({"version": 2, "parent": wanted});
    ensure!(
        found == json!({"memory": at, "cpu": at, "pids": at}),
        "{found}, not {}",
        wanted.display()
    );
    Ok(())
}

/// `memory.oom.group`: the kernel ends all of it at once, so that nothing goes on without the part that it lost.
fn memory_ends_the_whole_run(place: &Place) -> Test {
    controllers(place)?;
    needs(place, "python3")?;
    let script = "import os\nif os.fork() == 0:\n x = bytearray(160 << 20)\n for i in range(0, len(x), 4096): x[i] = 1\n os._exit(0)\n\
                  os.wait()\nprint('went on')";
    let run = |memory: &str| {
        place.run(&[
            "--quiet",
            "--memory",
            memory,
            "--",
            "python3",
            "-c",
            script,
            &place.mark(),
        ])
    };
    let ran = run("1GiB");
    ran.ok()?;
    ensure!(ran.out == "went on\n", "{ran}");
    ensure!(
        place.report()["peaks"]["memoryBytes"].as_u64() > Some(160 << 20),
        "{}",
        place.report()["peaks"]
    );
    let ran = run("64MiB");
    ran.ended(137)?;
    ensure!(ran.out.is_empty(), "{ran}");
    let report = place.report();
    let result = &report["result"];
    ensure!(
        result["cause"] == "memory" && result["limitsHit"] == json!(["resources.memory"]),
        "{result}"
    );
    let peak = report["peaks"]["memoryBytes"].as_u64();
    ensure!(peak > Some(48 << 20) && peak <= Some(64 << 20), "{}", report["peaks"]);
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

fn processes_are_counted(place: &Place) -> Test {
    controllers(place)?;
    needs(place, "python3")?;
    // Threads count like processes; what fails once is no cause to end a program that gives up.
    let script = "import os, threading, time\nn = 0\ntry:\n while True:\n  if n % 2:\n   threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n  elif os.fork() == 0: time.sleep(600)\n  n += 1\n\
                  except (OSError, RuntimeError) as e: print(n, flush=True)\ntime.sleep(600)";
    let run = place.start(&["--pids", "20", "--", "python3", "-c", script, &place.mark()])?;
    let group = group(place)?;
    ensure!(
        text(&group, "pids.current")? == "20",
        "{}",
        text(&group, "pids.current")?
    );
    ensure!(
        number(&group, "pids.events", "max")? >= 1,
        "{}",
        text(&group, "pids.events")?
    );
    run.cancel()?;
    let report = place.report();
    ensure!(report["peaks"]["pids"] == 20, "{}", report["peaks"]);
    ensure!(
        report["result"]["limitsHit"] == json!(["resources.pids"]),
        "{}",
        report["result"]
    );
    place.nothing_left()
}

fn cpu_time_is_held(place: &Place) -> Test {
    controllers(place)?;
    // One busy process cannot use up two processors, and uses up a tenth of one in every period.
    for (cpu, most) in [("0.1", "10000 100000"), ("2", "200000 100000")] {
        let run = place.start(&[
            "--cpu",
            cpu,
            "--",
            "sh",
            "-c",
            "echo up; while :; do :; done",
            &place.mark(),
        ])?;
        let group = group(place)?;
        ensure!(text(&group, "cpu.max")? == most, "{}", text(&group, "cpu.max")?);
        until("ten periods", || Ok(number(&group, "cpu.stat", "nr_periods")? >= 10))?;
        let throttled = number(&group, "cpu.stat", "nr_throttled")?;
        match cpu {
            "2" => ensure!(throttled == 0, "{}", text(&group, "cpu.stat")?),
            _ => ensure!(throttled >= 1, "{}", text(&group, "cpu.stat")?),
        }
        run.cancel()?;
        let peaks = place.report()["peaks"].clone();
        ensure!(peaks["cpuMicros"].as_u64() > Some(0), "{peaks}");
        // Of ten periods it was kept waiting for nine tenths, less what a busy host lets it run late.
        if cpu == "0.1" && std::path::Path::new("/proc/pressure/cpu").exists() {
            ensure!(peaks["waited"]["cpuMicros"].as_u64() > Some(100_000), "{peaks}");
            let shown = place.tell(&["show", "last"]);
            ensure!(shown.out.contains("for a CPU"), "{shown}");
        }
    }
    place.nothing_left()
}

fn who_joins_is_in_the_group(place: &Place) -> Test {
    controllers(place)?;
    let run = place.start(&["--", "sh", "-c", "echo up; sleep 600", &place.mark()])?;
    let group = group(place)?;
    let members = || -> Result<Vec<String>, support::End> {
        Ok(text(&group, "cgroup.procs")?.lines().map(str::to_owned).collect())
    };
    let before = members()?;
    let mut command = place.safe_run(&["exec", "last", "--", "sleep", "601"]);
    let mut joined = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let found = until("the command in the group", || {
        let new: Vec<String> = members()?.into_iter().filter(|pid| !before.contains(pid)).collect();
        let line = |pid: &String| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Ok(new.iter().any(|pid| line(pid) == "sleep\x00601\0"))
    });
    // However that was, nothing goes on.
    let cancelled = run.cancel();
    joined.wait()?;
    found?;
    cancelled?;
    place.nothing_left()
}

/// A program that is making processes all the time, in sessions of their own: `gc` has the kernel kill the group.
fn what_was_left_is_killed(place: &Place) -> Test {
    controllers(place)?;
    needs(place, "python3")?;
    needs(place, "strace")?;
    let script = "import os, time\nprint('up', flush=True)\nwhile True:\n try:\n  if os.fork() == 0: os.setsid()\n except OSError: time.sleep(0.01)";
    let run = place.start(&["--pids", "40", "--", "python3", "-c", script, &place.mark()])?;
    let group = group(place)?;
    until("a crowd", || Ok(text(&group, "cgroup.procs")?.lines().count() > 20))?;
    run.signal(Signal::KILL)?;
    drop(run);
    ensure!(group.exists(), "nobody is left to remove it");
    let log = place.root().join("strace");
    let mut command = place.command("strace");
    command.args(["-f", "-e", "trace=open,openat,write", "-o"]).arg(&log);
    command.arg(support::safe_run()).arg("gc");
    end(command, b"", LIMIT).ok()?;
    let calls = fs::read_to_string(&log)?;
    let mut asked = calls
        .lines()
        .skip_while(|line| !line.contains("cgroup.kill\"") || line.contains(" = -1 "));
    ensure!(
        asked.next().is_some()
            && asked
                .next()
                .is_some_and(|line| line.contains("\"1\", 1)") && line.ends_with(" = 1")),
        "cgroup.kill was not written: {calls}"
    );
    ensure!(!group.exists(), "{} is left", group.display());
    place.nothing_left()
}
