//! What `disagreement` vouches for, shown without it: every number on every architecture, arguments around the rules'
//! values, and what becomes of a filter of which one instruction is another.
#![allow(clippy::unwrap_used)] // A panic is a failed test.

mod common;

use common::{How, bundle, number};
use sr_compiler::bundle::SyscallsPlan;
use sr_compiler::syscalls::bpf::{RET_ALLOW, X32_BIT};
use sr_compiler::syscalls::interpreter::{Instruction, Program, SeccompData};
use sr_compiler::syscalls::{disagreement, expected};
use sr_compiler::{Arch, syscall_name};
use sr_policy::spec::{OnDenied, SyscallProfile};
use std::collections::{BTreeMap, BTreeSet};

/// Every `AUDIT_ARCH_*` of `linux/audit.h` (Linux 6.17).
const ARCHITECTURES: [(&str, u32); 56] = [
    ("AARCH64", 0xc000_00b7),
    ("ALPHA", 0xc000_9026),
    ("ARCOMPACT", 0x4000_005d),
    ("ARCOMPACTBE", 0x5d),
    ("ARCV2", 0x4000_00c3),
    ("ARCV2BE", 0xc3),
    ("ARM", 0x4000_0028),
    ("ARMEB", 0x28),
    ("C6X", 0x4000_008c),
    ("C6XBE", 0x8c),
    ("CRIS", 0x4000_004c),
    ("CSKY", 0x4000_00fc),
    ("FRV", 0x5441),
    ("H8300", 0x2e),
    ("HEXAGON", 0xa4),
    ("I386", 0x4000_0003),
    ("IA64", 0xc000_0032),
    ("LOONGARCH32", 0x4000_0102),
    ("LOONGARCH64", 0xc000_0102),
    ("M32R", 0x58),
    ("M68K", 0x04),
    ("MICROBLAZE", 0xbd),
    ("MIPS", 0x08),
    ("MIPS64", 0x8000_0008),
    ("MIPS64N32", 0xa000_0008),
    ("MIPSEL", 0x4000_0008),
    ("MIPSEL64", 0xc000_0008),
    ("MIPSEL64N32", 0xe000_0008),
    ("NDS32", 0x4000_00a7),
    ("NDS32BE", 0xa7),
    ("NIOS2", 0x4000_0071),
    ("OPENRISC", 0x5c),
    ("PARISC", 0x0f),
    ("PARISC64", 0x8000_000f),
    ("PPC", 0x14),
    ("PPC64", 0x8000_0015),
    ("PPC64LE", 0xc000_0015),
    ("RISCV32", 0x4000_00f3),
    ("RISCV64", 0xc000_00f3),
    ("S390", 0x16),
    ("S390X", 0x8000_0016),
    ("SH", 0x2a),
    ("SH64", 0x8000_002a),
    ("SHEL", 0x4000_002a),
    ("SHEL64", 0xc000_002a),
    ("SPARC", 0x02),
    ("SPARC64", 0x8000_002b),
    ("TILEGX", 0xc000_00bf),
    ("TILEGX32", 0x4000_00bf),
    ("TILEPRO", 0x4000_00bc),
    ("UNICORE", 0x4000_006e),
    ("X86_64", 0xc000_003e),
    ("XTENSA", 0x5e),
    // What a kernel of another byte order or another word would say, and none at all.
    ("none", 0),
    ("reversed", 0x3e00_00c0),
    ("all", u32::MAX),
];

/// The plans that differ in what their filters are made of.
fn plans(arch: Arch) -> Vec<SyscallsPlan> {
    let mut plans = Vec::new();
    for profile in [SyscallProfile::Standard, SyscallProfile::Strict] {
        for on_denied in [OnDenied::Errno, OnDenied::Kill, OnDenied::Log] {
            plans.push(bundle(arch, |s| (s.profile, s.on_denied) = (profile, on_denied)).syscalls_plan);
        }
    }
    let by_name = bundle(arch, |s| {
        (s.allow, s.deny) = (
            vec!["ptrace".into()],
            ["ioctl", "sendmsg", "clone3", "read"].map(str::to_owned).into(),
        );
    });
    plans.push(by_name.syscalls_plan);
    let (mut policy, mut subject) = (common::policy(), common::subject());
    common::mount(&mut policy, &mut subject, "/home/alice/p", "/work", How::Captured);
    let facts = sr_common::facts::HostFacts {
        arch: arch.name().into(),
        ..common::ordinary()
    };
    plans.push(sr_compiler::compile(&policy, &facts, &subject).unwrap().syscalls_plan);
    plans
}

fn at(arch: u32, nr: u32) -> SeccompData {
    SeccompData {
        nr,
        arch,
        ..SeccompData::default()
    }
}

/// Numbers 0 to 1023, plain and with the bit of x32, and the edges of what 32 bits hold.
fn numbers() -> impl Iterator<Item = u32> + Clone {
    let bits = (10..32).map(|bit| 1 << bit);
    let edges = bits.flat_map(|bit: u32| [bit - 1, bit, bit + 1, bit | 600]);
    (0..1024)
        .flat_map(|nr| [nr, nr | X32_BIT])
        .chain(edges)
        .chain([u32::MAX - 1, u32::MAX])
}

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

/// Arguments around what the rules of a plan compare with, for the calls that have rules: each value, its neighbours, one
/// and two bits changed, in the argument that is tested and in the one after it; above them, and in all others, nothing,
/// all bits, some.
fn arguments(plan: &SyscallsPlan, arch: Arch) -> Vec<SeccompData> {
    let mut inputs = Vec::new();
    for rule in &plan.conditional {
        let nr = number(arch, &rule.syscall);
        let tests = rule.allow.iter().chain(&rule.deny);
        let mut values = BTreeSet::from([0, u32::MAX]);
        for value in tests.clone().flat_map(|test| [test.value, test.value | !test.mask]) {
            values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), !value]);
            for one in 0..32 {
                values.extend(
                    (0..one)
                        .map(|two| value ^ 1 << one ^ 1 << two)
                        .chain([value ^ 1 << one]),
                );
            }
        }
        let indices: BTreeSet<u8> = tests.flat_map(|test| [test.index, (test.index + 1) % 6]).collect();
        for (index, value) in indices
            .iter()
            .flat_map(|index| values.iter().map(move |value| (*index, *value)))
        {
            for around in [0, u64::MAX, 0x5555_aaaa_0000_0001] {
                let mut data = at(arch.audit(), nr);
                data.args = [around; 6];
                data.args[usize::from(index)] = u64::from(value) | around << 32;
                inputs.push(data);
            }
        }
    }
    inputs
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
const RULED: usize = 15;
