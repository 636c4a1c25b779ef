//! Plans: what a policy becomes on a host, and what is refused.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, mount, ordinary, policy, root, root_v1, subject};
use sr_common::facts::{AppArmorFacts, HiddenPath, HostFacts, Interpreter, MacFacts, SelinuxFacts, Subject};
use sr_common::{Control, Fault, Obligation, Strength};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{
    Backing, LandlockAccess, LandlockLinks, LayerMask, LimitMechanism, Owner, ViewKind, WritableSource,
};
use sr_policy::spec::{Files, HashScope, Installation, Mac, PolicySpec, RequiredStrength, RootWritable};

fn compile(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> CompileBundle {
    sr_compiler::compile(policy, facts, subject).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn faults(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> Vec<Fault> {
    sr_compiler::compile(policy, facts, subject).unwrap_err()
}

fn the_fault(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> (String, String) {
    let faults = faults(policy, facts, subject);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    (faults[0].code.to_string(), faults[0].path.clone())
}

fn with_mount(source: &str, target: &str, how: How) -> (PolicySpec, Subject) {
    let (mut policy, mut subject) = (policy(), subject());
    mount(&mut policy, &mut subject, source, target, how);
    (policy, subject)
}

fn at<'a>(bundle: &'a CompileBundle, target: &str) -> Option<&'a ViewKind> {
    bundle
        .filesystem_plan
        .entries
        .iter()
        .find(|entry| entry.target == target)
        .map(|entry| &entry.what)
}

fn code_and_path(code: &str, path: &str) -> (String, String) {
    (code.to_owned(), path.to_owned())
}

#[test]
fn parents_come_before_children_and_all_exist() {
    let (mut policy, mut subject) = with_mount("/home/alice/p", "/work/deep/er", How::Captured);
    mount(&mut policy, &mut subject, "/home/alice/q", "/work/deep", How::ReadOnly);
    let bundle = compile(&policy, &ordinary(), &subject);
    let targets: Vec<&str> = bundle
        .filesystem_plan
        .entries
        .iter()
        .map(|entry| entry.target.as_str())
        .collect();
    for (i, target) in targets.iter().enumerate() {
        let parent = target.rsplit_once('/').unwrap().0;
        let inside_a_bind = parent.starts_with("/work/deep");
        assert!(
            parent.is_empty() || inside_a_bind || targets[..i].contains(&parent),
            "{target}"
        );
    }
    assert_eq!(at(&bundle, "/work"), Some(&ViewKind::Directory { mode: 0o755 }));
    assert!(matches!(at(&bundle, "/work/deep"), Some(ViewKind::ReadOnly { .. })));
    assert!(
        matches!(at(&bundle, "/work/deep/er"), Some(ViewKind::Captured { .. })),
        "outer mounts do not remove inner ones"
    );
}

#[test]
fn a_limit_that_no_json_number_holds_was_another_one_in_the_bundle() {
    let (mut policy, subject) = (policy(), subject());
    policy.resources.memory = Some(sr_common::ByteSize((1 << 53) + 1));
    let refused = the_fault(&policy, &ordinary(), &subject);
    assert_eq!(refused, code_and_path("SR-CMP-001", "resources.memory"));
    policy.resources.memory = Some(sr_common::ByteSize((1 << 53) - 1));
    let bundle = compile(&policy, &ordinary(), &subject);
    let written = sr_common::canonical::to_bytes(&bundle).unwrap();
    assert_eq!(serde_json::from_slice::<CompileBundle>(&written).unwrap(), bundle);
}

#[test]
fn what_is_absent_is_absent() {
    let bundle = compile(&policy(), &root_v1(), &subject());
    for absent in [
        "/root",
        "/srv",
        "/boot",
        "/mnt",
        "/home/alice",
        "/etc/shadow",
        "/var/lib",
        "/run/user",
    ] {
        assert_eq!(at(&bundle, absent), None, "{absent}");
    }
    let facts = HostFacts {
        etc: vec![
            "/etc/shadow".into(),
            "/etc/ssh".into(),
            "/etc/../root".into(),
            "/root".into(),
        ],
        ..root_v1()
    };
    assert_eq!(compile(&policy(), &facts, &subject()).filesystem_plan.entries, {
        compile(
            &policy(),
            &HostFacts {
                etc: vec![],
                ..root_v1()
            },
            &subject(),
        )
        .filesystem_plan
        .entries
    });
}

#[test]
fn dangerous_workspaces_are_refused() {
    for how in [How::Captured, How::Writable] {
        for source in [
            "/",
            "/home",
            "/home/alice",
            "/usr",
            "/usr/src/project",
            "/etc",
            "/var/www",
            "/home/alice/.local",
            "/home/alice/.local/share/safe-run",
            "/home/alice/.local/share/safe-run/runs",
            "/home/alice/.config/safe-run/keys",
        ] {
            let (policy, subject) = with_mount(source, "/work", how);
            let found = faults(&policy, &ordinary(), &subject);
            assert_eq!(
                (found.len(), found[0].code.as_str(), found[0].path.as_str()),
                (1, "SR-CMP-001", "mounts[0].source"),
                "{source}"
            );
            assert!(!found[0].remedy.is_empty());
        }
    }
    for source in ["/", "/proc", "/proc/1", "/sys/fs/cgroup", "/dev/sda", "/run"] {
        let (policy, subject) = with_mount(source, "/work", How::ReadOnly);
        assert_eq!(
            the_fault(&policy, &ordinary(), &subject),
            code_and_path("SR-CMP-001", "mounts[0].source"),
            "{source}"
        );
    }
    for ok in [
        "/home/alice/project",
        "/tmp/x",
        "/home/alicette",
        "/opt/work",
        "/srv/data",
    ] {
        let (policy, subject) = with_mount(ok, "/work", How::Captured);
        compile(&policy, &ordinary(), &subject);
    }
    assert_eq!(WritableSource::new("/usr/../home/x"), None);
}

#[test]
fn targets_that_would_replace_the_walls_own_are_refused() {
    for target in [
        "/",
        "/proc",
        "/proc/self",
        "/dev/null",
        "/sys/fs",
        "/work/../etc",
        "relative",
        "/bin",
        "/lib/x",
        "/etc/passwd/x",
    ] {
        let (policy, subject) = with_mount("/home/alice/project", target, How::ReadOnly);
        assert_eq!(
            the_fault(&policy, &ordinary(), &subject),
            code_and_path("SR-CMP-001", "mounts[0].target"),
            "{target}"
        );
    }
    let (mut policy, mut subject) = with_mount("/home/alice/a", "/work", How::ReadOnly);
    mount(&mut policy, &mut subject, "/home/alice/b", "/work", How::ReadOnly);
    assert_eq!(
        the_fault(&policy, &ordinary(), &subject),
        code_and_path("SR-CMP-001", "mounts[1].target")
    );
}

#[test]
fn safe_runs_own_files_are_in_no_view() {
    let mut facts = ordinary();
    // Read-only, a directory that holds the store may be shown; the store is covered.
    let (mut policy, mut subject) = with_mount("/home/alice", "/host-home", How::ReadOnly);
    facts.private.push("/home/alice/project/.safe-run-keys".into());
    mount(&mut policy, &mut subject, "/home/alice/project", "/work", How::Captured);
    let bundle = compile(&policy, &facts, &subject);
    for masked in [
        "/host-home/.local/share/safe-run",
        "/host-home/.config/safe-run",
        "/host-home/project/.safe-run-keys",
    ] {
        assert!(
            bundle.filesystem_plan.masked.iter().any(|path| path == masked),
            "{masked}"
        );
    }
    let Some(ViewKind::Captured { hidden, .. }) = at(&bundle, "/work") else {
        panic!()
    };
    assert_eq!(
        *hidden,
        [LayerMask {
            path: ".safe-run-keys".into(),
            replacement: None
        }]
    );
    // Writable, it is refused.
    let (policy, subject) = with_mount("/home/alice/project", "/work", How::Writable);
    assert_eq!(
        the_fault(&policy, &facts, &subject),
        code_and_path("SR-CMP-001", "mounts[0].source")
    );
}

#[test]
fn hidden_files_are_left_out_of_every_way_to_them() {
    let (mut policy, mut subject) = with_mount("/home/alice/project", "/home/alice/project", How::Captured);
    mount(
        &mut policy,
        &mut subject,
        "/home/alice/project/sub",
        "/sub",
        How::ReadOnly,
    );
    let hide = |path: &str, replacement: Option<&str>| HiddenPath {
        path: format!("/home/alice/project/{path}"),
        pattern: "*".into(),
        replacement: replacement.map(str::to_owned),
    };
    subject.hidden = vec![hide(".git/config", Some("[core]\n")), hide("sub/.env", None)];
    let bundle = compile(&policy, &ordinary(), &subject);
    let Some(ViewKind::Captured { hidden, .. }) = at(&bundle, "/home/alice/project") else {
        panic!()
    };
    let paths: Vec<(&str, bool)> = hidden
        .iter()
        .map(|mask| (mask.path.as_str(), mask.replacement.is_some()))
        .collect();
    assert_eq!(paths, [(".git/config", true), ("sub/.env", false)]);
    assert!(
        bundle.filesystem_plan.masked.contains(&"/sub/.env".to_owned()),
        "seen through the other mount too"
    );
    assert_eq!(bundle.filesystem_plan.hidden.len(), 2);
}

#[test]
fn installations_are_shown_unless_refused() {
    let (mut policy, mut subject) = with_mount("/home/alice/project", "/home/alice/project", How::Captured);
    subject.command.prefixes = vec![
        "/home/alice/.pyenv/versions/3.12".into(),
        "/home/alice/project/.venv".into(),
    ];
    subject.command.path_dirs = vec!["/home/alice/.pyenv/versions/3.12/bin".into()];
    let bundle = compile(&policy, &ordinary(), &subject);
    assert_eq!(bundle.filesystem_plan.prefixes, ["/home/alice/.pyenv/versions/3.12"]);
    assert_eq!(
        at(&bundle, "/home/alice/project/.venv"),
        None,
        "a venv in the workspace stays part of it"
    );
    assert!(bundle.process_plan.env["PATH"].starts_with("/home/alice/.pyenv/versions/3.12/bin:/usr/local/bin:"));
    policy.rootfs.installation = Installation::Refuse;
    assert_eq!(
        the_fault(&policy, &ordinary(), &subject),
        code_and_path("SR-CMP-001", "rootfs.installation")
    );
    policy.rootfs.installation = Installation::ReadOnly;
    subject.command.prefixes = vec!["/home/alice".into()];
    assert_eq!(
        the_fault(&policy, &ordinary(), &subject),
        code_and_path("SR-CMP-001", "rootfs.installation")
    );
}

#[test]
fn owners_are_only_for_a_privileged_supervisor() {
    let (policy, subject) = with_mount("/home/alice/project", "/work", How::Captured);
    let owner = |facts: &HostFacts| match at(&compile(&policy, facts, &subject), "/work") {
        Some(ViewKind::Captured { owner, .. }) => *owner,
        other => panic!("{other:?}"),
    };
    assert_eq!(owner(&ordinary()), None);
    assert_eq!(owner(&root_v1()), Some(Owner { uid: 1001, gid: 1001 }));
}

#[test]
fn the_working_directory_is_the_callers_where_it_is_shown() {
    let (mut policy, mut subject) = with_mount("/home/alice/project", "/work", How::Captured);
    subject.cwd = "/home/alice/project/src/deep".into();
    let bundle = compile(&policy, &ordinary(), &subject);
    assert_eq!(bundle.process_plan.workdir, "/work/src/deep");
    assert_eq!(bundle.process_plan.env["PWD"], "/work/src/deep");
    subject.cwd = "/home/alice/elsewhere".into();
    assert_eq!(compile(&policy, &ordinary(), &subject).process_plan.workdir, "/");
    policy.runtime.workdir = Some("/scratch/here".into());
    let bundle = compile(&policy, &ordinary(), &subject);
    assert_eq!(
        at(&bundle, "/scratch/here"),
        Some(&ViewKind::Scratch { mode: 0o755 }),
        "nothing else stands there"
    );
}

#[test]
fn a_root_directory_of_ones_own() {
    let (mut policy, mut subject) = (policy(), subject());
    root(&mut policy, &mut subject, "/srv/images/alpine");
    let bundle = compile(&policy, &ordinary(), &subject);
    let read_only = ViewKind::ReadOnly {
        source: "/srv/images/alpine".into(),
        directory: true,
    };
    assert_eq!(bundle.filesystem_plan.entries[0].target, "/");
    assert_eq!(bundle.filesystem_plan.entries[0].what, read_only);
    assert_eq!(at(&bundle, "/usr"), None);
    assert_eq!(bundle.process_plan.env["HOME"], "/tmp");
    for path in [
        "/",
        "/proc/1/root",
        "/home/alice/.local/share/safe-run/x",
        "images/alpine",
    ] {
        root(&mut policy, &mut subject, path);
        assert_eq!(
            the_fault(&policy, &ordinary(), &subject),
            code_and_path("SR-CMP-001", "rootfs.path"),
            "{path:?}"
        );
    }
    subject.root = None;
    assert_eq!(
        the_fault(&policy, &ordinary(), &subject),
        code_and_path("SR-CMP-001", "rootfs.path")
    );
}

#[test]
fn a_root_directory_under_an_overlay_is_the_programs_own() {
    let (mut policy, mut subject) = (policy(), subject());
    policy.rootfs.writable = RootWritable::Overlay;
    for (facts, expected) in [(ordinary(), None), (root_v1(), Some(Owner { uid: 7, gid: 8 }))] {
        for path in ["/srv/images/alpine", "/var/lib/machines/alpine"] {
            root(&mut policy, &mut subject, path);
            let bundle = compile(&policy, &facts, &subject);
            assert!(
                matches!(at(&bundle, "/"), Some(ViewKind::Captured { owner, .. }) if *owner == expected),
                "{path}"
            );
        }
        // What it would show as the program's own is more than a root file system.
        for path in ["/etc", "/usr/share", "/var", facts.home.as_deref().unwrap()] {
            root(&mut policy, &mut subject, path);
            assert_eq!(
                the_fault(&policy, &facts, &subject),
                code_and_path("SR-CMP-001", "rootfs.path"),
                "{path}"
            );
        }
    }
    // The host's own directories keep their owners.
    policy.rootfs = serde_json::from_value(
        serde_json::json!({"source": "host", "path": null, "writable": "overlay", "installation": "readOnly"}),
    )
    .unwrap();
    subject.root = None;
    let bundle = compile(&policy, &root_v1(), &subject);
    assert!(matches!(
        at(&bundle, "/usr"),
        Some(ViewKind::Captured { owner: None, .. })
    ));
}

#[test]
fn what_is_hashed() {
    let (mut policy, mut subject) = with_mount("/home/alice/p", "/work", How::Captured);
    mount(&mut policy, &mut subject, "/srv/data", "/data", How::ReadOnly);
    mount(&mut policy, &mut subject, "/srv/file", "/file", How::ReadOnly);
    mount(&mut policy, &mut subject, "/srv/masked", "/masked", How::ReadOnly);
    subject.mounts[2].directory = false;
    subject.mounts[3].directory = false;
    subject.hidden = vec![HiddenPath {
        path: "/srv/masked".into(),
        pattern: "masked".into(),
        replacement: None,
    }];
    let hashed = |policy: &PolicySpec, subject: &Subject| -> (Vec<bool>, String) {
        let bundle = compile(policy, &ordinary(), subject);
        let of = |o: &&sr_common::Obligation| o.clause == "evidence.hash";
        let obligation = bundle.obligations.iter().find(of).unwrap();
        (
            bundle.evidence_plan.mounts.iter().map(|m| m.hashed).collect(),
            obligation.mechanism.clone(),
        )
    };
    let always = "SHA-256 before the launch: executable, interpreter, script";
    let (files, said) = hashed(&policy, &subject);
    assert_eq!(files, [false, false, true, false]);
    assert_eq!(
        said,
        format!("{always}, mounted files (1); not hashed: files (1); not hashed: directories (2)")
    );
    policy.evidence.hash = HashScope::Tree;
    root(&mut policy, &mut subject, "/srv/images/alpine");
    let (trees, said) = hashed(&policy, &subject);
    assert_eq!(trees, [true, true, true, false, true]);
    assert_eq!(
        said,
        format!("{always}, mounted files (1), mounted directories (3); not hashed: files (1)")
    );
}

#[test]
fn interpreters_go_in_front_as_the_kernel_puts_them() {
    let (mut policy, mut subject) = (policy(), subject());
    policy.runtime.args = vec!["a".into(), "b".into()];
    let argv = |subject: &Subject| compile(&policy, &ordinary(), subject).process_plan.argv;
    assert_eq!(argv(&subject), ["/bin/true", "a", "b"]);
    subject.command.written = "run.foo".into();
    subject.command.path = "/work/run.foo".into();
    let line = |path: &str, argument: Option<&str>| Interpreter {
        path: path.into(),
        argument: argument.map(str::to_owned),
    };
    subject.command.interpreters = vec![line("/opt/foo", Some("-x y")), line("/usr/bin/env", Some("python3"))];
    let plan = compile(&policy, &ordinary(), &subject).process_plan;
    assert_eq!(
        plan.argv,
        ["/usr/bin/env", "python3", "/opt/foo", "-x y", "/work/run.foo", "a", "b"]
    );
    assert_eq!(
        (plan.executable.as_str(), plan.script.as_deref()),
        ("/usr/bin/env", Some("/work/run.foo"))
    );
}

#[test]
fn the_policys_environment_wins_and_nothing_else_is_there() {
    let mut policy = policy();
    policy.runtime.env = [
        ("LANG".to_owned(), "de_DE.UTF-8".to_owned()),
        ("X".to_owned(), "1".to_owned()),
    ]
    .into();
    let env = compile(&policy, &ordinary(), &subject()).process_plan.env;
    let names: Vec<&str> = env.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "HOME", "LANG", "LOGNAME", "PATH", "PWD", "SAFE_RUN", "TMPDIR", "USER", "X"
        ]
    );
    assert_eq!(env["LANG"], "de_DE.UTF-8");
}

