//! Programs in a virtual machine of QEMU's, its processor computed, behind the native wall: a run from its policy to its
//! report, and launches that fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use support::guest::{agent, failed, hostile_agent, kernel, lost, monitor_below, nothing_left_of_guests, root, whole};
use support::{End, Going, Place, Ran, Test, end, in_namespaces, is_root, needs, skip, slow};

/// A boot on a host that is busy with other things.
const BOOT: Duration = Duration::from_secs(180);

fn main() {
    support::main(&[
        ("microvm_from_its_policy_to_its_report", from_its_policy_to_its_report),
        ("microvm_a_root_of_its_own", a_root_of_its_own),
        ("microvm_limits_of_the_guests_kernel", limits_of_the_guests_kernel),
        ("microvm_nothing_left_of_a_killed_run", nothing_left_of_a_killed_run),
        ("microvm_of_another_kernel", of_another_kernel),
        ("microvm_of_nothing", of_nothing),
        ("microvm_guests_that_hold_no_program", guests_that_hold_no_program),
        (
            "microvm_a_guest_that_panics_under_its_program",
            a_guest_that_panics_under_its_program,
        ),
        ("microvm_a_monitor_that_is_killed", a_monitor_that_is_killed),
        ("microvm_a_monitor_that_stands_still", a_monitor_that_stands_still),
        ("microvm_a_monitor_that_hears_nothing", a_monitor_that_hears_nothing),
        ("microvm_monitors_that_are_too_old", monitors_that_are_too_old),
        ("microvm_exchanged_while_it_is_launched", exchanged_while_it_is_launched),
        ("microvm_a_disk_that_is_full", a_disk_that_is_full),
        ("microvm_a_store_that_is_full", a_store_that_is_full),
        ("microvm_out_of_memory_in_the_guest", out_of_memory_in_the_guest),
        ("microvm_out_of_memory_outside", out_of_memory_outside),
        ("microvm_a_monitor_that_takes_too_much", a_monitor_that_takes_too_much),
        ("microvm_a_guest_that_floods_its_host", a_guest_that_floods_its_host),
    ]);
}

/// `safe-run run` of this policy, with a kernel in the store.
fn command(place: &Place, words: &[&str]) -> Result<Command, End> {
    within(place, "120s", words)
}

/// The same, where the guest has so long to boot.
fn within(place: &Place, boot: &str, words: &[&str]) -> Result<Command, End> {
    of(place, &format!("bootTimeout: {boot}"), words)
}

/// The same, with that in the policy for its guest.
fn of(place: &Place, guest: &str, words: &[&str]) -> Result<Command, End> {
    needs(place, "qemu-system-x86_64")?;
    let policy = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: m}}\nextends: standard\n\
         runtime: {{backend: \"microvm:qemu\", args: []}}\nmounts: [{{source: ., target: /work, captured: true}}]\n\
         microvm: {{accel: tcg, {guest}}}\n"
    );
    fs::write(place.home.join("policy.yaml"), policy)?;
    let policy = place.home.join("policy.yaml");
    let first = ["run", "--quiet", "--policy", policy.to_str().expect("UTF-8")];
    let mut command = place.safe_run(&[&first[..], words].concat());
    command.env("SAFE_RUN_GUEST", agent());
    Ok(command)
}

fn run(place: &Place, words: &[&str]) -> Result<Ran, End> {
    Ok(end(command(place, words)?, b"", slow(BOOT)))
}

fn from_its_policy_to_its_report(place: &Place) -> Test {
    kernel(&place.store)?;
    place.write("old", "text\n");
    place.write(
        "job",
        "#!/bin/sh\ncat old; id -u; uname -r; echo new > made; rm old; exit 7\n",
    );
    fs::set_permissions(place.project.join("job"), fs::Permissions::from_mode(0o755))?;
    let ran = run(place, &["--", "/work/job"])?;
    ran.ended(7)?;
    let host = rustix::system::uname().release().to_string_lossy().into_owned();
    ensure!(
        ran.out.starts_with("text\n1000\n6.1.") && !ran.out.contains(&host),
        "{ran}"
    );
    // The host's directory is as it was, until the changes are taken over.
    ensure!(
        place.project.join("old").exists() && !place.project.join("made").exists(),
        "written through"
    );
    let report = place.report();
    ensure!(
        report["backend"] == "microvm:qemu" && report["denied"].is_null(),
        "{report}"
    );
    whole(place, 0)?;
    place.tell(&["report", "verify"]).ok()?;
    place.tell(&["apply", "last", "made", "old"]).ok()?;
    ensure!(
        !place.project.join("old").exists() && place.project.join("made").exists(),
        "not applied"
    );
    place.nothing_left()
}

