//! A kernel of the program's own: what is around its monitor, and what its guest is told.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, mount, policy, root_v1, subject, walls, with_parts};
use sr_common::facts::{HostFacts, Image, Subject};
use sr_common::guest::{DiskFormat, GuestMountKind, GuestPlan, GuestRoot, GuestShare};
use sr_common::{Backend, Millis, Strength, Vmm};
use sr_compiler::bundle::{CompileBundle, LimitMechanism, MonitorPlan, ViewKind};
use sr_policy::spec::{Accel, BackendChoice, Microvm, PolicySpec};

fn host() -> HostFacts {
    HostFacts {
        walls: Some(walls()),
        ..root_v1()
    }
}

/// A project below `/tmp`, which is memory, and a read-only file elsewhere.
fn asked() -> (PolicySpec, Subject) {
    let (mut policy, mut subject) = (policy(), with_parts(subject()));
    mount(&mut policy, &mut subject, "/home/alice/p", "/tmp/p", How::Captured);
    mount(&mut policy, &mut subject, "/home/alice/q", "/data/q", How::ReadOnly);
    policy.runtime.backend = BackendChoice::This(Backend::Microvm(Vmm::Qemu));
    policy.microvm = Some(Microvm {
        accel: Accel::Tcg,
        ..Microvm::default()
    });
    (policy, subject)
}

fn compiled() -> (CompileBundle, GuestPlan) {
    let (policy, subject) = asked();
    let bundle = sr_compiler::compile(&policy, &host(), &subject).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let plan = sr_compiler::guest_plan(&bundle, false);
    (bundle, plan)
}

fn at<'a>(bundle: &'a CompileBundle, target: &str) -> Option<&'a ViewKind> {
    let entries = &bundle.filesystem_plan.entries;
    entries
        .iter()
        .find(|entry| entry.target == target)
        .map(|entry| &entry.what)
}

#[test]
fn a_guest_has_as_long_to_boot_as_the_policy_says_or_two_minutes() {
    let (mut policy, subject) = asked();
    policy.microvm.as_mut().unwrap().boot_timeout = Millis(9000);
    let bundle = sr_compiler::compile(&policy, &host(), &subject).unwrap();
    assert_eq!(bundle.wall_plan.unwrap().boot_timeout, Millis(9000));
    let told = bundle.obligations.iter().find(|o| o.clause == "microvm.bootTimeout");
    let told = told.unwrap();
    assert!(
        told.enforced && told.requested == "9s" && told.mechanism.contains("timer"),
        "{told:?}"
    );
    // gVisor's agent starts within it too, where no policy can speak of a guest.
    policy.microvm = None;
    policy.runtime.backend = BackendChoice::This(Backend::Gvisor);
    let bundle = sr_compiler::compile(&policy, &host(), &subject).unwrap();
    assert_eq!(bundle.wall_plan.unwrap().boot_timeout, Millis(120_000));
}

#[test]
fn the_programs_view_stands_in_the_monitors_as_it_is_natively() {
    let (bundle, _) = compiled();
    let around = bundle.around();
    assert_eq!(
        (bundle.backend.name(), around.backend.name()),
        ("microvm:qemu", "process")
    );
    for entry in &bundle.filesystem_plan.entries {
        let there = at(around, &format!("/guest{}", entry.target.trim_end_matches('/')));
        match &entry.what {
            ViewKind::Devpts => assert_eq!(there, None),
            ViewKind::Scratch { .. } if entry.target == "/dev/shm" => assert_eq!(there, None),
            ViewKind::Proc | ViewKind::Dev | ViewKind::Scratch { .. } => {
                assert_eq!(there, Some(&ViewKind::Directory { mode: 0o755 }), "{}", entry.target);
            }
            what => assert_eq!(there, Some(what), "{}", entry.target),
        }
    }
    // Of all that the monitor sees besides, nothing of the host's can be written.
    for entry in &around.filesystem_plan.entries {
        let own = !entry.target.starts_with("/guest/");
        let writes_through = matches!(entry.what, ViewKind::Writable { .. } | ViewKind::Captured { .. });
        assert!(!(own && writes_through), "{}", entry.target);
    }
    for place in ["/wall/safe-run", "/wall/kernel", "/wall/initrd"] {
        assert!(
            matches!(at(around, place), Some(ViewKind::ReadOnly { directory: false, .. })),
            "{place}"
        );
    }
    for masked in bundle.filesystem_plan.masked.iter().filter(|m| !m.starts_with("/proc")) {
        assert!(
            around.filesystem_plan.masked.contains(&format!("/guest{masked}")),
            "{masked}"
        );
    }
    assert_eq!(around.filesystem_plan.writable, bundle.filesystem_plan.writable);
    let landlock = around.filesystem_plan.landlock.as_ref().unwrap();
    assert!(landlock.deny_network && landlock.rules.iter().any(|rule| rule.path == "/guest/tmp/p"));
    assert_eq!(bundle.filesystem_plan.landlock, None);
}

