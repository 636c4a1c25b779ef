//! Plans, and inputs for their filters.

use super::{How, bundle, number};
use sr_compiler::Arch;
use sr_compiler::bundle::SyscallsPlan;
use sr_compiler::syscalls::bpf::X32_BIT;
use sr_compiler::syscalls::interpreter::SeccompData;
use sr_policy::spec::{OnDenied, SyscallProfile};
use std::collections::BTreeSet;

/// Every `AUDIT_ARCH_*` of `linux/audit.h` (Linux 6.17).
pub const ARCHITECTURES: [(&str, u32); 56] = [
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
pub fn plans(arch: Arch) -> Vec<SyscallsPlan> {
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
    let (mut policy, mut subject) = (super::policy(), super::subject());
    super::mount(&mut policy, &mut subject, "/home/alice/p", "/work", How::Captured);
    let facts = sr_common::facts::HostFacts {
        arch: arch.name().into(),
        ..super::ordinary()
    };
    plans.push(sr_compiler::compile(&policy, &facts, &subject).unwrap().syscalls_plan);
    plans
}

/// A call without arguments.
pub fn at(arch: u32, nr: u32) -> SeccompData {
    SeccompData {
        nr,
        arch,
        ..SeccompData::default()
    }
}

/// Numbers 0 to 1023, plain and with the bit of x32, and the edges of what 32 bits hold.
pub fn numbers() -> impl Iterator<Item = u32> + Clone {
    let bits = (10..32).map(|bit| 1 << bit);
    let edges = bits.flat_map(|bit: u32| [bit - 1, bit, bit + 1, bit | 600]);
    (0..1024)
        .flat_map(|nr| [nr, nr | X32_BIT])
        .chain(edges)
        .chain([u32::MAX - 1, u32::MAX])
}

/// Arguments around what the rules of a plan compare with, for the calls that have rules: each value, its neighbours, one
/// and two bits changed, in the argument that is tested and in the one after it; above them, and in all others, nothing,
/// all bits, some.
pub fn arguments(plan: &SyscallsPlan, arch: Arch) -> Vec<SeccompData> {
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