#[test]
fn what_a_host_lacks_fails_before_the_launch() {
    type Lack = fn(&mut HostFacts);
    let cases: [(&str, Lack, Option<Control>); 7] = [
        ("launch.preflight.arch", |f| f.arch = "riscv64".into(), None),
        (
            "launch.preflight.userNamespaces",
            |f| f.user_namespaces_blocked = Some("AppArmor".into()),
            None,
        ),
        ("launch.preflight.seccomp", |f| f.seccomp = false, None),
        (
            "launch.preflight.ptrace",
            |f| f.ptrace = false,
            Some(Control::PostureAtExec),
        ),
        (
            "launch.preflight.landlock",
            |f| f.landlock_abi = 0,
            Some(Control::Landlock),
        ),
        ("launch.preflight.user", |f| f.uid = 0, None),
        ("launch.preflight.idRange", |f| f.privileged = true, None),
    ];
    for (path, take_away, degradable) in cases {
        let mut facts = ordinary();
        take_away(&mut facts);
        let mut policy = policy();
        assert_eq!(
            the_fault(&policy, &facts, &subject()),
            code_and_path("SR-RUN-001", path)
        );
        policy.degrade = Control::DEGRADABLE.to_vec();
        match degradable {
            None => assert_eq!(faults(&policy, &facts, &subject())[0].path, path, "cannot be degraded"),
            Some(control) => {
                let bundle = compile(&policy, &facts, &subject());
                let weak: Vec<Control> = bundle
                    .obligations
                    .iter()
                    .filter(|o| !o.enforced)
                    .map(|o| o.control)
                    .collect();
                assert_eq!(weak, [control]);
            }
        }
    }
}