/// Its programs are the image's, found there by name or path; its mounts are the policy's, as without one.
fn a_root_of_its_own(place: &Place) -> Test {
    kernel(&place.store)?;
    root(place)?;
    let run = |words: &[&str]| Ok::<_, End>(end(of(place, "rootfs: box", words)?, b"in\n", slow(BOOT)));
    place.write("old", "text\n");
    let script =
        "#!/bin/sh\ncat; cat old /etc/own; id -u; ls /; echo new > made; rm old; touch /new /etc/own; exit 7\n";
    fs::set_permissions(place.write("job", script), fs::Permissions::from_mode(0o755))?;
    let ran = run(&["--", "./job"])?;
    ran.ended(7)?;
    let seen = "in\ntext\nthe image's own\n1000\nbin\ndev\netc\nopt\nproc\ntmp\nwork\n";
    ensure!(ran.out == seen, "{ran}");
    ensure!(ran.err.matches("Read-only file system").count() == 2, "{ran}");
    ensure!(
        place.project.join("old").exists() && !place.project.join("made").exists(),
        "written through"
    );
    whole(place, 1)?;
    let report = place.report();
    // Nobody outside has looked into the image: what was executed there the guest tells, and what it is the image's digest.
    ensure!(report["digests"]["executable"].is_null(), "{report}");
    let posture = report["posture"].as_array().expect("a posture").iter();
    let executed: Vec<(&str, &str)> = posture
        .filter(|line| line["control"] == "executableDigest" && line["mechanism"].as_str().unwrap().ends_with("guest"))
        .map(|line| (line["requested"].as_str().unwrap(), line["observed"].as_str().unwrap()))
        .collect();
    let job = sr_common::Digest::of(&fs::read(place.project.join("job"))?).to_string();
    ensure!(
        executed
            == [
                ("/bin/busybox", "a file of the root's disk"),
                ("/work/job", job.as_str())
            ],
        "{executed:?}"
    );
    place.tell(&["report", "verify"]).ok()?;
    place.tell(&["apply", "last", "made", "old"]).ok()?;
    ensure!(
        !place.project.join("old").exists() && place.project.join("made").exists(),
        "not applied"
    );

    let ran = run(&["--", "told", "a", "b"])?;
    ran.ended(0)?;
    ensure!(ran.out == "told: a b\n", "{ran}");
    // A mount's place may be a file that the image has, or nothing that it has.
    place.write("given", "the policy's\n");
    let (given, script) = (
        place.project.join("given"),
        "cat /opt/own /opt/other; for f in /opt/own /opt/other; do echo x > $f; done; ls /opt",
    );
    let mounts = ["/opt/own", "/opt/other"].map(|target| format!("{}:{target}", given.display()));
    let ran = run(&["--mount", &mounts[0], "--mount", &mounts[1], "--", "sh", "-c", script])?;
    ran.ended(0)?;
    ensure!(ran.out == "the policy's\nthe policy's\nother\nown\n", "{ran}");
    ensure!(ran.err.matches("can't create").count() == 2, "{ran}");
    let none = "cannot execute any of /usr/local/bin/python3, ";
    failed(&run(&["--", "python3"])?, "launch.guest", none)?;
    failed(
        &run(&["--", "/etc/own"])?,
        "launch.guest",
        "cannot execute /etc/own: Permission denied",
    )?;
    let outside = place.home.join("tree/bin/told");
    let outside = format!("../{}", outside.strip_prefix(place.root()).expect("below it").display());
    let ran = run(&["--", &outside])?;
    ran.ended(125)?;
    ensure!(ran.err.contains("is not in the sandbox"), "{ran}");
    nothing_left_of_guests(place)
}

