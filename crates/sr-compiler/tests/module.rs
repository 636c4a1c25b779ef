//! The wall of WebAssembly: what its engine is told, and the native sandbox around its worker.
#![allow(clippy::unwrap_used, clippy::expect_used)] // In tests a panic is a failed test.

mod common;

use common::{module, ordinary, policy, root_v1, subject};
use sr_common::facts::{Image, ResolvedMount, WallFacts, WallParts};
use sr_common::host_calls::{self, HostCalls};
use sr_common::module::{Metering, ModuleKind, ModulePlan};
use sr_common::{Answer, Backend, ByteSize, Digest, HostFacts, Millis, Subject};
use sr_compiler::bundle::{MonitorPlan, ViewKind, WallPlan};
use sr_compiler::{CompileBundle, module_plan};
use sr_policy::spec::{BackendChoice, Mount, PolicySpec, Wasm};

fn parts() -> WallParts {
    let image = |role: &str, path: &str| Image {
        role: role.into(),
        path: path.into(),
        digest: Digest::of(role.as_bytes()),
        format: None,
    };
    WallParts {
        driver: "/opt/safe-run/safe-run-wasm".into(),
        monitor: "/opt/safe-run/safe-run-wasm".into(),
        images: vec![
            image("code", "/home/alice/.local/share/safe-run/artifacts/sha256/c0de"),
            image("module", "/home/alice/project/tool.wasm"),
        ],
    }
}

fn host() -> HostFacts {
    HostFacts {
        walls: Some(common::walls()),
        ..ordinary()
    }
}

fn asked() -> (PolicySpec, Subject) {
    let subject = Subject {
        wall: Some(parts()),
        ..module(subject())
    };
    (policy(), subject)
}

fn mount(policy: &mut PolicySpec, subject: &mut Subject, path: &str, read_only: bool) {
    policy.mounts.push(Mount {
        source: path.into(),
        target: None,
        read_only,
        captured: !read_only,
    });
    subject.mounts.push(ResolvedMount {
        source: path.into(),
        target: path.into(),
        directory: true,
        uid: 1001,
        gid: 1001,
    });
}

fn compiled(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> (CompileBundle, WallPlan, ModulePlan) {
    let bundle = sr_compiler::compile(policy, facts, subject).unwrap();
    let wall = bundle.wall_plan.clone().unwrap();
    let plan = module_plan(&bundle).unwrap();
    (bundle, wall, plan)
}

#[test]
fn what_is_webassembly_gets_its_wall_by_itself() {
    let (policy, subject) = asked();
    let (bundle, wall, plan) = compiled(&policy, &host(), &subject);
    assert_eq!(bundle.backend, Backend::Wasm);
    assert!(matches!(wall.monitor, MonitorPlan::Wasm { .. }) && !wall.shows_program());
    assert_eq!(plan.code, "/wall/code");
    assert_eq!(plan.argv, ["./tool.wasm"]);
    assert_eq!(plan.settings.metering, Metering::Deadline);
    assert_eq!((plan.limits.memory, plan.limits.fuel), (2 << 30, None));
    let around = &wall.around;
    assert_eq!(around.process_plan.executable, "/wall/safe-run-wasm");
    assert_eq!(around.process_plan.argv, ["safe-run-wasm", "run"]);
    // Nothing of what a program is given is its worker's.
    assert!(!around.process_plan.env.contains_key("SAFE_RUN"));
    assert!(around.filesystem_plan.landlock.is_some());
}

#[test]
fn a_worker_is_shown_nothing_of_the_hosts_but_what_is_mounted() {
    let (mut policy, mut subject) = asked();
    mount(&mut policy, &mut subject, "/home/alice/project", true);
    mount(&mut policy, &mut subject, "/home/alice/out", false);
    subject.cwd = "/home/alice/project".into();
    let (_, wall, plan) = compiled(&policy, &host(), &subject);
    let shown = wall
        .around
        .filesystem_plan
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            ViewKind::ReadOnly { source, .. } | ViewKind::Captured { source, .. } | ViewKind::Copy { source } => {
                Some((entry.target.as_str(), source.as_str()))
            }
            ViewKind::Writable { .. } => panic!("{entry:?}"),
            _ => None,
        });
    let mut shown: Vec<_> = shown.collect();
    shown.sort_unstable();
    assert_eq!(
        shown,
        [
            ("/guest/home/alice/out", "/home/alice/out"),
            ("/guest/home/alice/project", "/home/alice/project"),
            ("/wall/code", "/home/alice/.local/share/safe-run/artifacts/sha256/c0de"),
            ("/wall/module", "/home/alice/project/tool.wasm"),
            ("/wall/safe-run-wasm", "/opt/safe-run/safe-run-wasm"),
        ]
    );
    let preopens: Vec<_> = plan
        .preopens
        .iter()
        .map(|own| (own.name.as_str(), own.path.as_str(), own.writable))
        .collect();
    assert_eq!(
        preopens,
        [
            (".", "/guest/home/alice/project", false),
            ("/home/alice/out", "/guest/home/alice/out", true),
            ("/home/alice/project", "/guest/home/alice/project", false),
            ("/tmp", "/guest/tmp", true),
        ]
    );
}