/// Those that are one file and have the processor's help: what they are shown, told, and where their guest finds its files.
#[test]
fn a_monitor_that_shares_nothing_has_its_files_served() {
    for (vmm, program) in [
        (Vmm::Firecracker, "/wall/firecracker"),
        (Vmm::CloudHypervisor, "/wall/cloud-hypervisor"),
    ] {
        let (mut policy, subject) = asked();
        policy.runtime.backend = BackendChoice::This(Backend::Microvm(vmm));
        policy.microvm = None;
        let mut facts = host();
        facts.landlock_abi = 3;
        let bundle = sr_compiler::compile(&policy, &facts, &subject).unwrap();
        let around = bundle.around();
        assert_eq!(at(around, "/dev/kvm"), Some(&ViewKind::Kvm));
        let monitor = Some(&ViewKind::ReadOnly {
            source: "/usr/bin/qemu-system-x86_64".into(),
            directory: false,
        });
        assert_eq!(at(around, program), monitor);
        let hashed = around.evidence_plan.mounts.iter().find(|mount| mount.target == program);
        assert!(hashed.is_some_and(|mount| mount.hashed));
        let Some(ViewKind::File { content }) = at(around, "/wall/machine.json") else {
            panic!("{vmm:?} is told of no machine");
        };
        let machine: serde_json::Value = serde_json::from_str(content).unwrap();
        assert_eq!(
            machine["vsock"]
                .as_object()
                .unwrap()
                .values()
                .filter(|v| *v == "/tmp/guest")
                .count(),
            1
        );
        let wall = bundle.wall_plan.as_ref().unwrap();
        let (argv, agent, files) = match &wall.monitor {
            MonitorPlan::Firecracker { argv, agent, files } => (argv, agent, files),
            MonitorPlan::CloudHypervisor {
                argv,
                config,
                agent,
                files,
            } => {
                assert_eq!(config, "/wall/machine.json");
                assert_eq!(machine["landlock_enable"], true);
                (argv, agent, files)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(argv[0], program);
        assert_eq!((agent.as_str(), files.as_str()), ("/tmp/guest_1024", "/tmp/guest_1025"));
        let plan = sr_compiler::guest_plan(&bundle, false);
        assert_eq!(
            (plan.share, plan.root),
            (Some(GuestShare::Vsock { port: 1025 }), GuestRoot::Shared)
        );
    }
}

/// QEMU has the device where it is to use it, and nowhere else.
#[test]
fn kvm_is_shown_to_who_uses_it() {
    let (mut policy, subject) = asked();
    let shown = |policy: &PolicySpec| {
        let bundle = sr_compiler::compile(policy, &host(), &subject).unwrap();
        assert_eq!(at(&bundle, "/dev/kvm"), None);
        at(bundle.around(), "/dev/kvm").is_some()
    };
    assert!(!shown(&policy));
    policy.microvm = Some(Microvm::default());
    assert!(shown(&policy));
    policy.runtime.backend = BackendChoice::This(Backend::Gvisor);
    policy.microvm = None;
    assert!(!shown(&policy));
}

#[test]
fn what_is_shown_below_memory_of_the_guests_is_mounted_there_again() {
    let (_, plan) = compiled();
    let targets: Vec<(&str, &GuestMountKind)> = plan.mounts.iter().map(|m| (m.target.as_str(), &m.what)).collect();
    let place = |target: &str| targets.iter().position(|(t, _)| *t == target).unwrap();
    assert!(place("/tmp") < place("/tmp/p") && place("/dev") < place("/dev/shm"));
    assert_eq!(targets[place("/tmp/p")].1, &GuestMountKind::Shared { directory: true });
    assert!(
        !targets
            .iter()
            .any(|(target, _)| *target == "/data/q" || *target == "/usr")
    );
    let share = GuestShare::Virtio { tag: "root".into() };
    assert_eq!((plan.share, plan.root), (Some(share), GuestRoot::Shared));
    let masks = targets.iter().filter(|(_, what)| **what == GuestMountKind::Masked);
    assert!(masks.clone().count() > 5 && masks.into_iter().all(|(target, _)| target.starts_with("/proc/")));
}

#[test]
fn the_guests_kernel_holds_the_limits_and_the_hosts_what_the_monitor_takes() {
    let (mut policy, subject) = asked();
    policy.resources.memory = Some(sr_common::ByteSize(512 << 20));
    policy.resources.cpu = Some(1.5);
    // The host has nothing that could hold them for the program; the guest's kernel has.
    let mut facts = host();
    facts.cgroup = Default::default();
    policy.resources.strength = sr_policy::spec::RequiredStrength::Kernel;
    policy.resources.disk = sr_common::ByteSize(1 << 20);
    let bundle = sr_compiler::compile(&policy, &facts, &subject).unwrap();
    let inside = &bundle.resources_plan;
    for limit in [&inside.cpu, &inside.memory, &inside.pids] {
        let limit = limit.as_ref().unwrap();
        assert_eq!(
            (&limit.mechanism, limit.strength),
            (&LimitMechanism::Guest, Strength::Kernel)
        );
    }
    assert!(!inside.rlimits.contains_key("AS") && !inside.rlimits.contains_key("NPROC"));
    let plan = sr_compiler::guest_plan(&bundle, false);
    assert_eq!((plan.limits.memory, plan.limits.cpu), (Some(512 << 20), Some(1500)));
    let around = &bundle.around().resources_plan;
    assert!(around.memory.as_ref().unwrap().value > 512 << 20);
    assert!(around.pids.as_ref().unwrap().value < 100);
    let MonitorPlan::Qemu { argv } = &bundle.wall_plan.as_ref().unwrap().monitor else {
        panic!("not QEMU");
    };
    let after = |word: &str| argv[argv.iter().position(|w| w == word).unwrap() + 1].as_str();
    assert_eq!((after("-m"), after("-smp")), ("672M", "2"));
}

#[test]
fn nobody_listens_to_a_guests_filter() {
    let (bundle, plan) = compiled();
    for filter in [&bundle.syscalls_plan, &bundle.around().syscalls_plan] {
        assert!(!filter.tells() && !filter.looks_at_paths());
        // SECCOMP_RET_USER_NOTIF
        assert!(
            filter
                .program
                .iter()
                .all(|(code, _, _, k)| *code != 6 || k >> 16 != 0x7fc0)
        );
    }
    let bytes = sr_common::digest::unhex(&plan.filter).unwrap();
    assert_eq!(bytes.len(), bundle.syscalls_plan.program.len() * 8);
}

#[test]
fn what_the_wall_is_made_of_is_hashed_and_nobody_else_is_the_monitors_program() {
    let (bundle, _) = compiled();
    let around = bundle.around();
    let mounts = &around.evidence_plan.mounts;
    let (own, wall) = mounts.split_at(bundle.evidence_plan.mounts.len());
    for (there, here) in own.iter().zip(&bundle.evidence_plan.mounts) {
        assert_eq!(there.target, format!("/guest{}", here.target));
        assert_eq!((&there.source, there.hashed), (&here.source, here.hashed));
    }
    let targets: Vec<&str> = wall.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/wall/kernel", "/wall/initrd", "/usr/bin/qemu-system-x86_64"]);
    assert!(wall.iter().all(|mount| mount.hashed && !mount.directory));
    assert_eq!(around.process_plan.executable, "/wall/safe-run");
    assert_eq!(around.process_plan.user, bundle.process_plan.user);
    // The program's own words are the guest's alone.
    assert!(around.process_plan.env.len() == 3 && around.mac_plan.is_none());
}

#[test]
fn without_parts_there_is_no_guest() {
    let (policy, mut subject) = asked();
    subject.wall = None;
    let faults = sr_compiler::compile(&policy, &host(), &subject).unwrap_err();
    assert_eq!((faults.len(), faults[0].path.as_str()), (1, "runtime.backend"));
}

/// An image is its root: the host shows the mounts of the policy and nothing else.
#[test]
fn a_root_on_a_disk_shows_the_mounts_alone() {
    let (mut policy, mut subject) = asked();
    policy.microvm.as_mut().unwrap().rootfs = Some("alpine".into());
    policy.runtime.workdir = Some("/srv/app".into());
    subject.command.written = "python3".into();
    subject.command.path = "python3".into();
    subject.wall.as_mut().unwrap().images.push(Image {
        role: "rootfs".into(),
        path: "/var/lib/safe-run/artifacts/sha256/rootfs".into(),
        digest: sr_common::Digest::of(b"rootfs"),
        format: Some(DiskFormat::Squashfs),
    });
    let mut host = host();
    host.walls.as_mut().unwrap().rootfs = vec!["alpine".into()];
    for (vmm, share) in [
        (Vmm::Qemu, GuestShare::Virtio { tag: "root".into() }),
        (Vmm::Firecracker, GuestShare::Vsock { port: 1025 }),
        (Vmm::CloudHypervisor, GuestShare::Vsock { port: 1025 }),
    ] {
        policy.runtime.backend = BackendChoice::This(Backend::Microvm(vmm));
        if vmm != Vmm::Qemu {
            policy.microvm.as_mut().unwrap().accel = Accel::Kvm;
        }
        let compile = |policy: &PolicySpec, subject: &Subject| {
            let bundle = sr_compiler::compile(policy, &host, subject);
            bundle.unwrap_or_else(|faults| panic!("{vmm:?}: {faults:#?}"))
        };
        let bundle = compile(&policy, &subject);
        let around = bundle.around();
        let text = serde_json::to_string(&bundle.wall_plan.as_ref().unwrap()).unwrap();
        assert!(text.contains("/wall/rootfs"), "{vmm:?}");
        assert!(matches!(at(around, "/wall/rootfs"), Some(ViewKind::ReadOnly { .. })));
        for shown in ["/guest/tmp/p", "/guest/data/q"] {
            assert!(at(around, shown).is_some(), "{shown}");
        }
        // Nor an empty one in place of what the image has.
        for absent in ["/guest/usr", "/guest/etc", "/guest/etc/passwd", "/guest/srv"] {
            assert_eq!(at(around, absent), None, "{absent}");
        }
        let plan = sr_compiler::guest_plan(&bundle, false);
        let disk = GuestRoot::Disk {
            device: "vda".into(),
            format: DiskFormat::Squashfs,
        };
        assert_eq!((&plan.share, &plan.root), (&Some(share), &disk));
        assert_eq!(
            (plan.executable.as_str(), plan.workdir.as_str()),
            ("python3", "/srv/app")
        );
        let shared = plan
            .mounts
            .iter()
            .filter(|mount| matches!(mount.what, GuestMountKind::Shared { .. }));
        let shared: Vec<&str> = shared.map(|mount| mount.target.as_str()).collect();
        assert_eq!(shared, ["/data/q", "/tmp/p"]);

        // With nothing mounted nothing is shared.
        let (mut alone, mut nothing) = (policy.clone(), subject.clone());
        alone.mounts.clear();
        nothing.mounts.clear();
        let plan = sr_compiler::guest_plan(&compile(&alone, &nothing), false);
        assert_eq!((plan.share, plan.root), (None, disk));
    }
}