fn limits_of_the_guests_kernel(place: &Place) -> Test {
    kernel(&place.store)?;
    needs(place, "python3")?;
    let ran = run(
        place,
        &["--memory", "100MiB", "--", "python3", "-c", "x = bytearray(300 << 20)"],
    )?;
    ran.ended(137)?;
    ensure!(
        place.report()["result"]["cause"] == "memory",
        "{}",
        place.report()["result"]
    );
    let ran = run(place, &["--timeout", "2s", "--", "sleep", "60"])?;
    ran.ended(124)?;
    ensure!(
        place.report()["result"]["cause"] == "timeout",
        "{}",
        place.report()["result"]
    );
    place.nothing_left()
}

fn nothing_left_of_a_killed_run(place: &Place) -> Test {
    kernel(&place.store)?;
    let mut going = Going::start(command(
        place,
        &["--", "sh", "-c", "echo ready; sleep 60", &place.mark()],
    )?)?;
    going.signal(Signal::KILL)?;
    going.wait()?;
    place.tell(&["gc"]).ok()?;
    place.nothing_left()
}

/// What the artifact's name means has other bytes than those that were put there.
fn of_another_kernel(place: &Place) -> Test {
    let artifacts = kernel(&place.store)?;
    let all = artifacts.list().map_err(|fault| End::from(fault.to_string()))?;
    let kernel = all
        .iter()
        .find(|artifact| artifact.name == "default" && artifact.kind == sr_artifact::Kind::Kernel);
    let content = artifacts.path(&kernel.expect("a kernel").digest);
    fs::remove_file(&content)?;
    fs::write(&content, "another kernel")?;
    failed(
        &run(place, &["--", "true"])?,
        "launch.preflight.kernel",
        "is not the kernel that was planned",
    )?;
    place.nothing_left()
}

fn of_nothing(place: &Place) -> Test {
    failed(
        &run(place, &["--", "true"])?,
        "launch.preflight.kernel",
        "kernel default",
    )?;
    kernel(&place.store)?;
    let mut without = command(place, &["--", "true"])?;
    without.env("SAFE_RUN_GUEST", place.root().join("none"));
    failed(&end(without, b"", slow(BOOT)), "launch.preflight.guest", "none")?;
    // Of the host's own libraries.
    let mut without = command(place, &["--", "true"])?;
    without.env("SAFE_RUN_GUEST", "/bin/true");
    failed(
        &end(without, b"", slow(BOOT)),
        "launch.preflight.guest",
        "a guest has none",
    )?;
    let none = place.write("none", "");
    let mut without = command(place, &["--", "true"])?;
    without.env("SAFE_RUN_QEMU", &none);
    failed(&end(without, b"", slow(BOOT)), "launch.preflight.qemu", "none")?;
    // Where the sandbox around it does not show its files.
    let other = place.write("other", "#!/bin/sh\necho no machine here >&2\nexit 3\n");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    let mut without = command(place, &["--", "true"])?;
    without.env("SAFE_RUN_QEMU", &other);
    failed(&end(without, b"", slow(BOOT)), "launch.preflight.qemu", "outside")?;
    let without = of(place, "rootfs: none", &["--", "true"])?;
    failed(
        &end(without, b"", slow(BOOT)),
        "launch.preflight.rootfs",
        "no root file system none",
    )?;
    place.nothing_left()
}

/// Hung, gone, and hostile before the program: each is no launch.
fn guests_that_hold_no_program(place: &Place) -> Test {
    kernel(&place.store)?;
    for (what, boot, path, found) in [
        (
            "SILENT",
            "6s",
            "launch.boot",
            "did not boot within 6s: its agent has not spoken",
        ),
        ("ENDS", "120s", "launch.boot", "panicked before its agent spoke"),
        (
            "GARBAGE",
            "120s",
            "launch.guest",
            "does not keep to the protocol: a frame of no known kind",
        ),
        (
            "FLOOD",
            "120s",
            "launch.guest",
            "does not keep to the protocol: Hello while it is",
        ),
    ] {
        let mut command = within(place, boot, &["--", "sh", "-c", "echo started"])?;
        command.env("SAFE_RUN_GUEST", hostile_agent(place, what)?);
        let ran = end(command, b"", slow(BOOT));
        failed(&ran, path, found)?;
        ensure!(ran.out.is_empty(), "{what}: {ran}");
        lost(place, path, found)?;
        let event = |name: &str| {
            place
                .events("guest.event")
                .iter()
                .any(|event| event["data"]["event"] == name)
        };
        ensure!(event("monitorStarted"), "{what}: {:?}", place.events("guest.event"));
        ensure!(
            event("guestPanicked") == (what == "ENDS"),
            "{what}: {:?}",
            place.events("guest.event")
        );
        nothing_left_of_guests(place)?;
    }
    Ok(())
}