#[test]
fn a_helpers_ceilings_hold_and_nothing_is_above_them() {
    let mut facts = ordinary();
    facts.cgroup = root_v1().cgroup;
    facts.cgroup.helper = Some(sr_common::facts::HelperCeilings {
        memory: Some(8 << 30),
        cpu: Some(3000),
        pids: Some(700),
    });
    let mut policy = policy();
    policy.resources.pids = Some(600);
    policy.resources.cpu = None;
    let bundle = compile(&policy, &facts, &subject());
    let plan = &bundle.resources_plan;
    let value = |limit: &Option<sr_compiler::bundle::Limit>| limit.as_ref().unwrap().value;
    assert_eq!((value(&plan.cpu), value(&plan.pids)), (3000, 600));
    assert!(plan.needs_helper());
    let cpu = bundle.obligations.iter().find(|o| o.control == Control::Cpu).unwrap();
    assert!(
        cpu.mechanism.ends_with("cpu.cfs_quota_us, by safe-run-helper"),
        "{cpu:?}"
    );
    for (change, path) in [
        (
            (|r| r.pids = Some(701)) as fn(&mut sr_policy::spec::Resources),
            "resources.pids",
        ),
        (|r| r.cpu = Some(3.001), "resources.cpu"),
        (|r| r.memory = Some(sr_common::ByteSize(9 << 30)), "resources.memory"),
    ] {
        let mut policy = policy.clone();
        change(&mut policy.resources);
        assert_eq!(
            the_fault(&policy, &facts, &subject()),
            code_and_path("SR-RUN-001", path)
        );
    }
}

