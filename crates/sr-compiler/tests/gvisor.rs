//! What `runsc` is told, as golden texts, and what around it must hold whatever the policy says.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, mount, ordinary, policy, root_v1, subject, walls};
use sr_common::facts::{HostFacts, Image, Subject, WallParts};
use sr_common::{Backend, Digest};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{LimitMechanism, MonitorPlan, ViewKind, WallPlan};
use sr_compiler::{guest_plan, gvisor};
use sr_policy::spec::{BackendChoice, PolicySpec};

fn parts() -> WallParts {
    WallParts {
        driver: "/usr/local/bin/safe-run".into(),
        monitor: "/usr/bin/runsc".into(),
        images: vec![Image {
            role: "agent".into(),
            path: "/usr/local/bin/sr-guest".into(),
            digest: Digest::of(b"agent"),
            format: None,
        }],
    }
}

fn asked() -> (PolicySpec, Subject) {
    let (mut policy, mut subject) = (policy(), subject());
    policy.runtime.backend = BackendChoice::This(Backend::Gvisor);
    subject.wall = Some(parts());
    (policy, subject)
}

fn compiled(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> (CompileBundle, WallPlan) {
    let facts = HostFacts {
        walls: Some(walls()),
        ..facts.clone()
    };
    let bundle = sr_compiler::compile(policy, &facts, subject).unwrap();
    let wall = bundle.wall_plan.clone().unwrap();
    (bundle, wall)
}

fn config(wall: &WallPlan) -> &str {
    let found = wall
        .around
        .filesystem_plan
        .entries
        .iter()
        .find(|entry| entry.target == gvisor::CONFIG);
    match found.map(|entry| &entry.what) {
        Some(ViewKind::File { content }) => content,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_container_and_the_command_line() {
    let (mut policy, mut subject) = asked();
    mount(
        &mut policy,
        &mut subject,
        "/home/alice/project",
        "/home/alice/project",
        How::Captured,
    );
    mount(
        &mut policy,
        &mut subject,
        "/home/alice/data",
        "/tmp/deep/input",
        How::ReadOnly,
    );
    subject.cwd = "/home/alice/project".into();
    let (_, wall) = compiled(&policy, &root_v1(), &subject);
    let MonitorPlan::Gvisor { argv } = &wall.monitor else {
        panic!("{:?}", wall.monitor);
    };
    insta::assert_snapshot!("runsc", format!("{}\n\n{}", argv.join(" \\\n  "), config(&wall)));
}

#[test]
fn runsc_gets_no_more_than_a_program_does() {
    for facts in [ordinary(), root_v1()] {
        let (policy, subject) = asked();
        let (bundle, wall) = compiled(&policy, &facts, &subject);
        let around = &wall.around;
        assert_eq!(around.process_plan.user, bundle.process_plan.user);
        assert!(around.network_plan.is_none() && around.wall_plan.is_none());
        // Only the agent, by its own place, and nothing else of the host's stands in the program's root.
        let agent = format!("/guest{}", gvisor::AGENT);
        let agents = around
            .filesystem_plan
            .entries
            .iter()
            .filter(|entry| entry.target == agent);
        assert_eq!(agents.count(), 1);
        let writable = around
            .filesystem_plan
            .entries
            .iter()
            .filter(|entry| entry.what.is_writable());
        let writable: Vec<&str> = writable.map(|entry| entry.target.as_str()).collect();
        assert_eq!(writable, ["/dev/shm", "/tmp"]);
        for name in ["AS", "FSIZE"] {
            assert!(
                !around.resources_plan.rlimits.contains_key(name),
                "{name} would stop the Sentry"
            );
        }
    }
}

#[test]
fn limits_are_held_by_who_counts() {
    let (policy, subject) = asked();
    let (bundle, wall) = compiled(&policy, &root_v1(), &subject);
    let (own, around) = (&bundle.resources_plan, &wall.around.resources_plan);
    let pids = own.pids.as_ref().unwrap();
    assert_eq!(pids.mechanism, LimitMechanism::Guest);
    let plan = guest_plan(&bundle, false);
    assert_eq!(plan.rlimits["NPROC"], pids.value + 1);
    assert!(!plan.rlimits.contains_key("RTPRIO") && plan.rlimits.contains_key("NOFILE"));
    let (memory, room) = (own.memory.as_ref().unwrap(), around.memory.as_ref().unwrap());
    assert!(matches!(memory.mechanism, LimitMechanism::Cgroup { .. }));
    assert!(room.value > memory.value && room.value < memory.value * 2);
    assert_eq!(plan.limits.memory, Some(memory.value));
    assert!(around.pids.as_ref().unwrap().value > pids.value);
}

#[test]
fn what_the_sentry_cannot_do_is_not_asked_of_it() {
    let (mut policy, subject) = asked();
    let (bundle, _) = compiled(&policy, &root_v1(), &subject);
    assert!(!bundle.syscalls_plan.tells(), "nobody listens there");
    for (call, index) in [("kill", 0), ("tkill", 0), ("tgkill", 1)] {
        let mut args = [0u64; 6];
        assert!(bundle.syscalls_plan.allows(call, &args), "{call}");
        args[index] = 1;
        assert!(!bundle.syscalls_plan.allows(call, &args), "{call} reaches the agent");
    }
    policy.syscalls.on_denied = sr_policy::spec::OnDenied::Log;
    let facts = HostFacts {
        walls: Some(walls()),
        ..root_v1()
    };
    let faults = sr_compiler::compile(&policy, &facts, &subject).unwrap_err();
    assert!(
        faults.iter().any(|fault| fault.path == "syscalls.onDenied"),
        "{faults:?}"
    );
}
