//! Whole bundles of fixed hosts, kept in tests/compile_snapshot/. The filter is kept as lines of assembly.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, mount, ordinary, policy, root_v1, subject};
use sr_common::facts::{HiddenPath, HostFacts, Interpreter, Subject};
use sr_compiler::CompileBundle;
use sr_policy::spec::PolicySpec;

fn check(name: &str, policy: &PolicySpec, facts: &HostFacts, subject: &Subject) {
    let bundle = sr_compiler::compile(policy, facts, subject).unwrap();
    let bytes = sr_common::canonical::to_bytes(&bundle).unwrap();
    let again = sr_compiler::compile(policy, facts, subject).unwrap();
    assert_eq!(sr_common::canonical::to_bytes(&again).unwrap(), bytes, "compiled twice");
    let back: CompileBundle = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(back, bundle, "read back");

    let mut shown = serde_json::to_value(&bundle).unwrap();
    let program = bundle
        .syscalls_plan
        .program
        .iter()
        .map(|(code, jt, jf, k)| format!("{code:02x} {jt:3} {jf:3} {k:#010x}"));
    shown["syscallsPlan"]["program"] = program.collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../../tests/compile_snapshot");
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_json_snapshot!(name, shown));
}

#[test]
fn standard_for_an_ordinary_user_without_cgroups() {
    let (mut policy, mut subject) = (policy(), subject());
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
        "/data/input",
        How::ReadOnly,
    );
    subject.cwd = "/home/alice/project/src".into();
    subject.hidden = vec![HiddenPath {
        path: "/home/alice/project/.env".into(),
        pattern: ".env*".into(),
        replacement: None,
    }];
    check("ordinary_standard", &policy, &ordinary(), &subject);
}

#[test]
fn strict_for_root_with_cgroup_v1() {
    let (mut policy, mut subject) = (policy(), subject());
    policy.syscalls = serde_json::from_value(
        serde_json::json!({"profile": "strict", "allow": ["inotify_init1"], "deny": ["memfd_create"], "onDenied": "kill"}),
    )
    .unwrap();
    policy.rootfs = serde_json::from_value(
        serde_json::json!({"source": "host", "path": null, "writable": "overlay", "installation": "readOnly"}),
    )
    .unwrap();
    subject.cwd = "/root/project".into();
    subject.command.written = "tool".into();
    subject.command.path = "/opt/tool/bin/tool".into();
    subject.command.interpreters = vec![Interpreter {
        path: "/usr/bin/python3".into(),
        argument: Some("-I".into()),
    }];
    subject.command.prefixes = vec!["/opt/tool".into()];
    subject.command.path_dirs = vec!["/opt/tool/bin".into()];
    mount(&mut policy, &mut subject, "/srv/results", "/out", How::Writable);
    check("root_v1_strict", &policy, &root_v1(), &subject);
}

#[test]
fn standard_on_aarch64() {
    let facts = HostFacts {
        arch: "aarch64".into(),
        ..ordinary()
    };
    check("aarch64_standard", &policy(), &facts, &subject());
}