fn a_guest_that_panics_under_its_program(place: &Place) -> Test {
    kernel(&place.store)?;
    let mut command = command(place, &["--", "sh", "-c", "echo before; sleep 100"])?;
    command.env("SAFE_RUN_GUEST", hostile_agent(place, "PANICS")?);
    let ran = end(command, b"", slow(BOOT));
    failed(&ran, "run.guest", "Kernel panic - not syncing: sysrq triggered crash")?;
    // What it wrote before is its own.
    ensure!(ran.out == "before\n", "{ran}");
    lost(place, "run.guest", "panicked while the program ran")?;
    let events = place.events("guest.event");
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| event["data"]["event"].as_str())
        .collect();
    ensure!(
        names.first() == Some(&"monitorStarted")
            && names.contains(&"guestPanicked")
            && names.last() == Some(&"monitorEnded"),
        "{names:?}"
    );
    ensure!(place.events("guest.booted").len() == 1, "{events:?}");
    nothing_left_of_guests(place)
}

/// A run whose program has begun, and its monitor.
fn begun(place: &Place, words: &[&str]) -> Result<(Going, rustix::process::Pid), End> {
    kernel(&place.store)?;
    let script = "echo ready; sleep 60";
    let going = Going::start(command(
        place,
        &[words, &["--", "sh", "-c", script, &place.mark()]].concat(),
    )?)?;
    let monitor = monitor_below(going.pid())?;
    Ok((going, monitor))
}

fn is_gone(process: rustix::process::Pid) -> Test {
    match rustix::process::test_kill_process(process) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => support::fail(format!("the monitor: {other:?}")),
    }
}

fn a_monitor_that_is_killed(place: &Place) -> Test {
    let (mut going, monitor) = begun(place, &[])?;
    rustix::process::kill_process(monitor, Signal::KILL)?;
    ensure!(going.wait()? == 125, "its status");
    lost(
        place,
        "run.monitor",
        "ended while the program ran, or was about to (signal: 9",
    )?;
    let events = place.events("guest.event");
    let last = events.last().map(|event| &event["data"]);
    ensure!(
        last.is_some_and(|data| data["event"] == "monitorEnded" && data["detail"].to_string().contains("signal: 9")),
        "{events:?}"
    );
    is_gone(monitor)?;
    nothing_left_of_guests(place)
}

fn a_monitor_that_stands_still(place: &Place) -> Test {
    let (mut going, monitor) = begun(place, &["--timeout", "4s"])?;
    rustix::process::kill_process(monitor, Signal::STOP)?;
    ensure!(going.wait()? == 124, "its status");
    let result = &place.report()["result"];
    ensure!(result["cause"] == "timeout", "{result}");
    is_gone(monitor)?;
    nothing_left_of_guests(place)
}

/// A place for a program in a monitor's stead, which the sandbox around it shows.
const STEAD: &str = "/usr/bin/qemu-system-i386";

/// `safe-run run` with that text as the monitor's program.
fn with_monitor(place: &Place, text: &str, words: &[&str]) -> Result<Ran, End> {
    needs(place, STEAD)?;
    let program = place.write("monitor", text);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let plain = command(place, words)?;
    let launcher = in_namespaces(&format!("mount --bind {:?} {STEAD}", program.display()));
    let mut command = place.command(&launcher[0]);
    command
        .args(&launcher[1..])
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env("SAFE_RUN_GUEST", agent()).env("SAFE_RUN_QEMU", STEAD);
    Ok(end(command, b"", slow(BOOT)))
}

/// QEMU itself, at whose QMP nobody is: it is not told to end.
fn a_monitor_that_hears_nothing(place: &Place) -> Test {
    const DEAF: &str = "#!/usr/bin/python3
import os, signal, socket, sys
ours, theirs = socket.socketpair()
if os.fork() == 0:
    signal.pause()
os.dup2(ours.fileno(), 11)
for fd in (10, 11, 12):
    os.set_inheritable(fd, True)
os.execv('/usr/bin/qemu-system-x86_64', sys.argv)
";
    kernel(&place.store)?;
    needs(place, "python3")?;
    let ran = with_monitor(place, DEAF, &["--", "sh", "-c", "echo done; exit 5"])?;
    ran.ended(5)?;
    ensure!(ran.out == "done\n", "{ran}");
    let events = place.events("guest.event");
    let last = events.last().map(|event| &event["data"]);
    ensure!(
        last.is_some_and(|data| data["event"] == "monitorEnded" && data["detail"].to_string().contains("signal: 9")),
        "{events:?}"
    );
    nothing_left_of_guests(place)
}

