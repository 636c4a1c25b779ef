//! The compiled filter against its plan, for arbitrary policies.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, bundle, number};
use proptest::prelude::*;
use sr_common::facts::HostFacts;
use sr_compiler::bundle::SyscallsPlan;
use sr_compiler::syscalls::bpf::{RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG, RET_USER_NOTIF, X32_BIT};
use sr_compiler::syscalls::interpreter::{Program, Region, SeccompData};
use sr_compiler::syscalls::{disagreement, expected};
use sr_compiler::{Arch, CompileBundle, denial, syscall_name};
use sr_policy::spec::{DeniedScope, ObserveScope, OnDenied, PolicySpec, SyscallProfile, Syscalls};

fn answer(bundle: &CompileBundle, name: &str, args: [u64; 6]) -> u32 {
    let arch = Arch::parse(&bundle.syscalls_plan.arch).unwrap();
    let data = SeccompData {
        nr: number(arch, name),
        arch: arch.audit(),
        instruction_pointer: 0,
        args,
    };
    Program::check(&bundle.syscalls_plan.program).unwrap().run(&data)
}

fn names() -> Vec<&'static str> {
    Arch::ALL
        .iter()
        .flat_map(|arch| (0..1024).filter_map(|nr| syscall_name(*arch, nr)))
        .collect()
}

proptest! {
    #[test]
    fn any_policy_gives_a_filter_that_is_its_plan(
        arch in prop::sample::select(Arch::ALL.to_vec()),
        profile in prop::sample::select(vec![SyscallProfile::Named, SyscallProfile::Strict, SyscallProfile::Standard]),
        observe in any::<bool>(),
        requests in prop::collection::vec(any::<u32>(), 0..3),
        on_denied in prop::sample::select(vec![OnDenied::Errno, OnDenied::Kill, OnDenied::Log, OnDenied::Ask]),
        allow in prop::collection::vec(prop::sample::select(names()), 0..12),
        deny in prop::collection::vec(prop::sample::select(names()), 0..40),
        told in prop::sample::select(vec![DeniedScope::Available, DeniedScope::Network, DeniedScope::Calls, DeniedScope::Paths]),
        calls in prop::collection::vec((0u32..1100, prop::array::uniform6(any::<u64>()), any::<bool>()), 64),
    ) {
        let mut policy = common::policy();
        policy.syscalls.profile = profile;
        if observe {
            policy.evidence.observe = ObserveScope::Calls;
        }
        if !requests.is_empty() {
            policy.syscalls.arguments = [("ioctl".to_owned(), requests.clone()), ("prctl".to_owned(), requests)].into();
        }
        policy.syscalls.on_denied = on_denied;
        policy.evidence.denied = told;
        policy.syscalls.allow = allow.iter().map(|name| (*name).to_owned()).collect();
        policy.syscalls.deny = deny.iter().map(|name| (*name).to_owned()).collect();
        let facts = HostFacts { arch: arch.name().into(), ..common::root_v1() };
        let Ok(bundle) = sr_compiler::compile(&policy, &facts, &common::subject()) else {
            // Only for the reasons that the names give.
            let solo = |name: &str| {
                let mut policy = common::policy();
                policy.syscalls.allow = vec![name.to_owned()];
                sr_compiler::compile(&policy, &facts, &common::subject()).is_err()
            };
            prop_assert!(deny.contains(&"execveat") || deny.contains(&"sendmsg") || allow.iter().any(|name| solo(name)));
            return Ok(());
        };
        let plan = &bundle.syscalls_plan;
        prop_assert_eq!(disagreement(plan, arch), None);
        let program = Program::check(&plan.program).unwrap();
        one_way_one_answer(program, &[arch.audit()], 1100)?;
        for (nr, args, other) in calls {
            let token = if other { 0x4000_0003 } else { arch.audit() };
            let data = SeccompData { nr, arch: token, instruction_pointer: 0, args };
            prop_assert_eq!(program.run(&data), expected(plan, &data), "{:?}", data);
        }
        for name in &deny {
            if let Some(nr) = (0..1024).find(|nr| syscall_name(arch, *nr) == Some(name)) {
                let data = SeccompData { nr, arch: arch.audit(), ..SeccompData::default() };
                prop_assert!(![RET_ALLOW, RET_LOG].contains(&program.run(&data)), "{name} is denied by name");
            }
        }
    }
}