#[test]
fn a_helper_limits_what_it_makes() {
    let mut facts = ordinary();
    facts.cgroup = root_v1().cgroup;
    facts.cgroup.helper = Some(sr_common::facts::HelperCeilings {
        cpu: Some(3000),
        ..Default::default()
    });
    let mut policy = policy();
    // Beyond what any operator wrote, in groups of the user's own.
    policy.resources.pids = Some(100_000);
    policy.resources.memory = None;
    policy.resources.cpu = None;
    let bundle = compile(&policy, &facts, &subject());
    let plan = &bundle.resources_plan;
    let by_helper = |limit: &Option<sr_compiler::bundle::Limit>| {
        let limit = limit.as_ref().unwrap();
        let helped = matches!(limit.mechanism, LimitMechanism::Cgroup { helper: true, .. });
        (helped, limit.value, limit.strength)
    };
    assert_eq!(by_helper(&plan.cpu), (true, 3000, Strength::Kernel));
    assert_eq!(by_helper(&plan.pids), (false, 100_000, Strength::Kernel));
    assert_eq!(plan.memory, None);
    assert!(plan.needs_helper());
    let helped = |o: &&sr_common::Obligation| o.mechanism.ends_with(", by safe-run-helper");
    let helped: Vec<_> = bundle.obligations.iter().filter(helped).map(|o| o.control).collect();
    assert_eq!(helped, [Control::Cpu]);
}