/// Stand-ins that say what such a QEMU says; and one that only root could start.
fn monitors_that_are_too_old(place: &Place) -> Test {
    const GREETING: &str = "#!/usr/bin/python3
import os, signal
os.write(11, b'{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 1, \"minor\": 2, \"major\": 6}}}}\\r\\n')
signal.pause()
";
    const OPTION: &str = "#!/bin/sh
echo \"$0: Property 'pc-q35-6.2-machine.i8042' not found\" >&2
exit 1
";
    kernel(&place.store)?;
    needs(place, "python3")?;
    for (text, found) in [
        (GREETING, "QEMU 6.2.1 is older than 7.0.0"),
        (OPTION, "i8042' not found"),
    ] {
        let ran = with_monitor(place, text, &["--", "true"])?;
        failed(&ran, "launch.preflight.qemu", found)?;
        ensure!(ran.err.contains("install QEMU 7.0 or later"), "{ran}");
        lost(place, "launch.preflight.qemu", found)?;
        nothing_left_of_guests(place)?;
    }
    Ok(())
}

/// What is exchanged for another again and again is either what was planned, or not started: of what the other would make of
/// the launch nothing is seen.
fn exchanged_while_it_is_launched(place: &Place) -> Test {
    use std::sync::atomic::{AtomicBool, Ordering};
    let artifacts = kernel(&place.store)?;
    // Makes the initrd.
    run(place, &["--", "true"])?.ok()?;
    root(place)?;
    let (mut started, mut refused) = (0, 0);
    let kinds = [
        sr_artifact::Kind::Kernel,
        sr_artifact::Kind::Initrd,
        sr_artifact::Kind::Rootfs,
    ];
    for kind in kinds {
        let all = artifacts.list().map_err(|fault| End::from(fault.to_string()))?;
        let one = all.iter().find(|artifact| artifact.kind == kind).expect("an artifact");
        let content = artifacts.path(&one.digest);
        let other = place.store.join("other");
        let bytes = fs::read(&content)?;
        // A start of it that would be no kernel, an initrd without an init, and a root without its files.
        fs::write(&other, &bytes[..bytes.len() / 2])?;
        let over = AtomicBool::new(false);
        let tried = std::thread::scope(|scope| {
            let exchanging = scope.spawn(|| {
                let mut times = 0;
                while !over.load(Ordering::Relaxed) {
                    let flags = rustix::fs::RenameFlags::EXCHANGE;
                    rustix::fs::renameat_with(rustix::fs::CWD, &content, rustix::fs::CWD, &other, flags)
                        .expect("an exchange");
                    times += 1;
                    std::thread::sleep(Duration::from_millis(times % 7));
                }
                times
            });
            let tried = (0..4)
                .map(|_| {
                    Ok(end(
                        of(place, "rootfs: box", &["--", "echo", "started"])?,
                        b"",
                        slow(BOOT),
                    ))
                })
                .collect::<Result<Vec<_>, End>>();
            over.store(true, Ordering::Relaxed);
            let times = exchanging.join().expect("exchanges");
            assert!(times > 4, "{times} exchanges");
            tried
        })?;
        for ran in tried {
            if ran.status == 0 && ran.out == "started\n" {
                started += 1;
                continue;
            }
            refused += 1;
            ensure!(ran.status == 125 && ran.out.is_empty(), "{ran}");
            ensure!(ran.err.contains("SR-RUN-00") && ran.err.contains("fix: "), "{ran}");
            let booted = ["launch.boot", "launch.guest", "run."]
                .iter()
                .any(|path| ran.err.contains(path));
            ensure!(!booted, "what was exchanged was started: {ran}");
        }
        // Which of the two is where by now, and may be written to, nobody knows.
        fs::remove_file(&other)?;
        fs::remove_file(&content)?;
        fs::write(&content, &bytes)?;
    }
    ensure!(refused > 0, "{started} started, and none was refused");
    nothing_left_of_guests(place)
}