/// `resources` bound what the section asks for, and the other way round.
#[test]
fn the_smaller_of_two_limits_holds() {
    let (mut policy, subject) = asked();
    policy.wasm = Some(Wasm {
        memory: Some(ByteSize(1 << 20)),
        time: Some(Millis(5000)),
        open_files: Some(3),
        fuel: Some(7),
        metering: Metering::Fuel,
        ..Wasm::default()
    });
    let (bundle, wall, plan) = compiled(&policy, &host(), &subject);
    assert_eq!(
        (plan.limits.memory, plan.limits.open_files, plan.limits.fuel),
        (1 << 20, 3, Some(7))
    );
    assert_eq!(bundle.resources_plan.wall_time, Millis(5000));
    assert_eq!(bundle.time_clause(), "wasm.time");
    assert!(wall.around.resources_plan.open_files < 100);
    policy.resources.memory = Some(ByteSize(64 << 10));
    policy.resources.wall_time = Millis(1000);
    policy.resources.open_files = 2;
    let (bundle, wall, plan) = compiled(&policy, &root_with_walls(), &subject);
    assert_eq!((plan.limits.memory, plan.limits.open_files), (64 << 10, 2));
    assert_eq!(
        (bundle.resources_plan.wall_time, bundle.time_clause()),
        (Millis(1000), "resources.wallTime")
    );
    // The engine has room of its own.
    assert!(wall.around.resources_plan.memory.unwrap().value > 64 << 20);
    assert!(!wall.around.resources_plan.rlimits.contains_key("AS"));
}

fn root_with_walls() -> HostFacts {
    HostFacts {
        walls: Some(common::walls()),
        ..root_v1()
    }
}

#[test]
fn each_kind_has_its_walls() {
    let (mut policy, subject) = asked();
    let refused = |policy: &PolicySpec, subject: &Subject| {
        let faults = sr_compiler::compile(policy, &host(), subject).unwrap_err();
        let fault = faults.into_iter().next().unwrap();
        (fault.path, fault.found)
    };
    for backend in Backend::KERNELS {
        policy.runtime.backend = BackendChoice::This(backend);
        let (path, found) = refused(&policy, &subject);
        assert_eq!(path, "runtime.command");
        assert!(found.contains("which no kernel executes"), "{found}");
    }
    policy.runtime.backend = BackendChoice::This(Backend::Wasm);
    let (path, found) = refused(&policy, &common::subject());
    assert_eq!(
        (path.as_str(), found.as_str()),
        ("runtime.command", "/bin/true is no WebAssembly")
    );
    policy.runtime.backend = BackendChoice::Strongest;
    let matrix = sr_compiler::matrix(&policy, &host(), &subject).unwrap();
    let walls: Vec<_> = matrix.backends.iter().map(|coverage| coverage.backend).collect();
    assert_eq!(walls, [Backend::Wasm]);
    assert_eq!(compiled(&policy, &host(), &subject).0.backend, Backend::Wasm);
}

/// A worker reserves more addresses than it may use, so nothing on these holds its memory.
#[test]
fn memory_without_a_control_group_is_sampled_and_said_to_be() {
    use sr_common::{Control, Strength};
    let (mut policy, subject) = asked();
    let bundle = compiled(&policy, &host(), &subject).0;
    let memory = bundle
        .obligations
        .iter()
        .find(|o| o.clause == "resources.memory")
        .unwrap();
    assert_eq!(memory.strength, Some(Strength::Sampled));
    assert!(!memory.mechanism.contains("RLIMIT_AS"), "{memory:?}");
    policy.resources.strength = sr_policy::spec::RequiredStrength::PerProcess;
    policy.resources.cpu = None;
    policy.resources.pids = None;
    let faults = sr_compiler::compile(&policy, &host(), &subject).unwrap_err();
    assert!(
        faults.iter().any(|fault| fault.path == "resources.memory"),
        "{faults:?}"
    );
    policy.degrade = vec![Control::Memory];
    let bundle = compiled(&policy, &host(), &subject).0;
    let memory = bundle
        .obligations
        .iter()
        .find(|o| o.clause == "resources.memory")
        .unwrap();
    assert!(!memory.enforced, "{memory:?}");
}

