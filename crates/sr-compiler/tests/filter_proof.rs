//! What `disagreement` vouches for, shown without it: every number on every architecture, arguments around the rules'
//! values, and what becomes of a filter of which one instruction is another.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::bundle;
use common::filters::{ARCHITECTURES, arguments, at, numbers, plans};
use sr_compiler::syscalls::bpf::RET_ALLOW;
use sr_compiler::syscalls::interpreter::{Instruction, Program, SeccompData};
use sr_compiler::syscalls::{disagreement, expected};
use sr_compiler::{Arch, syscall_name};
use sr_policy::spec::{OnDenied, SyscallProfile};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn every_number_on_every_architecture() {
    let known: BTreeSet<u32> = ARCHITECTURES.iter().map(|(_, token)| *token).collect();
    assert_eq!(known.len(), ARCHITECTURES.len());
    for arch in Arch::ALL {
        let native = arch.audit();
        let near = (0..32).map(|bit| native ^ 1 << bit).chain([native - 1, native + 1]);
        let foreign: BTreeSet<u32> = known
            .iter()
            .copied()
            .chain(near)
            .filter(|token| *token != native)
            .collect();
        for plan in plans(arch) {
            let program = Program::check(&plan.program).unwrap();
            for nr in numbers() {
                let data = at(native, nr);
                assert_eq!(program.run(&data), expected(&plan, &data), "{arch} {nr:#x}");
                for data in foreign.iter().map(|token| at(*token, nr)) {
                    assert_eq!(program.run(&data), expected(&plan, &data), "{data:x?}");
                }
            }
        }
    }
}

#[test]
fn arguments_around_every_rule() {
    for arch in Arch::ALL {
        for plan in plans(arch) {
            let program = Program::check(&plan.program).unwrap();
            let inputs = arguments(&plan, arch);
            assert!(inputs.len() > 10_000, "{}", inputs.len());
            for data in inputs {
                assert_eq!(program.run(&data), expected(&plan, &data), "{data:x?}");
            }
        }
    }
}

/// Every operation that seccomp has.
const OPERATIONS: [u16; 41] = [
    0x20, 0x00, 0x80, 0x01, 0x81, 0x60, 0x61, 0x02, 0x03, 0x07, 0x87, 0x06, 0x16, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c,
    0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35,
    0x3d, 0x45, 0x4d,
];

fn mutants((op, jt, jf, k): Instruction) -> BTreeSet<Instruction> {
    let mut all: BTreeSet<Instruction> = OPERATIONS.iter().map(|other| (*other, jt, jf, k)).collect();
    for bit in 0..8 {
        all.extend([(op, jt ^ 1 << bit, jf, k), (op, jt, jf ^ 1 << bit, k)]);
    }
    for by in [1, u8::MAX] {
        all.extend([(op, jt.wrapping_add(by), jf, k), (op, jt, jf.wrapping_add(by), k)]);
    }
    all.insert((op, jf, jt, k));
    all.extend((0..32).map(|bit| (op, jt, jf, k ^ 1 << bit)));
    all.extend([k.wrapping_add(1), k.wrapping_sub(1), 0, u32::MAX].map(|k| (op, jt, jf, k)));
    all.remove(&(op, jt, jf, k));
    all
}

/// Why a filter with this instruction changed may still be its plan.
fn reason(old: Instruction, new: Instruction) -> Option<&'static str> {
    let compares = |op| matches!(op, 0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d);
    let jumps_alone = (old.0, old.3) == (new.0, new.3);
    match () {
        () if jumps_alone && !compares(old.0) => Some("what this instruction does not read"),
        () if jumps_alone => Some("a jump to another place that has the same answer"),
        () if compares(old.0) && compares(new.0) && old.3 == new.3 => {
            Some("another comparison, with the same outcome for all that come here")
        }
        () if old.0 == 0x06 && new.0 != 0x06 => Some("no return, but the same answer further on"),
        () => None,
    }
}

#[test]
fn every_changed_instruction_is_found_or_changes_nothing() {
    for (arch, profile, on_denied) in [
        (Arch::X86_64, SyscallProfile::Standard, OnDenied::Errno),
        (Arch::X86_64, SyscallProfile::Strict, OnDenied::Kill),
        (Arch::Aarch64, SyscallProfile::Standard, OnDenied::Errno),
    ] {
        let plan = bundle(arch, |s| (s.profile, s.on_denied) = (profile, on_denied)).syscalls_plan;
        assert_eq!(disagreement(&plan, arch), None);
        let numbers = [arch.audit(), arch.audit() ^ 1, 0x4000_0003].map(|token| numbers().map(move |nr| at(token, nr)));
        // Seven shares no period with what the arguments are made of.
        let inputs = numbers
            .into_iter()
            .flatten()
            .chain(arguments(&plan, arch).into_iter().step_by(7));
        let wanted: Vec<(SeccompData, u32)> = inputs.map(|data| (data, expected(&plan, &data))).collect();
        let (mut found, mut left) = (0, BTreeMap::<_, usize>::new());
        let mut bad = plan.clone();
        for (place, old) in plan.program.iter().copied().enumerate() {
            for new in mutants(old) {
                bad.program[place] = new;
                if disagreement(&bad, arch).is_some() {
                    found += 1;
                    continue;
                }
                let reason = reason(old, new);
                let reason = reason.unwrap_or_else(|| panic!("{place}: {old:x?} as {new:x?} is not found"));
                *left.entry(reason).or_default() += 1;
                if reason == "what this instruction does not read" {
                    continue;
                }
                let program = Program::check(&bad.program).unwrap();
                for (data, answer) in &wanted {
                    assert_eq!(program.run(data), *answer, "{place}: {old:x?} as {new:x?}: {data:x?}");
                }
            }
            bad.program[place] = old;
        }
        println!(
            "{arch} {}: {found} found; the rest changes nothing: {left:?}",
            plan.profile
        );
        assert!(found > 80 * plan.program.len(), "{found}");
    }
}

