//! The driver with a real Firecracker, named in `SAFE_RUN_FIRECRACKER`, where KVM runs a guest: the configuration is the one
//! that is compiled, the kernel Debian's, the agent ours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use sr_common::guest::{AGENT_PORT, DiskFormat, GuestPlan, GuestRoot};
use sr_common::monitor::{EventName, GuestSockets, Order, Said, Speech};
use sr_compiler::vmm::firecracker::Machine;
use sr_compiler::vmm::guest_socket;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use support::{Case, End, Place, Ran, Streams, Test, fail, plan, skip};

fn main() {
    let tests: &[Case] = &[
        ("a_program_runs_in_firecracker", a_program_runs_in_firecracker),
        ("a_firecracker_that_is_killed", a_firecracker_that_is_killed),
    ];
    support::main(tests, |_| {});
}

fn program() -> Result<String, End> {
    let Ok(program) = std::env::var("SAFE_RUN_FIRECRACKER") else {
        return skip("SAFE_RUN_FIRECRACKER names no Firecracker");
    };
    match sr_kernel::kvm::blocked() {
        None => Ok(program),
        Some(why) => skip(why),
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A program on a disk, and what it is started with.
struct Prepared {
    argv: Vec<String>,
    plan: GuestPlan,
    speech: Speech,
    socket: String,
}

fn prepare(place: &Place, script: &str) -> Result<Prepared, End> {
    let program = program()?;
    let (kernel, initrd) = support::images(place)?;
    let config = place.path().join("machine.json");
    let machine = Machine {
        program,
        config: text(&config),
        memory: 256,
        cpus: 1,
        kernel: text(&kernel),
        initrd: text(&initrd),
        disks: vec![text(&place.disk(DiskFormat::Erofs)?)],
        socket: text(&place.path().join("guest")),
    };
    fs::write(&config, serde_json::to_vec(&machine.configuration())?)?;
    let mut plan = plan(script);
    plan.root = GuestRoot::Disk {
        device: "vda".into(),
        format: DiskFormat::Erofs,
    };
    plan.share = None;
    let socket = guest_socket(&machine.socket, AGENT_PORT).unwrap();
    Ok(Prepared {
        argv: machine.arguments(),
        plan,
        speech: Speech::Firecracker {
            sockets: GuestSockets {
                agent: socket.clone(),
                share: None,
            },
        },
        socket,
    })
}

fn piped() -> [Stdio; 3] {
    [Stdio::piped(), Stdio::piped(), Stdio::piped()]
}

fn tells(ran: &Ran, wanted: EventName) -> bool {
    ran.said
        .iter()
        .any(|said| matches!(said, Said::Event { name, .. } if *name == wanted))
}

/// From its start to its end: its posture, its streams both ways, its status, and nothing left of it.
fn a_program_runs_in_firecracker(place: &Place) -> Test {
    let it = prepare(place, "cat; cat /etc/plain; echo wrong >&2; exit 7")?;
    let mut driver = place.start_as(it.speech, it.argv, it.plan, piped());
    let streams = Streams::of(&mut driver.child, b"in and out ".to_vec());
    let held = driver.until(|said| matches!(said, Said::Held { .. } | Said::Failed { .. }))?;
    let Said::Held { posture } = &held else {
        return fail(format!("{held:?}"));
    };
    ensure!(posture.iter().all(|seen| seen.holds), "{posture:?}");
    // Whoever comes after the agent comes to nobody.
    ensure!(!Path::new(&it.socket).exists(), "{} is still there", it.socket);
    driver.order(&Order::Go);
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(7), "{}", ran.shown());
    ensure!(ran.out == b"in and out up" && ran.err == b"wrong\n", "{}", ran.shown());
    ensure!(tells(&ran, EventName::MonitorCounted), "{}", ran.shown());
    let ended = ran.said.iter().find_map(|said| match said {
        Said::Event {
            name: EventName::MonitorEnded,
            detail,
        } => Some(detail.as_str()),
        _ => None,
    });
    // It was not killed: its guest reset the machine.
    ensure!(ended == Some("exit status: 0"), "{}", ran.shown());
    Ok(())
}

fn a_firecracker_that_is_killed(place: &Place) -> Test {
    let it = prepare(place, "echo ready; while :; do :; done")?;
    let mut driver = place.start_as(it.speech, it.argv, it.plan, piped());
    let streams = Streams::of(&mut driver.child, Vec::new());
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    driver.until(|said| matches!(said, Said::Sample { .. }))?;
    let driver_pid = driver.child.id();
    let children = fs::read_to_string(format!("/proc/{driver_pid}/task/{driver_pid}/children"))?;
    kill_process(Pid::from_raw(children.trim().parse()?).unwrap(), Signal::KILL)?;
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(125), "{}", ran.shown());
    match ran.failure() {
        Some(("run.monitor", found)) if found.contains("signal: 9") => Ok(()),
        _ => fail(ran.shown()),
    }
}