/// A project that exchanges its module for a script has not got rid of the limits.
#[test]
fn a_section_for_modules_lets_nothing_else_run() {
    let (mut policy, _) = asked();
    policy.wasm = Some(Wasm::default());
    for choice in [BackendChoice::Auto, BackendChoice::Strongest] {
        policy.runtime.backend = choice;
        let faults = sr_compiler::compile(&policy, &host(), &common::subject()).unwrap_err();
        assert_eq!(faults[0].path, "wasm", "{faults:?}");
    }
}

#[test]
fn a_worker_that_is_not_there_is_named_with_what_builds_it() {
    let (policy, subject) = asked();
    let why = sr_common::facts::ProgramFacts::Missing {
        why: "/opt/safe-run/safe-run-wasm does not exist".into(),
    };
    let facts = HostFacts {
        walls: Some(WallFacts {
            wasm: why,
            ..common::walls()
        }),
        ..ordinary()
    };
    let faults = sr_compiler::compile(&policy, &facts, &subject).unwrap_err();
    let [fault] = faults.as_slice() else {
        panic!("{faults:?}")
    };
    assert_eq!(
        (fault.code.as_str(), fault.path.as_str()),
        ("SR-RUN-001", "launch.preflight.wasm")
    );
    assert!(fault.remedy.contains("cargo xtask wasm"), "{fault:?}");
}

/// What it cannot hold it refuses, by the clause; the rest it declares, each clause once.
#[test]
fn what_an_engine_cannot_hold_is_refused() {
    use sr_policy::spec::{DeniedScope, Files, ObserveScope, OnDenied, RootWritable};
    let refused = |change: &dyn Fn(&mut PolicySpec, &mut Subject)| {
        let (mut policy, mut subject) = asked();
        change(&mut policy, &mut subject);
        let matrix = sr_compiler::matrix(&policy, &host(), &subject).unwrap();
        let own = matrix.backends.into_iter().next().unwrap();
        let no = own.declarations.iter().filter(|d| d.answer == Answer::Refused);
        no.map(|d| d.clause.clone()).collect::<Vec<_>>()
    };
    assert_eq!(refused(&|_, _| {}), Vec::<String>::new());
    assert_eq!(refused(&|p, _| p.rootfs.writable = RootWritable::Overlay), ["rootfs"]);
    assert_eq!(
        refused(&|p, _| p.syscalls.on_denied = OnDenied::Ask),
        ["syscalls.onDenied"]
    );
    assert_eq!(
        refused(&|p, _| p.evidence.denied = DeniedScope::Paths),
        ["evidence.denied"]
    );
    assert_eq!(
        refused(&|p, _| p.evidence.observe = ObserveScope::Calls),
        ["evidence.observe"]
    );
    let files = |p: &mut PolicySpec, _: &mut Subject| p.files = Some(Files::default());
    assert_eq!(refused(&files), ["files.read", "files.write"]);
    let file = |p: &mut PolicySpec, s: &mut Subject| {
        mount(p, s, "/home/alice/list.txt", true);
        s.mounts[0].directory = false;
    };
    assert_eq!(refused(&file), ["mounts[0]"]);
    // Rules for what the other kind has would hold nothing.
    let rules = |kind: ModuleKind, name: &'static str| {
        refused(&move |p, s| {
            s.command.module.as_mut().unwrap().kind = kind;
            let rules = [(name.to_owned(), host_calls::Rule::Deny)].into();
            p.wasm = Some(Wasm {
                host_calls: HostCalls { rules },
                ..Wasm::default()
            });
        })
    };
    let (function, interface) = ("random_get", "wasi:random/random");
    assert_eq!(rules(ModuleKind::Core, function), Vec::<String>::new());
    assert_eq!(rules(ModuleKind::Component, interface), Vec::<String>::new());
    assert_eq!(rules(ModuleKind::Core, interface), ["wasm.hostCalls"]);
    assert_eq!(rules(ModuleKind::Component, function), ["wasm.hostCalls"]);
}

#[test]
fn a_section_is_declared_field_by_field() {
    let (mut policy, subject) = asked();
    policy.wasm = Some(Wasm {
        memory: Some(ByteSize(1 << 20)),
        ..Wasm::default()
    });
    let bundle = compiled(&policy, &host(), &subject).0;
    let told: Vec<_> = bundle
        .obligations
        .iter()
        .filter(|o| o.clause.starts_with("wasm."))
        .map(|o| (o.clause.as_str(), o.mechanism.as_str(), o.enforced))
        .collect();
    assert_eq!(
        told,
        [
            (
                "wasm.metering",
                "engine: nothing is counted: the time is kept outside",
                true
            ),
            ("wasm.memory", "engine: asked before a memory or a table grows", true),
            ("wasm.stack", "engine: looked at in every call", true),
            (
                "wasm.tableElements",
                "engine: asked before a memory or a table grows",
                true
            ),
            ("wasm.compileTime", "safe-run: timer of the run that compiles it", true),
        ]
    );
}
