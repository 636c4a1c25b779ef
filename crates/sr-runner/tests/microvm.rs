//! Programs in a virtual machine of QEMU's, its processor computed, behind the native wall: a run from its policy to its
//! report, and launches that fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use support::guest::{agent, failed, kernel};
use support::{End, Going, Place, Ran, Test, end, needs, slow};

/// A boot on a host that is busy with other things.
const BOOT: Duration = Duration::from_secs(90);

fn main() {
    support::main(&[
        ("microvm_from_its_policy_to_its_report", from_its_policy_to_its_report),
        ("microvm_limits_of_the_guests_kernel", limits_of_the_guests_kernel),
        ("microvm_nothing_left_of_a_killed_run", nothing_left_of_a_killed_run),
        ("microvm_of_another_kernel", of_another_kernel),
        ("microvm_of_nothing", of_nothing),
    ]);
}

/// `safe-run run` of this policy, with a kernel in the store.
fn command(place: &Place, words: &[&str]) -> Result<Command, End> {
    needs(place, "qemu-system-x86_64")?;
    let policy = "apiVersion: safe-run/v1\nmetadata: {name: m}\nextends: standard\n\
                  runtime: {backend: \"microvm:qemu\", args: []}\nmounts: [{source: ., target: /work, captured: true}]\n\
                  microvm: {accel: tcg}\n";
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
    let wall = report["digests"]["wall"].as_array().expect("digests");
    ensure!(wall.len() == 4, "kernel, initrd, monitor, driver: {wall:?}");
    let posture = report["posture"].as_array().expect("a posture");
    let inside = |line: &&serde_json::Value| line["mechanism"].as_str().is_some_and(|m| m.ends_with("in the guest"));
    ensure!(
        posture.iter().filter(inside).count() > 8 && posture.iter().all(|line| line["holds"] == true),
        "{posture:?}"
    );
    for kind in ["guest.booted", "guest.posture", "guest.ended"] {
        ensure!(place.events(kind).len() == 1, "{kind}: {:?}", place.events(kind));
    }
    place.tell(&["report", "verify"]).ok()?;
    place.tell(&["apply", "last", "made", "old"]).ok()?;
    ensure!(
        !place.project.join("old").exists() && place.project.join("made").exists(),
        "not applied"
    );
    place.nothing_left()
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
    place.nothing_left()
}
