//! Coverage: what each wall says of each clause, what is refused for it, and which wall `strongest` picks.

#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, mount, ordinary, policy, root_v1, subject, walls, with_parts};
use sr_common::facts::{HostFacts, ProgramFacts, Subject};
use sr_common::{Answer, Backend, Code, Control, Coverage, Declaration, Holder, Matrix, Strength, Vmm};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::MonitorPlan;
use sr_policy::PolicySpec;
use sr_policy::spec::{
    Accel, BackendChoice, DeniedScope, Files, Mac, Microvm, ObserveScope, OnDenied, RequiredStrength, RootWritable,
};
use std::collections::BTreeMap;

const GVISOR: Backend = Backend::Gvisor;
const QEMU: Backend = Backend::Microvm(Vmm::Qemu);
const CLOUD: Backend = Backend::Microvm(Vmm::CloudHypervisor);
const FIRECRACKER: Backend = Backend::Microvm(Vmm::Firecracker);

fn host() -> HostFacts {
    HostFacts {
        walls: Some(walls()),
        ..root_v1()
    }
}

fn matrix(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> Matrix {
    sr_compiler::matrix(policy, facts, subject).unwrap()
}

fn of(matrix: &Matrix, backend: Backend) -> &Coverage {
    matrix.backends.iter().find(|c| c.backend == backend).unwrap()
}

fn row<'a>(matrix: &'a Matrix, backend: Backend, clause: &str) -> &'a Declaration {
    let mut rows = of(matrix, backend).declarations.iter().filter(|d| d.clause == clause);
    let row = rows
        .next()
        .unwrap_or_else(|| panic!("{backend} says nothing of {clause}"));
    assert!(rows.next().is_none(), "{backend} speaks twice of {clause}");
    row
}