/// The kernel's `seccomp_is_const_allow`: whether it can see by itself that the filter allows this number, whatever the
/// arguments. Then the number is in a bitmap, and the filter is not run for it.
fn in_the_bitmap(code: &[Instruction], nr: u32, arch: u32) -> bool {
    let (mut a, mut at) = (0u32, 0);
    while let Some((op, jt, jf, k)) = code.get(at) {
        let jump = |holds: bool| usize::from(if holds { *jt } else { *jf });
        match (op, k) {
            (0x20, 0) => a = nr,
            (0x20, 4) => a = arch,
            (0x06, k) => return *k == RET_ALLOW,
            (0x05, k) => at += *k as usize,
            (0x15, k) => at += jump(a == *k),
            (0x35, k) => at += jump(a >= *k),
            (0x25, k) => at += jump(a > *k),
            (0x45, k) => at += jump(a & k != 0),
            (0x54, k) => a &= k,
            _ => return false,
        }
        at += 1;
    }
    false
}

#[test]
fn what_is_always_allowed_is_in_the_kernels_bitmap() {
    for arch in Arch::ALL {
        for plan in plans(arch) {
            let mut there = Vec::new();
            for nr in 0..1024 {
                if in_the_bitmap(&plan.program, nr, arch.audit()) {
                    there.extend(syscall_name(arch, nr));
                }
                assert!(
                    !in_the_bitmap(&plan.program, nr, 0x4000_0003),
                    "the bitmap of 32-bit calls: {nr}"
                );
            }
            there.sort_unstable();
            assert_eq!(there, plan.allowed, "{arch} {}", plan.profile);
        }
    }
}

#[test]
fn programs_are_short_and_shallow() {
    for (arch, profile) in [
        (Arch::X86_64, SyscallProfile::Standard),
        (Arch::X86_64, SyscallProfile::Strict),
        (Arch::Aarch64, SyscallProfile::Standard),
        (Arch::Aarch64, SyscallProfile::Strict),
    ] {
        let plan = bundle(arch, |s| s.profile = profile).syscalls_plan;
        let program = Program::check(&plan.program).unwrap();
        let steps = |nr, args| {
            program
                .trace(&SeccompData {
                    args,
                    ..at(arch.audit(), nr)
                })
                .1
        };
        let length = plan.program.len();
        let deepest = numbers().map(|nr| steps(nr, [0; 6])).max().unwrap();
        let calls = |list: &[(&str, [u64; 6])]| -> Vec<(String, usize)> {
            let here = list.iter().filter_map(|(name, args)| {
                let nr = (0..1024).find(|nr| syscall_name(arch, *nr) == Some(name))?;
                Some(((*name).to_owned(), steps(nr, *args)))
            });
            here.collect()
        };
        // What programs do most, and is in the bitmap; kernels before 5.11 have none.
        let hot = [
            "read",
            "write",
            "futex",
            "mmap",
            "munmap",
            "openat",
            "close",
            "fstat",
            "newfstatat",
            "lseek",
            "clock_gettime",
            "epoll_pwait",
            "recvfrom",
            "sendto",
            "getpid",
        ];
        let hot = calls(&hot.map(|name| (name, [0; 6])));
        // What the kernel runs the filter for, with arguments that all tests are made for.
        let ruled = calls(&[
            ("ioctl", [0, 0x5401, 0, 0, 0, 0]),
            ("clone", [0x003d_0f00, 0, 0, 0, 0, 0]),
            ("socket", [1, 1, 0, 0, 0, 0]),
            ("personality", [0xffff_ffff, 0, 0, 0, 0, 0]),
            ("mknodat", [0, 0, 0o140_644, 0, 0, 0]),
        ]);
        println!("{arch} {profile:?}: {length} instructions, deepest way {deepest}; {hot:?}; {ruled:?}");
        assert!(length <= LENGTH, "{length}");
        assert!(deepest <= DEEPEST, "{deepest}");
        assert!(hot.iter().all(|(_, steps)| *steps <= HOT), "{hot:?}");
        assert!(ruled.iter().all(|(_, steps)| *steps <= RULED), "{ruled:?}");
    }
}

/// Instructions of a program, on its longest way, for calls that are allowed always, and for those with rules.
const LENGTH: usize = 300;
const DEEPEST: usize = 16;
const HOT: usize = 13;
const RULED: usize = 16;