#[test]
fn limits_take_the_strongest_mechanism_there_is() {
    let bundle = compile(&policy(), &root_v1(), &subject());
    let plan = &bundle.resources_plan;
    for limit in [&plan.cpu, &plan.memory, &plan.pids].map(|limit| limit.as_ref().unwrap()) {
        assert!(
            matches!(limit.mechanism, LimitMechanism::Cgroup { version: 1, .. }) && limit.strength == Strength::Kernel
        );
    }
    assert!(!plan.rlimits.contains_key("NPROC") && !plan.rlimits.contains_key("AS"));
    let rules = &bundle.syscalls_plan.conditional;
    let affinity = rules.iter().find(|rule| rule.syscall == "sched_setaffinity").unwrap();
    // Of every process but init.
    assert!(affinity.allow.is_empty() && affinity.deny.len() == 1, "{affinity:?}");
    assert_eq!(plan.rlimits["CORE"], 1);

    let plan = compile(&policy(), &ordinary(), &subject()).resources_plan;
    assert_eq!(plan.cpu.unwrap().mechanism, LimitMechanism::Affinity { cpus: 2 });
    assert_eq!(
        (plan.memory.unwrap().strength, plan.rlimits["AS"]),
        (Strength::Sampled, 17 << 30)
    );
    assert_eq!(
        (plan.pids.unwrap().strength, plan.rlimits["NPROC"]),
        (Strength::PerProcess, 512)
    );
}