/// The walls that do not cover the policy, each with the clauses that it refuses; what a host lacks aside.
fn refused(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> BTreeMap<Backend, Vec<String>> {
    let matrix = matrix(policy, facts, subject);
    let mut refused = BTreeMap::new();
    for coverage in &matrix.backends {
        let clauses = coverage.declarations.iter().filter(|d| d.answer == Answer::Refused);
        let clauses: Vec<String> = clauses.map(|d| d.clause.clone()).collect();
        assert_eq!(
            coverage.covers,
            clauses.is_empty() && coverage.lacks.is_empty(),
            "{}",
            coverage.backend
        );
        assert_eq!(coverage.covers, coverage.reasons().is_empty());
        if !clauses.is_empty() {
            refused.insert(coverage.backend, clauses);
        }
    }
    refused
}

/// Asks for everything there is.
fn everything() -> (PolicySpec, Subject) {
    let (mut policy, mut subject) = (policy(), subject());
    mount(&mut policy, &mut subject, "/home/alice/project", "/work", How::Captured);
    mount(&mut policy, &mut subject, "/srv/data", "/data", How::ReadOnly);
    mount(&mut policy, &mut subject, "/home/alice/out", "/out", How::Writable);
    policy.files = Some(Files {
        read: vec!["/usr".into()],
        write: vec!["/out".into()],
    });
    policy.mac = Some(Mac::Apparmor("p".into()));
    policy.session = Some("s".into());
    policy.syscalls.allow = vec!["personality".into()];
    policy.syscalls.deny = vec!["fork".into()];
    policy.syscalls.arguments = BTreeMap::from([("prctl".into(), vec![15])]);
    policy.microvm = Some(Microvm {
        vmm: Some(Vmm::Qemu),
        rootfs: Some("alpine".into()),
        ..Microvm::default()
    });
    policy.evidence.denied = DeniedScope::Paths;
    policy.evidence.observe = ObserveScope::Calls;
    (policy, subject)
}

#[test]
fn each_wall_speaks_once_of_each_clause() {
    let (policy, subject) = everything();
    let matrix = matrix(&policy, &host(), &subject);
    let clauses = |coverage: &Coverage| {
        let names = coverage.declarations.iter().map(|d| d.clause.clone());
        let (promises, mut clauses): (Vec<_>, Vec<_>) = names.partition(|clause| clause == "runtime.backend");
        assert!(promises.len() >= 8, "{}", coverage.backend);
        clauses.sort();
        clauses
    };
    let all = clauses(of(&matrix, Backend::Process));
    let mut once = all.clone();
    once.dedup();
    assert_eq!(all, once);
    assert_eq!(all.len(), 39);
    for coverage in &matrix.backends {
        assert_eq!(clauses(coverage), all, "{}", coverage.backend);
        for declared in &coverage.declarations {
            let said = !declared.holds.is_empty() || declared.reason.is_some();
            assert!(
                said && !declared.requested.is_empty() || declared.clause == "runtime.env",
                "{declared:?}"
            );
            assert_eq!(
                declared.answer == Answer::Refused,
                declared.remedy.is_some(),
                "{declared:?}"
            );
        }
    }
}

/// A clause, the walls that refuse it, and what asks for it.
type Case<'a> = (&'a str, &'a [Backend], fn(&mut PolicySpec));

/// What only the host's kernel, or somebody who is told by it, can give.
#[test]
fn what_a_wall_cannot_hold_is_refused_by_it_alone() {
    let other = [GVISOR, QEMU, CLOUD, FIRECRACKER];
    let cases: [Case<'_>; 8] = [
        ("files.read", &other, |p| p.files = Some(Files::default())),
        ("syscalls.onDenied", &other, |p| p.syscalls.on_denied = OnDenied::Ask),
        ("syscalls.onDenied", &[GVISOR], |p| p.syscalls.on_denied = OnDenied::Log),
        ("evidence.denied", &other, |p| p.evidence.denied = DeniedScope::Calls),
        ("evidence.denied", &other, |p| p.evidence.denied = DeniedScope::Paths),
        ("evidence.observe", &other, |p| p.evidence.observe = ObserveScope::Calls),
        ("microvm.rootfs", &[Backend::Process, GVISOR], |p| {
            p.microvm = Some(own_root())
        }),
        ("microvm.vmm", &[QEMU, FIRECRACKER], |p| {
            p.microvm = Some(Microvm {
                vmm: Some(Vmm::CloudHypervisor),
                ..Microvm::default()
            });
        }),
    ];
    assert_eq!(refused(&policy(), &host(), &subject()), BTreeMap::new());
    for (clause, backends, edit) in cases {
        let mut policy = policy();
        edit(&mut policy);
        let refused = refused(&policy, &host(), &subject());
        let by: Vec<Backend> = refused.keys().copied().collect();
        let mut expected = backends.to_vec();
        expected.sort();
        assert_eq!(by, expected, "{clause}");
        assert!(
            refused.values().all(|clauses| clauses.iter().any(|c| c == clause)),
            "{refused:?}"
        );
    }
}

fn own_root() -> Microvm {
    Microvm {
        rootfs: Some("alpine".into()),
        ..Microvm::default()
    }
}

#[test]
fn a_guests_own_root_is_there_and_is_not_written() {
    let mut policy = policy();
    policy.microvm = Some(own_root());
    policy.rootfs.writable = RootWritable::Overlay;
    let refused = refused(&policy, &host(), &subject());
    for guest in [QEMU, CLOUD, FIRECRACKER] {
        assert_eq!(refused[&guest], ["rootfs"], "{guest}");
    }
    policy.rootfs.writable = RootWritable::ReadOnly;
    for (there, lacks) in [(vec!["alpine".to_owned()], 0), (vec!["debian".to_owned()], 1)] {
        let mut host = host();
        host.walls.as_mut().unwrap().rootfs = there;
        let matrix = sr_compiler::matrix(&policy, &host, &subject()).unwrap();
        for guest in matrix
            .backends
            .iter()
            .filter(|b| matches!(b.backend, Backend::Microvm(_)))
        {
            let paths: Vec<&str> = guest.lacks.iter().map(|lack| lack.path.as_str()).collect();
            assert_eq!(paths, vec!["launch.preflight.rootfs"; lacks], "{}", guest.backend);
        }
    }
}

#[test]
fn whatever_is_mounted_is_shared_with_every_guest() {
    for how in [How::ReadOnly, How::Captured, How::Writable] {
        let (mut policy, mut subject) = (policy(), subject());
        mount(&mut policy, &mut subject, "/home/alice/project", "/work", how);
        policy.rootfs.writable = RootWritable::Overlay;
        assert_eq!(refused(&policy, &host(), &subject), BTreeMap::new());
    }
}

#[test]
fn a_profile_of_the_hosts_holds_no_guest_unless_that_is_accepted() {
    let mut policy = policy();
    policy.mac = Some(Mac::Selinux("u:r:t".into()));
    let clause = "mac.selinux";
    let all: Vec<Backend> = Backend::KERNELS.to_vec();
    // This host has no SELinux either.
    assert_eq!(
        refused(&policy, &host(), &subject()).into_keys().collect::<Vec<_>>(),
        all
    );
    policy.degrade = vec![Control::Mac];
    let matrix = matrix(&policy, &host(), &subject());
    for backend in all {
        let row = row(&matrix, backend, clause);
        assert!(
            row.holds.is_empty() && row.answer == Answer::Degraded && of(&matrix, backend).covers,
            "{row:?}"
        );
    }
}

/// An ordinary user without control groups.
#[test]
fn a_guest_holds_limits_that_its_host_cannot() {
    let mut policy = policy();
    policy.resources.strength = RequiredStrength::Kernel;
    let facts = HostFacts {
        walls: Some(walls()),
        ..ordinary()
    };
    let refused = refused(&policy, &facts, &subject());
    let limits = ["resources.cpu", "resources.memory", "resources.pids"];
    assert_eq!(
        refused,
        BTreeMap::from([
            (Backend::Process, limits.map(String::from).to_vec()),
            (GVISOR, limits[..2].iter().map(|clause| (*clause).to_owned()).collect())
        ])
    );
    let matrix = matrix(&policy, &facts, &subject());
    for clause in limits {
        let holds = &row(&matrix, QEMU, clause).holds;
        let guest = holds.iter().find(|hold| hold.by == Holder::Guest).unwrap();
        assert_eq!(guest.strength, Some(Strength::Kernel));
        let outside = holds.iter().find(|hold| hold.by != Holder::Guest).unwrap();
        assert!(outside.strength > guest.strength && outside.mechanism.ends_with(", around the monitor"));
        assert!(row(&matrix, Backend::Process, clause).remedy.is_some());
    }
}

/// A session's layers are sampled, whoever holds `/tmp`.
#[test]
fn what_has_two_parts_is_as_strong_as_the_weaker() {
    let mut policy = policy();
    policy.session = Some("s".into());
    let matrix = matrix(&policy, &host(), &subject());
    for coverage in &matrix.backends {
        let all = coverage.obligations();
        let disk = all.iter().find(|o| o.control == Control::Disk).unwrap();
        assert_eq!(disk.strength, Some(Strength::Sampled), "{}: {disk:?}", coverage.backend);
        assert!(
            disk.reason
                .as_deref()
                .is_some_and(|reason| reason.contains("a session")),
            "{disk:?}"
        );
    }
    policy.resources.strength = RequiredStrength::Kernel;
    let refused = refused(&policy, &host(), &subject());
    assert_eq!(refused.len(), Backend::KERNELS.len());
    assert!(
        refused.values().all(|clauses| clauses == &["resources.disk"]),
        "{refused:?}"
    );
}

#[test]
fn the_native_column_is_what_is_compiled() {
    let (mut policy, subject) = everything();
    policy.microvm = None;
    let mut facts = host();
    for degrade in [vec![], Control::DEGRADABLE.to_vec()] {
        policy.degrade = degrade;
        for abi in [7, 0] {
            facts.landlock_abi = abi;
            let compiled = sr_compiler::compile(&policy, &facts, &subject);
            let matrix = matrix(&policy, &facts, &subject);
            let native = of(&matrix, Backend::Process);
            assert_eq!(native.covers, compiled.is_ok(), "{:?}", native.reasons());
            let Ok(bundle) = compiled else { continue };
            assert_eq!(native.declarations.len(), bundle.obligations.len());
            for obligation in &bundle.obligations {
                let same = |d: &&Declaration| d.clause == obligation.clause && d.requested == obligation.requested;
                let declared = native.declarations.iter().find(same).unwrap();
                assert_eq!(declared.answer == Answer::Held, obligation.enforced, "{obligation:?}");
                assert!(declared.holds.iter().all(|hold| hold.mechanism == obligation.mechanism));
            }
        }
    }
}

#[test]
fn what_a_host_lacks_is_named_with_the_walls_that_need_it() {
    let missing = || ProgramFacts::Missing {
        why: "there is none".into(),
    };
    let mut facts = host();
    let lacks = |facts: &HostFacts| {
        let matrix = matrix(&policy(), facts, &subject());
        let mut all: Vec<(Backend, String)> = Vec::new();
        for coverage in &matrix.backends {
            all.extend(coverage.lacks.iter().map(|lack| (coverage.backend, lack.path.clone())));
        }
        all
    };
    assert_eq!(lacks(&facts), []);
    let walls = facts.walls.as_mut().unwrap();
    walls.runsc = missing();
    walls.qemu = missing();
    walls.cloud_hypervisor = missing();
    walls.firecracker = missing();
    walls.guest = missing();
    walls.kernels = vec!["other".into()];
    let at = |backend, stage: &str| (backend, format!("launch.preflight.{stage}"));
    let all = [
        at(GVISOR, "runsc"),
        at(GVISOR, "guest"),
        at(QEMU, "qemu"),
        at(QEMU, "guest"),
        at(QEMU, "kernel"),
        at(CLOUD, "cloudHypervisor"),
        at(CLOUD, "guest"),
        at(CLOUD, "kernel"),
        at(FIRECRACKER, "firecracker"),
        at(FIRECRACKER, "guest"),
        at(FIRECRACKER, "kernel"),
    ];
    assert_eq!(lacks(&facts), all);
    let mut policy = policy();
    policy.microvm = Some(Microvm {
        kernel: "other".into(),
        ..Microvm::default()
    });
    let matrix = matrix(&policy, &facts, &subject());
    assert!(!of(&matrix, QEMU).lacks.iter().any(|lack| lack.path.ends_with("kernel")));
}

/// As the plan of its machine would refuse it: `strongest` picks what then starts.
#[test]
fn a_qemu_that_cannot_be_shown_its_files_is_not_taken() {
    let lacks = |path: &str, version: &str| {
        let mut facts = host();
        facts.walls.as_mut().unwrap().qemu = ProgramFacts::Found {
            path: path.into(),
            version: Some(version.into()),
        };
        let matrix = matrix(&policy(), &facts, &subject());
        let lacks: Vec<String> = of(&matrix, QEMU).lacks.iter().map(|lack| lack.found.clone()).collect();
        assert_eq!(of(&matrix, QEMU).covers, lacks.is_empty());
        lacks
    };
    assert_eq!(lacks("/usr/bin/qemu", "10.0.2"), [""; 0]);
    assert_eq!(
        lacks("/opt/qemu", "10.0.2"),
        ["/opt/qemu lies outside the system directories"]
    );
    let old = lacks("/usr/bin/qemu", "6.2.0");
    assert!(
        old.len() == 1 && old[0].starts_with("version 6.2.0 is older"),
        "{old:?}"
    );
}

#[test]
fn a_monitor_with_a_known_way_out_of_it_is_not_taken() {
    let lacks = |version: Option<&str>| {
        let mut facts = host();
        let program = || ProgramFacts::Found {
            path: "/usr/bin/x".into(),
            version: version.map(str::to_owned),
        };
        let walls = facts.walls.as_mut().unwrap();
        (walls.firecracker, walls.cloud_hypervisor) = (program(), program());
        // Of this no version is too old.
        walls.runsc = program();
        let matrix = matrix(&policy(), &facts, &subject());
        let lacks = |coverage: &Coverage| -> Vec<(String, String)> {
            let lacks = coverage.lacks.iter();
            lacks.map(|lack| (lack.path.clone(), lack.found.clone())).collect()
        };
        assert_eq!(lacks(of(&matrix, GVISOR)), []);
        let mut all = lacks(of(&matrix, FIRECRACKER));
        all.extend(lacks(of(&matrix, CLOUD)));
        all
    };
    assert_eq!(lacks(Some("v52.0.0")), []);
    let places = |all: &[(String, String)]| all.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    let all = ["firecracker", "cloudHypervisor"].map(|stage| format!("launch.preflight.{stage}"));
    for old in [Some("v1.16.1"), Some("v60.0.0-dev"), None] {
        assert_eq!(places(&lacks(old)), all, "{old:?}");
    }
    // Each has its own oldest.
    assert_eq!(places(&lacks(Some("v51.0"))), all[1..]);
    let old = lacks(Some("v1.16.1"));
    assert!(
        old[0].1.contains("CVE-2026-122192") && old[1].1.contains("CVE-2026-45782"),
        "{old:?}"
    );
}

#[test]
fn without_kvm_a_guest_is_computed_only_where_that_is_written_or_accepted() {
    let mut facts = host();
    facts.walls.as_mut().unwrap().kvm_blocked = Some("there is no /dev/kvm".into());
    let mut policy = policy();
    let of_guests = [QEMU, CLOUD, FIRECRACKER];
    assert_eq!(refused(&policy, &facts, &subject()).into_keys().collect::<Vec<_>>(), {
        let mut all = of_guests.to_vec();
        all.sort();
        all
    });
    let answer = |policy: &PolicySpec, backend| {
        let matrix = matrix(policy, &facts, &subject());
        let declared = of(&matrix, backend).declarations.iter();
        let mut declared =
            declared.filter(|d| d.control == Control::HardwareVirtualization && d.clause == "runtime.backend");
        let one = declared.next().unwrap().clone();
        (one.answer, one.holds.first().map(|hold| hold.by))
    };
    policy.degrade = vec![Control::HardwareVirtualization];
    assert_eq!(answer(&policy, QEMU), (Answer::Degraded, Some(Holder::Monitor)));
    assert_eq!(answer(&policy, FIRECRACKER), (Answer::Refused, None));
    policy.degrade.clear();
    policy.microvm = Some(Microvm {
        accel: Accel::Tcg,
        ..Microvm::default()
    });
    assert_eq!(answer(&policy, QEMU), (Answer::Held, Some(Holder::Monitor)));
    assert_eq!(answer(&policy, CLOUD), (Answer::Refused, None));
}

#[test]
fn the_strongest_that_covers_is_picked_and_the_others_are_told_why_not() {
    let picked = |policy: &PolicySpec, facts: &HostFacts, subject: &Subject| {
        let choice = matrix(policy, facts, subject).strongest?;
        let over: Vec<Backend> = choice.passed_over.iter().map(|passed| passed.backend).collect();
        assert!(choice.passed_over.iter().all(|passed| !passed.reasons.is_empty()));
        Some((choice.picked, over))
    };
    let (mut facts, subject) = (host(), subject());
    let mut policy = policy();
    assert_eq!(picked(&policy, &facts, &subject), Some((FIRECRACKER, vec![])));
    facts.walls.as_mut().unwrap().firecracker = ProgramFacts::Missing { why: "gone".into() };
    assert_eq!(picked(&policy, &facts, &subject), Some((CLOUD, vec![FIRECRACKER])));
    facts.walls.as_mut().unwrap().cloud_hypervisor = ProgramFacts::Missing { why: "gone".into() };
    assert_eq!(
        picked(&policy, &facts, &subject),
        Some((QEMU, vec![FIRECRACKER, CLOUD]))
    );
    facts.walls.as_mut().unwrap().kvm_blocked = Some("none".into());
    assert_eq!(
        picked(&policy, &facts, &subject),
        Some((GVISOR, vec![FIRECRACKER, CLOUD, QEMU]))
    );
    policy.evidence.denied = DeniedScope::Calls;
    let all = vec![FIRECRACKER, CLOUD, QEMU, GVISOR];
    assert_eq!(picked(&policy, &facts, &subject), Some((Backend::Process, all)));
    policy.mac = Some(Mac::Selinux("u:r:t".into()));
    assert_eq!(picked(&policy, &facts, &subject), None);
}

/// `strongest` where nothing but the native wall covers the policy is a run like any other, and says why.
#[test]
fn a_bundle_says_which_wall_was_picked_and_why() {
    let mut policy = policy();
    policy.evidence.denied = DeniedScope::Calls;
    let plain = sr_compiler::compile(&policy, &root_v1(), &subject()).unwrap();
    assert_eq!(plain.choice, None);
    policy.runtime.backend = BackendChoice::Strongest;
    let bundle = sr_compiler::compile(&policy, &host(), &subject()).unwrap();
    let choice = bundle.choice.unwrap();
    assert_eq!(
        (bundle.backend, choice.picked, choice.passed_over.len()),
        (Backend::Process, Backend::Process, 4)
    );
    let told = &bundle.obligations[0];
    assert_eq!(
        (told.clause.as_str(), told.requested.as_str()),
        ("runtime.backend", "strongest")
    );
    assert!(
        told.reason
            .as_deref()
            .unwrap()
            .contains("gvisor: evidence.denied: nobody outside is told")
    );
    assert_eq!(bundle.obligations[1..], plain.obligations);
}

fn faults(policy: &PolicySpec, facts: &HostFacts) -> Vec<(Code, String, String)> {
    let faults = sr_compiler::compile(policy, facts, &subject()).unwrap_err();
    faults.into_iter().map(|f| (f.code, f.path, f.found)).collect()
}

#[test]
fn every_wall_can_be_asked_for() {
    for choice in BackendChoice::all() {
        let mut policy = policy();
        policy.runtime.backend = choice;
        let subject = match choice {
            BackendChoice::This(Backend::Wasm) => common::module(subject()),
            _ => subject(),
        };
        let bundle = sr_compiler::compile(&policy, &host(), &with_parts(subject)).unwrap();
        assert_eq!(
            bundle.wall_plan.is_some(),
            bundle.backend != Backend::Process,
            "{choice}"
        );
        if let BackendChoice::This(backend) = choice {
            assert_eq!(bundle.backend, backend);
        }
    }
}

/// What its column says is what its bundle says; and it may do without KVM only where that is accepted.
#[test]
fn the_column_of_a_guest_is_what_its_bundle_tells() {
    let mut policy = policy();
    policy.runtime.backend = BackendChoice::This(QEMU);
    let mut facts = host();
    let bundle = sr_compiler::compile(&policy, &facts, &with_parts(subject())).unwrap();
    let matrix = matrix(&policy, &facts, &with_parts(subject()));
    assert_eq!(bundle.obligations, of(&matrix, QEMU).obligations());
    let accel = |bundle: &CompileBundle| match &bundle.wall_plan.as_ref().unwrap().monitor {
        MonitorPlan::Qemu { argv } => argv.iter().any(|word| word == "kvm"),
        other => panic!("{other:?}"),
    };
    assert!(accel(&bundle));
    facts.walls.as_mut().unwrap().kvm_blocked = Some("there is no /dev/kvm".into());
    let told = faults(&policy, &facts);
    assert_eq!(
        (told[0].0, told[0].1.as_str(), told.len()),
        (Code::Run002, "launch.preflight.kvm", 1)
    );
    policy.degrade = vec![Control::HardwareVirtualization];
    let bundle = sr_compiler::compile(&policy, &facts, &with_parts(subject())).unwrap();
    assert!(!accel(&bundle));
    let lost: Vec<_> = bundle.obligations.iter().filter(|o| !o.enforced).collect();
    assert!(
        lost.len() == 1 && lost[0].control == Control::HardwareVirtualization,
        "{lost:?}"
    );
    policy.degrade.clear();
    policy.microvm = Some(Microvm {
        accel: Accel::Tcg,
        ..Microvm::default()
    });
    let bundle = sr_compiler::compile(&policy, &facts, &with_parts(subject())).unwrap();
    assert!(!accel(&bundle) && bundle.obligations.iter().all(|o| o.enforced));
}

#[test]
fn a_named_wall_is_refused_for_each_clause_and_each_lack() {
    let mut policy = policy();
    policy.runtime.backend = BackendChoice::This(FIRECRACKER);
    policy.evidence.denied = DeniedScope::Calls;
    let mut facts = host();
    facts.walls.as_mut().unwrap().kvm_blocked = Some("there is no /dev/kvm".into());
    facts.walls.as_mut().unwrap().kernels.clear();
    let told: Vec<(Code, String)> = faults(&policy, &facts)
        .into_iter()
        .map(|(code, path, _)| (code, path))
        .collect();
    let at = |code, path: &str| (code, path.to_owned());
    let expected = [
        at(Code::Run002, "launch.preflight.kernel"),
        at(Code::Run002, "launch.preflight.kvm"),
        at(Code::Cmp001, "evidence.denied"),
    ];
    assert_eq!(told, expected);
    policy.runtime.backend = BackendChoice::Microvm;
    let told = faults(&policy, &facts);
    assert_eq!(told.len(), 1);
    assert!(
        told[0]
            .2
            .starts_with("`microvm` finds no wall that covers this policy here: microvm:firecracker: ")
    );
    assert!(!told[0].2.contains("gvisor"));
    assert_eq!(faults(&policy, &root_v1())[0].1, "launch.facts");
}

#[test]
fn what_no_wall_could_be_compiled_of_is_told_once() {
    let (mut policy, mut subject) = (policy(), subject());
    mount(&mut policy, &mut subject, "/", "/work", How::Captured);
    let faults = sr_compiler::matrix(&policy, &host(), &subject).unwrap_err();
    assert_eq!(
        faults.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
        ["mounts[0].source"]
    );
    let mut facts = host();
    facts.walls = None;
    assert_eq!(
        sr_compiler::matrix(&policy, &facts, &subject).unwrap_err()[0].path,
        "launch.facts"
    );
}

#[test]
fn the_document_is_what_its_schema_says() {
    let (policy, subject) = everything();
    let matrix = matrix(&policy, &host(), &subject);
    let text = serde_json::to_string(&matrix).unwrap();
    assert_eq!(serde_json::from_str::<Matrix>(&text).unwrap(), matrix);
    let schema = sr_compiler::coverage_schema();
    let described = schema.as_value()["properties"].as_object().unwrap();
    let written = serde_json::to_value(&matrix).unwrap();
    assert!(written.as_object().unwrap().keys().eq(described.keys()));
    assert!(text.contains("\"backend\":\"microvm:cloud-hypervisor\""));
}