/// A region never takes in a number or an architecture that has another answer, and an argument that was not looked at
/// makes no difference.
fn one_way_one_answer(program: Program<'_>, archs: &[u32], below: u32) -> Result<(), TestCaseError> {
    let at = |nr, arch, args| SeccompData {
        nr,
        arch,
        args,
        ..SeccompData::default()
    };
    for (arch, nr) in archs.iter().flat_map(|arch| (0..below).map(move |nr| (*arch, nr))) {
        let region = program.run_region(&at(nr, arch, [0; 6]));
        prop_assert!(region.last_nr >= nr && region.last_arch >= arch);
        for other in archs.iter().filter(|other| (arch..=region.last_arch).contains(other)) {
            for same in nr..=region.last_nr.min(below) {
                let answer = program.run(&at(same, *other, [0; 6]));
                prop_assert_eq!(
                    answer,
                    region.answer,
                    "{} on {:#x} in {:?} of {}",
                    same,
                    other,
                    region,
                    nr
                );
            }
        }
        for index in 0..6 {
            let mut args = [0; 6];
            args[usize::from(index)] = 5;
            if region.looked & Region::argument(index) == 0 {
                prop_assert_eq!(
                    program.run(&at(nr, arch, args)),
                    region.answer,
                    "argument {} in {:?}",
                    index,
                    region
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_program_is_followed_by_its_regions(
        code in prop::collection::vec(
            (prop::sample::select(vec![
                0x20u16, 0x20, 0x00, 0x80, 0x01, 0x81, 0x07, 0x87, 0x60, 0x61, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x44, 0x54, 0x5c,
                0x64, 0x84, 0xa4, 0xac, 0x05, 0x15, 0x15, 0x1d, 0x25, 0x25, 0x2d, 0x35, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16,
            ]), 0u8..4, 0u8..4, prop::sample::select(vec![0u32, 0, 1, 2, 4, 5, 7, 8, 11, 16, 17, 20, 30, 31])),
            1..40,
        ),
    ) {
        let mut code: Vec<_> = code;
        code.extend([(0x06, 0, 0, 1), (0x06, 0, 0, 2), (0x06, 0, 0, 3), (0x06, 0, 0, 4), (0x06, 0, 0, 5)]);
        if let Ok(program) = Program::check(&code) {
            one_way_one_answer(program, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 30], 40)?;
        }
    }
}

#[test]
fn the_wall_is_closed_in_every_profile_and_answer() {
    let wall = [
        "mount",
        "unshare",
        "setns",
        "bpf",
        "ptrace",
        "io_uring_setup",
        "userfaultfd",
        "open_by_handle_at",
        "pidfd_getfd",
    ];
    for profile in [SyscallProfile::Strict, SyscallProfile::Standard] {
        for on_denied in [OnDenied::Errno, OnDenied::Kill, OnDenied::Log] {
            let bundle = bundle(Arch::X86_64, |s| (s.profile, s.on_denied) = (profile, on_denied));
            for name in wall {
                let answer = answer(&bundle, name, [0; 6]);
                assert_ne!(answer, RET_ALLOW, "{name} {profile:?} {on_denied:?}");
                // Learning lets through what is the program's own affair, never the wall.
                let learnt = ["ptrace", "userfaultfd"].contains(&name) && on_denied == OnDenied::Log;
                assert_eq!(answer == RET_LOG, learnt, "{name} {profile:?} {on_denied:?}");
            }
            let new_user = answer(&bundle, "clone", [0x1000_0011, 0, 0, 0, 0, 0]);
            assert!(![RET_ALLOW, RET_LOG].contains(&new_user), "{profile:?} {on_denied:?}");
        }
    }
}

#[test]
fn argument_rules() {
    let errno = |n: u32| RET_ERRNO | n;
    let standard = bundle(Arch::X86_64, |_| {});
    let thread = 0x003d_0f00;
    for (name, args, expected) in [
        ("clone", [17, 0, 0, 0, 0, 0], RET_ALLOW),
        ("clone", [thread, 0, 0, 0, 0, 0], RET_ALLOW),
        ("clone", [0x4000_0011, 0, 0, 0, 0, 0], errno(1)),
        ("clone", [0x0200_0000, 0, 0, 0, 0, 0], errno(1)),
        ("clone3", [0; 6], errno(38)),
        ("socket", [1, 1, 0, 0, 0, 0], RET_ALLOW),
        // The kernel looks at an int: the high half changes nothing.
        ("socket", [0xdead_0000_0001, 1, 0, 0, 0, 0], RET_ALLOW),
        // Told to the supervisor, which answers EACCES.
        ("socket", [2, 1, 0, 0, 0, 0], RET_USER_NOTIF),
        ("socket", [16, 3, 0, 0, 0, 0], RET_USER_NOTIF),
        ("socket", [40, 1, 0, 0, 0, 0], RET_USER_NOTIF),
        ("socketpair", [2, 1, 0, 0, 0, 0], errno(13)),
        ("ioctl", [0, 0x5401, 0, 0, 0, 0], RET_ALLOW),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], errno(1)),
        ("ioctl", [0, 0xffff_ffff_0000_5412, 0, 0, 0, 0], errno(1)),
        ("mknod", [0, 0o010_644, 0, 0, 0, 0], RET_ALLOW),
        ("mknod", [0, 0o020_644, 0, 0, 0, 0], errno(1)),
        ("mknodat", [0, 0, 0o060_644, 0, 0, 0], errno(1)),
        ("personality", [0xffff_ffff, 0, 0, 0, 0, 0], RET_ALLOW),
        ("personality", [0x0040_0000, 0, 0, 0, 0, 0], errno(1)),
    ] {
        assert_eq!(answer(&standard, name, args), expected, "{name}{args:x?}");
    }
    let strict = bundle(Arch::X86_64, |s| {
        (s.profile, s.on_denied) = (SyscallProfile::Strict, OnDenied::Kill)
    });
    assert_eq!(answer(&strict, "clone3", [0; 6]), errno(38), "libc falls back to clone");
    assert_eq!(
        answer(&strict, "socket", [2, 1, 0, 0, 0, 0]),
        RET_USER_NOTIF,
        "programs live without a network"
    );
    assert_eq!(answer(&strict, "clone", [0x1000_0000, 0, 0, 0, 0, 0]), RET_KILL_PROCESS);
    assert_eq!(answer(&strict, "mount", [0; 6]), RET_KILL_PROCESS);
    // Without sendmsg nobody could be told: the filter answers by itself.
    let silent = bundle(Arch::X86_64, |s| s.deny = vec!["sendmsg".into()]);
    assert_eq!(answer(&silent, "socket", [2, 1, 0, 0, 0, 0]), errno(13));
}

#[test]
fn links_are_told_where_a_directory_is_captured() {
    let bundle = |captured: bool, edit: fn(&mut sr_policy::spec::Syscalls)| {
        let (mut policy, mut subject) = (common::policy(), common::subject());
        let how = if captured { How::Captured } else { How::ReadOnly };
        common::mount(&mut policy, &mut subject, "/home/alice/p", "/work", how);
        edit(&mut policy.syscalls);
        sr_compiler::compile(&policy, &common::ordinary(), &subject).unwrap()
    };
    let with = bundle(true, |_| {});
    let without = bundle(false, |_| {});
    for name in ["link", "linkat"] {
        assert_eq!(answer(&with, name, [7; 6]), RET_USER_NOTIF, "{name}");
        assert_eq!(answer(&without, name, [7; 6]), RET_ALLOW, "{name}");
        let rule = with
            .syscalls_plan
            .conditional
            .iter()
            .find(|r| r.syscall == name)
            .unwrap();
        assert_eq!(rule.otherwise_errno, Some(18), "EXDEV");
        assert!(rule.told && rule.reason.is_some());
        for (executable, denied) in [
            ("git", true),
            ("git-remote-http", true),
            ("ln", false),
            ("gitk", false),
            ("legit", false),
            ("", false),
        ] {
            assert_eq!(rule.denies(executable), denied, "{executable}");
        }
    }
    let socket = with
        .syscalls_plan
        .conditional
        .iter()
        .find(|r| r.syscall == "socket")
        .unwrap();
    assert!(
        socket.denies("git") && socket.denies("curl"),
        "a denied call is denied to all"
    );
    // With nobody to tell, links are what they would be anyway.
    let silent = bundle(true, |s| s.deny = vec!["sendmsg".into()]);
    assert_eq!(answer(&silent, "linkat", [0; 6]), RET_ALLOW);
    // What the policy denies stays denied, and is no matter of names.
    let denied = bundle(true, |s| s.deny = vec!["linkat".into()]);
    assert_eq!(answer(&denied, "linkat", [0; 6]), RET_ERRNO | 1);
    assert_eq!(answer(&denied, "link", [0; 6]), RET_USER_NOTIF);
}

#[test]
fn other_entry_points_are_killed_and_new_calls_do_not_exist() {
    let bundle = bundle(Arch::X86_64, |_| {});
    let program = Program::check(&bundle.syscalls_plan.program).unwrap();
    let run = |nr, arch| {
        program.run(&SeccompData {
            nr,
            arch,
            ..SeccompData::default()
        })
    };
    assert_eq!(run(0, Arch::X86_64.audit()), RET_ALLOW);
    assert_eq!(run(X32_BIT, Arch::X86_64.audit()), RET_KILL_PROCESS);
    assert_eq!(run(3, 0x4000_0003), RET_KILL_PROCESS, "int 0x80");
    assert_eq!(run(63, Arch::Aarch64.audit()), RET_KILL_PROCESS);
    for nr in [336, 423, 470, 1000, X32_BIT - 1] {
        assert_eq!(run(nr, Arch::X86_64.audit()), RET_ERRNO | 38, "{nr}");
    }
}

#[test]
fn names_are_checked() {
    let faults = |allow: &[&str], deny: &[&str]| {
        let mut policy = common::policy();
        policy.syscalls.allow = allow.iter().map(|name| (*name).to_owned()).collect();
        policy.syscalls.deny = deny.iter().map(|name| (*name).to_owned()).collect();
        sr_compiler::compile(&policy, &common::ordinary(), &common::subject()).unwrap_err()
    };
    let slip = &faults(&["read", "ptrce"], &[])[0];
    assert_eq!(
        (slip.code.as_str(), slip.path.as_str()),
        ("SR-CMP-001", "syscalls.allow[1]")
    );
    assert!(slip.remedy.contains("ptrace"), "{slip}");
    assert_eq!(faults(&["mount"], &[])[0].path, "syscalls.allow[0]");
    assert_eq!(faults(&[], &["execveat"])[0].path, "syscalls.deny[0]");
}

#[test]
fn what_is_denied_is_told_where_that_is_asked_and_can_be() {
    let plan = |change: fn(&mut Syscalls)| {
        let mut policy = common::policy();
        policy.evidence.denied = DeniedScope::Calls;
        change(&mut policy.syscalls);
        sr_compiler::compile(&policy, &common::root_v1(), &common::subject()).unwrap()
    };
    for on_denied in [OnDenied::Errno, OnDenied::Kill] {
        let plan = match on_denied {
            OnDenied::Kill => plan(|calls| calls.on_denied = OnDenied::Kill),
            _ => plan(|_| {}),
        };
        assert_eq!(answer(&plan, "ptrace", [0; 6]), RET_USER_NOTIF);
        assert_eq!(answer(&plan, "mount", [0; 6]), RET_USER_NOTIF);
        assert_eq!(answer(&plan, "ioctl", [0, 0x5412, 0, 0, 0, 0]), RET_USER_NOTIF);
        assert_eq!(answer(&plan, "ioctl", [0, 0x5401, 0, 0, 0, 0]), RET_ALLOW);
        // What libraries try and live without.
        assert_eq!(answer(&plan, "clone3", [0; 6]), RET_ERRNO | 38);
    }
    // The kernel's to log, and to let through.
    let logged = plan(|calls| calls.on_denied = OnDenied::Log);
    assert_eq!(
        (answer(&logged, "ptrace", [0; 6]), logged.syscalls_plan.told),
        (RET_LOG, false)
    );
    // Without sendmsg the listener's descriptor cannot be handed over.
    let mute = plan(|calls| calls.deny = vec!["sendmsg".into()]);
    assert_eq!(
        (answer(&mute, "ptrace", [0; 6]), mute.syscalls_plan.tells()),
        (RET_ERRNO | 1, false)
    );
}

#[test]
fn a_denial_names_the_clause_and_what_would_allow_it() {
    let mut policy = common::policy();
    policy.syscalls.deny = vec!["memfd_create".into()];
    let plan = |policy: &PolicySpec, facts: &HostFacts| {
        sr_compiler::compile(policy, facts, &common::subject())
            .unwrap()
            .syscalls_plan
    };
    let standard = plan(&policy, &common::ordinary());
    policy.syscalls.profile = SyscallProfile::Strict;
    let strict = plan(&policy, &common::ordinary());
    let of = |plan: &SyscallsPlan, name: &str, args: [u64; 6]| {
        let denial = denial(plan, name, &args);
        let remedy = denial.remedy.unwrap_or_else(|| "none".into());
        format!("{} | {} | {remedy}", denial.operation, denial.clause)
    };
    let at = |index: usize, value| {
        let mut args = [0; 6];
        args[index] = value;
        args
    };
    for (name, args, said) in [
        ("ptrace", [0; 6], "ptrace | syscalls.profile | none"),
        (
            "modify_ldt",
            [0; 6],
            "modify_ldt | syscalls.profile | syscalls: {allow: [modify_ldt]}",
        ),
        ("mount", [0; 6], "mount | syscalls.profile | none"),
        (
            "memfd_create",
            [0; 6],
            "memfd_create | syscalls.deny | take memfd_create out of syscalls.deny",
        ),
        ("socket", at(0, 16), "socket AF_NETLINK | network.mode | none"),
        ("socket", at(0, 99), "socket family 99 | network.mode | none"),
        (
            "clone",
            at(0, 0x1002_0011),
            "clone CLONE_NEWNS|CLONE_NEWUSER | syscalls.profile | none",
        ),
        ("ioctl", at(1, 0x5412), "ioctl TIOCSTI | syscalls.profile | none"),
        (
            "personality",
            at(0, 0x40_0000),
            "personality 0x400000 | syscalls.profile | none",
        ),
        (
            "mknod",
            at(1, 0o060_644),
            "mknod of a block device | syscalls.profile | none",
        ),
        (
            "prlimit64",
            at(0, 1),
            "prlimit64 of process 1, the sandbox's init | syscalls.profile | none",
        ),
        (
            "sched_setaffinity",
            at(0, 7),
            "sched_setaffinity | resources.cpu | resources: {cpu: all}",
        ),
    ] {
        assert_eq!(of(&standard, name, args), said);
    }
    assert_eq!(
        of(&standard, "socket", at(0, 2)),
        "socket AF_INET | network.mode | network: {mode: allowlist, allow: […]} (not available in this build)"
    );
    assert_eq!(
        of(&strict, "splice", [0; 6]),
        "splice | syscalls.profile | syscalls: {allow: [splice]}, or profile: standard"
    );
}