/// Of the run: what the program writes is held to the policy's.
fn a_disk_that_is_full(place: &Place) -> Test {
    kernel(&place.store)?;
    let script = "head -c 8M /dev/zero > big; head -c 8M /dev/zero > /tmp/big; echo $(stat -c %s big /tmp/big); exit 4";
    let ran = run(place, &["--disk", "2MiB", "--", "sh", "-c", script])?;
    let result = place.report()["result"].clone();
    ensure!(
        result["cause"] == "disk" && result["limitsHit"] == serde_json::json!(["resources.disk"]),
        "{result}: {ran}"
    );
    // It was ended for it, or ended by itself.
    ensure!([4, 137].contains(&ran.status), "{ran}");
    let sizes: Vec<u64> = ran
        .out
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    ensure!(sizes.iter().all(|size| *size <= 2 << 20), "{sizes:?}");
    nothing_left_of_guests(place)
}

/// Of the host: a run whose changes cannot be kept says so.
fn a_store_that_is_full(place: &Place) -> Test {
    kernel(&place.store)?;
    // Makes the initrd.
    run(place, &["--", "true"])?.ok()?;
    let aside = place.home.join("artifacts");
    fs::create_dir(&aside)?;
    let script = format!(
        "store={:?}; mount --bind \"$store/artifacts\" {:?}; mount -t tmpfs -o size=4m,mode=700 tmpfs \"$store\"
         mkdir \"$store/artifacts\"; mount --bind {:?} \"$store/artifacts\"
         set +e; $UNDRESS \"$@\"; status=$?; ls \"$store/journal\" | sed 's/^/left: /' >&2; exit $status",
        place.store.display(),
        aside.display(),
        aside.display()
    );
    let plain = command(place, &["--", "sh", "-c", "head -c 9M /dev/zero > big; sync; sleep 1"])?;
    let launcher = in_namespaces(&script);
    let mut command = place.command(&launcher[0]);
    command
        .args(&launcher[1..])
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env("SAFE_RUN_GUEST", agent());
    let ran = end(command, b"", slow(BOOT));
    ran.ended(125)?;
    let told = ["finish.capture", "SR-EVD-001"]
        .iter()
        .any(|word| ran.err.contains(word));
    ensure!(
        told && ran.err.contains("No space left") && ran.err.contains("fix: "),
        "{ran}"
    );
    ensure!(!ran.err.contains("left: "), "{ran}");
    nothing_left_of_guests(place)
}

/// The guest's kernel has none left for a program that keeps to its limit. What such a program does beyond it:
/// [`limits_of_the_guests_kernel`].
fn out_of_memory_in_the_guest(place: &Place) -> Test {
    kernel(&place.store)?;
    // Memory that is really used up can leave the kernel none for its own answer: then it panics.
    let script = "x=$(head -c 24M /dev/zero | tr '\\0' x); echo ready; sleep 60; echo $x";
    let mut command = command(place, &["--", "sh", "-c", script])?;
    command.env("SAFE_RUN_GUEST", hostile_agent(place, "STARVES")?);
    let ran = end(command, b"", slow(BOOT));
    ran.ended(137)?;
    ensure!(ran.out == "ready\n", "{ran}");
    let result = &place.report()["result"];
    ensure!(
        result["cause"] == "memory"
            && result["message"]
                .to_string()
                .contains("the guest's kernel had no memory left"),
        "{result}"
    );
    let events = place.events("guest.event");
    ensure!(
        events.iter().any(|event| event["data"]["event"] == "guestOutOfMemory"),
        "{events:?}"
    );
    ensure!(
        place.events("guest.limit").is_empty() && place.events("monitor.").is_empty(),
        "it was neither its own limit nor the host's"
    );
    nothing_left_of_guests(place)
}

/// The host's kernel has none left for the monitor: nothing of that is the program's.
fn out_of_memory_outside(place: &Place) -> Test {
    if !is_root() {
        return skip("not started by root");
    }
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    let own = groups
        .lines()
        .find_map(|line| line.split_once(":memory:").map(|(_, group)| group));
    let Some(own) = own else {
        return skip("no writable v1 hierarchy for memory here");
    };
    let group = std::path::Path::new("/sys/fs/cgroup/memory")
        .join(own.trim_start_matches('/'))
        .join(place.mark());
    if let Err(e) = fs::create_dir(&group) {
        return skip(format!("no writable v1 hierarchy for memory here: {e}"));
    }
    let ended = outside(place, &group);
    fs::remove_dir(&group)?;
    ended
}