#[test]
fn what_has_no_limit_is_held_by_nothing_and_said_so() {
    let mut policy = policy();
    let resources = &mut policy.resources;
    (resources.cpu, resources.memory, resources.pids) = (None, None, None);
    // No strength is missing where nothing is to be held.
    resources.strength = RequiredStrength::Kernel;
    for facts in [root_v1(), ordinary()] {
        let bundle = compile(&policy, &facts, &subject());
        let plan = &bundle.resources_plan;
        assert_eq!((&plan.cpu, &plan.memory, &plan.pids), (&None, &None, &None));
        assert!(!plan.rlimits.contains_key("NPROC") && !plan.rlimits.contains_key("AS"));
        let said = |o: &&Obligation| o.requested == "all" && o.mechanism == "no limit asked" && o.strength.is_none();
        let said: Vec<&str> = bundle
            .obligations
            .iter()
            .filter(said)
            .map(|o| o.clause.as_str())
            .collect();
        assert_eq!(said, ["resources.cpu", "resources.memory", "resources.pids"]);
    }
}

#[test]
fn an_affinity_cannot_be_widened_by_the_program() {
    let plan = compile(&policy(), &ordinary(), &subject()).syscalls_plan;
    assert!(!plan.allowed.contains(&"sched_setaffinity".into()));
    let rule = plan
        .conditional
        .iter()
        .find(|rule| rule.syscall == "sched_setaffinity")
        .unwrap();
    assert_eq!(rule.otherwise_errno, Some(1));
}

#[test]
fn a_demanded_strength_fails_the_run_unless_degraded() {
    let mut policy = policy();
    policy.resources.strength = RequiredStrength::Kernel;
    let mut paths: Vec<String> = faults(&policy, &ordinary(), &subject())
        .into_iter()
        .map(|fault| fault.path)
        .collect();
    paths.sort();
    assert_eq!(paths, ["resources.cpu", "resources.memory", "resources.pids"]);
    compile(&policy, &root_v1(), &subject());
    policy.degrade = vec![Control::Cpu, Control::Memory, Control::Pids];
    let bundle = compile(&policy, &ordinary(), &subject());
    let weak: Vec<Control> = bundle
        .obligations
        .iter()
        .filter(|o| !o.enforced)
        .map(|o| o.control)
        .collect();
    assert_eq!(weak, [Control::Cpu, Control::Memory, Control::Pids]);
    assert!(bundle.obligations.iter().all(|o| o.enforced || o.reason.is_some()));

    policy.degrade.clear();
    policy.resources.strength = RequiredStrength::PerProcess;
    let plan = compile(&policy, &ordinary(), &subject()).resources_plan;
    assert_eq!(
        (plan.memory.unwrap().mechanism, plan.rlimits["AS"]),
        (LimitMechanism::Rlimit, 2 << 30)
    );
}

#[test]
fn a_session_lives_in_the_store() {
    let mut policy = policy();
    assert_eq!(
        compile(&policy, &ordinary(), &subject())
            .filesystem_plan
            .writable
            .backing,
        Backing::Tmpfs
    );
    policy.session = Some("auto".into());
    let bundle = compile(&policy, &ordinary(), &subject());
    assert_eq!(bundle.filesystem_plan.writable.backing, Backing::Store);
    assert_eq!(bundle.resources_plan.disk.strength, Strength::Sampled);
    policy.resources.strength = RequiredStrength::Kernel;
    assert_eq!(
        the_fault(&policy, &root_v1(), &subject()),
        code_and_path("SR-RUN-001", "resources.disk")
    );
}

#[test]
fn a_project_quota_holds_what_a_run_alone_keeps_in_the_store() {
    let mut facts = ordinary();
    facts.disk = Some(sr_common::facts::DiskCeilings {
        bytes: 10 << 30,
        files: 1 << 20,
    });
    let mut policy = policy();
    let quota = |policy: &sr_policy::PolicySpec, facts: &sr_common::HostFacts| {
        let plan = compile(policy, facts, &subject()).resources_plan;
        (plan.quota(), plan.disk.strength)
    };
    // What fits into memory is held by a tmpfs.
    assert_eq!(quota(&policy, &facts), (None, Strength::Kernel));
    policy.resources.memory = Some(sr_common::ByteSize(1 << 30));
    policy.resources.disk = sr_common::ByteSize(2 << 30);
    assert!(sr_compiler::wants_quota(&policy, &facts));
    assert_eq!(quota(&policy, &facts), (Some(1 << 19), Strength::Kernel));
    let held = |o: &&sr_common::Obligation| o.mechanism.starts_with("project quota of that size, 524288 files");
    assert_eq!(
        compile(&policy, &facts, &subject())
            .obligations
            .iter()
            .filter(held)
            .count(),
        1
    );
    facts.disk.as_mut().unwrap().files = 1000;
    assert_eq!(quota(&policy, &facts).0, Some(1000));
    let sampled = (None, Strength::Sampled);
    assert_eq!(quota(&policy, &ordinary()), sampled);
    let mut session = policy.clone();
    session.session = Some("auto".into());
    assert_eq!(quota(&session, &facts), sampled);
    let mut nothing = policy.clone();
    nothing.evidence.durability = sr_policy::spec::Durability::None;
    assert!(!sr_compiler::wants_quota(&nothing, &facts));
    policy.resources.disk = sr_common::ByteSize(11 << 30);
    assert_eq!(
        the_fault(&policy, &facts, &subject()),
        code_and_path("SR-RUN-001", "resources.disk")
    );
}