fn outside(place: &Place, group: &std::path::Path) -> Test {
    kernel(&place.store)?;
    // Less than the guest has, and its program fills.
    fs::write(group.join("memory.limit_in_bytes"), "260M")?;
    let plain = command(
        place,
        &[
            "--memory",
            "200MiB",
            "--",
            "/usr/bin/python3",
            "-c",
            "x = bytearray(190 << 20)",
        ],
    )?;
    let mut command = place.command("sh");
    command
        .args(["-ec", "echo $$ > \"$0/tasks\"; exec \"$@\""])
        .arg(group)
        .arg(plain.get_program())
        .args(plain.get_args())
        .env("SAFE_RUN_GUEST", agent());
    let ran = end(command, b"", slow(BOOT));
    failed(&ran, "run.monitor", "the monitor of the guest used up the memory")?;
    lost(place, "run.monitor", "the monitor of the guest used up the memory")?;
    ensure!(place.events("monitor.outOfMemory").len() == 1, "{ran}");
    let inside = place.events("guest.event");
    ensure!(
        place.events("guest.limit").is_empty()
            && inside.iter().all(|event| event["data"]["event"] != "guestOutOfMemory"),
        "{inside:?}"
    );
    nothing_left_of_guests(place)
}

/// A stand-in that takes more than the guest's memory and its own: by control group or by samples, as this user has them.
fn a_monitor_that_takes_too_much(place: &Place) -> Test {
    const HOG: &str = "#!/usr/bin/python3\nimport signal\nx = bytearray(700 << 20)\nsignal.pause()\n";
    kernel(&place.store)?;
    needs(place, "python3")?;
    let ran = with_monitor(place, HOG, &["--memory", "100MiB", "--", "true"])?;
    failed(&ran, "run.monitor", "the monitor of the guest used up the memory")?;
    lost(place, "run.monitor", "the monitor of the guest used up the memory")?;
    ensure!(place.events("monitor.outOfMemory").len() == 1, "{ran}");
    nothing_left_of_guests(place)
}

/// A stand-in for a guest that was taken over once its program ran: all that it says may be said, and there is no end of it.
/// The run is ended as every other is, and what was recorded of it is small.
fn a_guest_that_floods_its_host(place: &Place) -> Test {
    const FLOOD: &str = "#!/usr/bin/python3
import hashlib, json, socket, struct
port = socket.socket(fileno=10)
port.setblocking(True)
def say(kind, payload):
    port.sendall(kind + struct.pack('<I', len(payload)) + payload)
def hear(last):
    whole = b''
    while True:
        kind, length = struct.unpack('<cI', port.recv(5, socket.MSG_WAITALL))
        payload = port.recv(length, socket.MSG_WAITALL) if length else b''
        if kind == b'P':
            whole += payload
        if kind == last:
            return whole
say(b'H', struct.pack('<H', 1) + b'6.1.0')
program = json.loads(hear(b'p'))['executable']
digest = hashlib.sha256(open('/guest' + program, 'rb').read()).hexdigest()
line = lambda control, asked, seen: dict(control=control, requested=asked, mechanism='m', observed=seen, holds=True)
held = ['seccomp', 'noNewPrivileges', 'capabilities', 'userNamespace', 'filesystem']
posture = [line(name, 'a', 'a') for name in held] + [line('executableDigest', program, 'sha256:' + digest)]
say(b'O', json.dumps(posture).encode())
hear(b'G')
say(b'B', b'\\x01running')
number = 0
while True:
    number += 1
    say(b'U', json.dumps(dict(cpuMicros=number, memoryBytes=1 << number % 53, pids=number % 7, diskBytes=None, waited=None)).encode())
";
    kernel(&place.store)?;
    needs(place, "python3")?;
    let ran = with_monitor(place, FLOOD, &["--timeout", "3s", "--", "/usr/bin/true"])?;
    ran.ended(124)?;
    ensure!(ran.out == "running", "{ran}");
    let result = &place.report()["result"];
    ensure!(result["cause"] == "timeout", "{result}");
    let samples = place.events("guest.sample").len();
    ensure!((1..=200).contains(&samples), "{samples} samples were recorded");
    nothing_left_of_guests(place)
}