#[test]
fn every_clause_has_an_obligation() {
    let (policy, subject) = with_mount("/home/alice/project", "/work", How::Captured);
    let bundle = compile(&policy, &ordinary(), &subject);
    for clause in [
        "runtime.backend",
        "runtime.command",
        "runtime.args",
        "runtime.env",
        "runtime.workdir",
        "runtime.user",
        "rootfs",
        "rootfs.installation",
        "mounts[0]",
        "hide",
        "resources.cpu",
        "resources.memory",
        "resources.pids",
        "resources.disk",
        "resources.wallTime",
        "resources.openFiles",
        "resources.output",
        "syscalls.profile",
        "syscalls.onDenied",
        "network.mode",
        "evidence.sign",
        "evidence.sampleInterval",
        "evidence.hash",
        "evidence.durability",
    ] {
        assert!(
            bundle.obligations.iter().any(|o| o.clause == clause && o.enforced),
            "{clause}"
        );
    }
    assert!(bundle.network_plan.is_none());
}

#[test]
fn all_faults_are_told_at_once() {
    let (mut policy, subject) = with_mount("/", "/work", How::Captured);
    policy.runtime.backend = "microvm:firecracker".parse().unwrap();
    policy.syscalls.allow = vec!["raed".into()];
    let paths: Vec<String> = faults(&policy, &ordinary(), &subject)
        .into_iter()
        .map(|fault| fault.path)
        .collect();
    let expected = ["launch.facts", "mounts[0].source", "syscalls.allow[0]"];
    assert_eq!(paths, expected);
}

#[test]
fn the_schema_describes_the_bundle() {
    let schema = sr_compiler::bundle_schema();
    let properties = schema.as_value()["properties"].as_object().unwrap();
    assert!(properties.contains_key("filesystemPlan") && properties.contains_key("obligations"));
}

#[test]
fn a_profile_or_a_context_where_the_host_has_its_module() {
    let apparmor = |label: &str| MacFacts {
        apparmor: Some(AppArmorFacts {
            directory: "attr/apparmor".into(),
            label: label.into(),
        }),
        selinux: None,
    };
    let selinux = |enforcing| MacFacts {
        apparmor: None,
        selinux: Some(SelinuxFacts {
            enforcing,
            context: "u:r:own:s0".into(),
        }),
    };
    let (profile, context) = (Mac::Apparmor("p".into()), Mac::Selinux("u:r:t:s0".into()));
    let cases = [
        (&profile, apparmor("unconfined"), Ok("exec p")),
        (&profile, apparmor("safe-run (unconfined)"), Ok("exec p")),
        (&profile, apparmor("a (b) (enforce)"), Ok("stack p")),
        (&profile, apparmor("a (complain)"), Err("by a (complain)")),
        (&profile, selinux(true), Err("AppArmor is not on here, SELinux is")),
        (&profile, MacFacts::default(), Err("AppArmor is not on here")),
        (&context, selinux(true), Ok("u:r:t:s0")),
        (&context, selinux(false), Err("permissive")),
        (
            &context,
            apparmor("unconfined"),
            Err("SELinux is not on here, AppArmor is"),
        ),
        (&context, MacFacts::default(), Err("SELinux is not on here")),
    ];
    for (mac, host, expected) in cases {
        let mut policy = policy();
        policy.mac = Some(mac.clone());
        let facts = HostFacts {
            mac: Some(host),
            ..ordinary()
        };
        let clause = if *mac == profile { "mac.apparmor" } else { "mac.selinux" };
        let obligation = |policy: &PolicySpec| {
            let bundle = compile(policy, &facts, &subject());
            let told = bundle.obligations.iter().find(|o| o.control == Control::Mac).cloned();
            let told = told.unwrap();
            assert_eq!(told.clause, clause);
            (bundle.mac_plan.map(|plan| plan.word()), told)
        };
        match expected {
            Ok(word) => {
                // The permission to go without takes nothing away.
                for degrade in [vec![], vec![Control::Mac]] {
                    policy.degrade = degrade;
                    let (plan, told) = obligation(&policy);
                    assert_eq!(plan.as_deref(), Some(word));
                    assert!(told.enforced && told.mechanism.contains(word), "{told:?}");
                }
            }
            Err(why) => {
                let fault = &faults(&policy, &facts, &subject())[0];
                assert_eq!(
                    (fault.code.as_str(), fault.path.as_str()),
                    ("SR-RUN-001", "launch.preflight.mac")
                );
                assert!(fault.found.starts_with(clause) && fault.found.contains(why), "{fault}");
                assert!(fault.remedy.ends_with("degrade: [mac]"), "{fault}");
                policy.degrade = vec![Control::Mac];
                let (plan, told) = obligation(&policy);
                assert_eq!(plan, None);
                assert!(!told.enforced && told.reason.is_some_and(|reason| reason.contains(why)));
            }
        }
    }
}

#[test]
fn who_names_nothing_has_nothing_of_mandatory_access_control() {
    let bundle = compile(&policy(), &ordinary(), &subject());
    assert!(bundle.mac_plan.is_none() && bundle.obligations.iter().all(|o| o.control != Control::Mac));
}

/// Path, access, and what becomes of links on the way.
fn rules(bundle: &CompileBundle) -> Vec<(&str, LandlockAccess, LandlockLinks)> {
    let landlock = bundle.filesystem_plan.landlock.as_ref().unwrap();
    let rules = landlock.rules.iter();
    rules
        .map(|rule| (rule.path.as_str(), rule.access, rule.links))
        .collect()
}

#[test]
fn what_may_be_opened_is_a_part_of_what_the_view_lets() {
    use LandlockAccess::{List, Read, Write};
    use LandlockLinks::{Followed, Refused, ToFile};
    let (mut policy, subject) = with_mount("/home/alice/project", "/work", How::Captured);
    let files = |read: &[&str], write: &[&str]| {
        let texts = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        Some(Files {
            read: texts(read),
            write: texts(write),
        })
    };
    policy.files = files(&["/usr/lib", "/bin/sh", "/work/src"], &["/work/out", "/dev/shm"]);
    let bundle = compile(&policy, &ordinary(), &subject);
    let all = rules(&bundle);
    assert_eq!(all[0], ("/", List, Followed));
    for expected in [
        ("/lib64/ld-linux-x86-64.so.2", Read, ToFile),
        ("/usr/lib", Read, Refused),
        // By the view's own link.
        ("/usr/bin/sh", Read, Refused),
        ("/work/src", Read, Refused),
        ("/work/out", Write, Refused),
        ("/dev/shm", Write, Refused),
        ("/proc", LandlockAccess::Device, Followed),
    ] {
        assert!(all.contains(&expected), "{expected:?} is not among {all:?}");
    }
    let writes: Vec<&str> = all.iter().filter(|rule| rule.1 == Write).map(|rule| rule.0).collect();
    assert_eq!(writes, ["/work/out", "/dev/shm"], "the view's own rules are replaced");

    // All that can be changed.
    policy.files = files(&[], &["/"]);
    let bundle = compile(&policy, &ordinary(), &subject);
    let all = rules(&bundle);
    for expected in [
        ("/work", Write, Followed),
        ("/tmp", Write, Followed),
        ("/", Read, Refused),
    ] {
        assert!(all.contains(&expected), "{expected:?} is not among {all:?}");
    }

    policy.files = files(&[], &["/work", "/usr/lib"]);
    let refused = the_fault(&policy, &ordinary(), &subject);
    assert_eq!(refused, code_and_path("SR-CMP-001", "files.write[1]"));
    policy.files = files(&[], &["/dev/null"]);
    let refused = the_fault(&policy, &ordinary(), &subject);
    assert_eq!(refused, code_and_path("SR-CMP-001", "files.write[0]"));
}

#[test]
fn what_may_be_opened_is_refused_where_it_cannot_be_held() {
    let (mut policy, subject) = with_mount("/home/alice/project", "/work", How::Captured);
    let host = |landlock_abi| HostFacts {
        landlock_abi,
        ..ordinary()
    };
    policy.files = Some(Files {
        read: vec!["/usr".into()],
        write: vec!["/tmp".into()],
    });
    policy.degrade = vec![Control::Landlock];
    let refused = the_fault(&policy, &host(0), &subject);
    assert_eq!(refused, code_and_path("SR-RUN-001", "launch.preflight.landlock"));
    // Nothing there keeps a file of the workspace from being emptied.
    let refused = the_fault(&policy, &host(2), &subject);
    assert_eq!(refused, code_and_path("SR-RUN-001", "files.write"));
    compile(&policy, &host(3), &subject);
    policy.files = Some(Files {
        read: vec![],
        write: vec!["/work".into()],
    });
    compile(&policy, &host(2), &subject);
}
