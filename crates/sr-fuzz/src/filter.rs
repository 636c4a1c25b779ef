//! Filters: what a policy compiles to answers what its plan says, and a program is taken exactly where the kernel takes it.

use crate::choices::Choices;
use crate::{Judgement, kernel, policy, require};
use sr_common::HostFacts;
use sr_compiler::Arch;
use sr_compiler::syscalls::bpf::X32_BIT;
use sr_compiler::syscalls::interpreter::{Instruction, MAX_INSTRUCTIONS, Program, SeccompData};
use sr_compiler::syscalls::{disagreement, expected};

/// A random policy on either architecture: its filter against its plan for every number and architecture, with random
/// arguments and with those around the rules' values.
pub fn filter(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let (mut spec, facts, subject) = crate::bundle::plain();
    let arch = if c.flag() { Arch::X86_64 } else { Arch::Aarch64 };
    policy::calls(&mut spec, &mut c);
    let facts = HostFacts {
        arch: arch.name().into(),
        ptrace: !c.flag(),
        ..facts
    };
    if !facts.ptrace {
        spec.degrade = vec![sr_common::Control::PostureAtExec];
    }
    let mut compiled = sr_compiler::compile(&spec, &facts, &subject);
    if let Err(faults) = &compiled {
        // Only by name: the wall and the launch floor cannot be moved. Without those names it is a filter.
        for fault in faults {
            let named = fault
                .path
                .strip_prefix("syscalls.")
                .and_then(|path| path.strip_suffix(']'));
            let (list, at) = named
                .and_then(|path| path.split_once('['))
                .ok_or_else(|| format!("{fault}"))?;
            let names = if list == "allow" {
                &mut spec.syscalls.allow
            } else {
                &mut spec.syscalls.deny
            };
            let name = at
                .parse::<usize>()
                .ok()
                .and_then(|at| names.get_mut(at))
                .ok_or_else(|| format!("{fault}"))?;
            *name = "getpid".into();
        }
        compiled = sr_compiler::compile(&spec, &facts, &subject);
    }
    let bundle = compiled.map_err(|faults| format!("{faults:#?}"))?;
    let plan = &bundle.syscalls_plan;
    if let Some(text) = disagreement(plan, arch) {
        return Err(text);
    }
    let program = Program::check(&plan.program).map_err(|e| e.to_string())?;
    let values: Vec<u64> = plan
        .conditional
        .iter()
        .flat_map(|rule| rule.allow.iter().chain(&rule.deny))
        .flat_map(|test| {
            [
                test.value,
                test.value ^ test.mask,
                !test.mask,
                test.value.wrapping_sub(1),
            ]
        })
        .map(u64::from)
        .collect();
    let mut random = c.long() | 1;
    for arch in [Arch::X86_64.audit(), Arch::Aarch64.audit(), 0x4000_0003, 0] {
        for nr in (0..1024)
            .flat_map(|nr| [nr, nr | X32_BIT])
            .chain([X32_BIT - 1, u32::MAX])
        {
            let mut data = SeccompData {
                nr,
                arch,
                ..SeccompData::default()
            };
            for argument in &mut data.args {
                random = random
                    .wrapping_mul(0x5851_f42d_4c95_7f2d)
                    .wrapping_add(0x1405_7b7e_f767_814f);
                let near = values
                    .get((random >> 33) as usize % values.len().max(1))
                    .copied()
                    .unwrap_or(0);
                *argument = match random >> 62 {
                    0 => random,
                    1 => near,
                    2 => near | (random & 0xffff_ffff_0000_0000),
                    _ => random >> 40,
                };
            }
            let (answer, steps) = program.trace(&data);
            require(answer == expected(plan, &data), || {
                format!("{answer:#x}, the plan says {:#x}: {data:x?}", expected(plan, &data))
            })?;
            require(steps <= plan.program.len(), || format!("{steps} instructions run"))?;
        }
    }
    Ok(())
}

/// Every instruction that seccomp has; and some that only other users of classic BPF have.
const CODES: [u16; 50] = [
    0x20, 0x20, 0x20, 0x00, 0x80, 0x01, 0x81, 0x07, 0x87, 0x60, 0x61, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c,
    0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0xac, 0x05, 0x15, 0x15, 0x1d, 0x25, 0x2d,
    0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x28, 0x30, 0x40, 0x94, 0x9c, 0xb1,
];
/// Of these, the last few are of no use in a filter.
const TAKEN: usize = 44;

/// A random program: the check says what the kernel says, and what passes ends.
pub fn program(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let code = match c.below(8) {
        0 => raw(&mut c),
        _ => shaped(&mut c),
    };
    let checked = Program::check(&code);
    let takes = kernel::takes(&code)?;
    require(checked.is_ok() == takes, || {
        format!(
            "the check says {:?}, the kernel {takes}: {code:x?}",
            checked.as_ref().map(|_| ())
        )
    })?;
    let Ok(program) = checked else { return Ok(()) };
    for _ in 0..8 {
        let data = SeccompData {
            nr: c.number() % 512,
            arch: c.number(),
            instruction_pointer: c.long(),
            args: std::array::from_fn(|_| c.long()),
        };
        let (answer, steps) = program.trace(&data);
        require((1..=code.len()).contains(&steps), || {
            format!("{steps} of {} instructions run", code.len())
        })?;
        require(program.run(&data) == answer, || "two runs, two answers".into())?;
        let region = program.run_region(&data);
        require(region.answer == answer && region.last_nr >= data.nr, || {
            format!("{region:x?}: {data:x?}")
        })?;
    }
    Ok(())
}

/// A random program that the kernel takes answers there what it answers here.
pub fn execution(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let mut asked = kernel::PROBED;
    (asked.args[1], asked.args[2]) = (c.long() >> 1, c.long() >> 1 | 1);
    let code = executable(&mut c);
    let Ok(program) = Program::check(&code) else {
        return Ok(());
    };
    let answer = kernel::answers(&code, asked.args[1], asked.args[2])?;
    require(answer == program.run(&asked), || {
        format!(
            "{:#x} here, {answer:#x} in the kernel: {code:x?} {asked:x?}",
            program.run(&asked)
        )
    })
}

/// A program that reads only what of a call is known here.
fn executable(c: &mut Choices<'_>) -> Vec<Instruction> {
    let mut code = shaped(c);
    code.truncate(200);
    code.push((0x16, 0, 0, 0));
    for op in &mut code {
        op.3 = match op.0 {
            // Number, architecture, and the four arguments.
            0x20 => [0, 4, 16, 20, 24, 28, 32, 36, 40, 44][(op.3 / 4 % 10) as usize],
            _ => op.3,
        };
        // A division by nothing ends a thread; loads may find nothing stored.
        op.0 = match op.0 {
            0x3c => 0x2c,
            0x60 => 0x87,
            0x61 => 0x07,
            other => other,
        };
    }
    code
}

/// Eight bytes an instruction, whatever they are.
fn raw(c: &mut Choices<'_>) -> Vec<Instruction> {
    let pieces = c.rest().chunks_exact(8);
    let code = pieces.map(|b| {
        let code = u16::from_le_bytes([b[0], b[1]]);
        (code, b[2], b[3], u32::from_le_bytes([b[4], b[5], b[6], b[7]]))
    });
    code.collect()
}

/// Instructions that are mostly fine, and a return at the end.
fn shaped(c: &mut Choices<'_>) -> Vec<Instruction> {
    let length = match c.below(16) {
        0 => c.below(8),
        1 => MAX_INSTRUCTIONS - 1 + c.below(3),
        _ => 1 + c.below(60),
    };
    // Where the bytes have run out it is the same instruction over and over.
    let mut code: Vec<Instruction> = (0..length)
        .map(|at| {
            let odd = c.below(64) == 0;
            let op = CODES[c.below(if odd { CODES.len() } else { TAKEN })];
            let left = length - at;
            let near = |c: &mut Choices<'_>| c.below((left + usize::from(odd)).min(200)) as u8;
            let (jt, jf) = (near(c), near(c));
            let k = match op {
                _ if odd => c.number(),
                0x20 => 4 * c.below(16) as u32,
                0x05 => c.below(left) as u32,
                0x60 | 0x61 | 0x02 | 0x03 => c.below(16) as u32,
                0x64 | 0x74 => c.below(32) as u32,
                _ => u32::from(c.byte()) + 1,
            };
            (op, jt, jf, k)
        })
        .collect();
    if c.below(32) != 0 {
        code.push((if c.flag() { 0x06 } else { 0x16 }, 0, 0, c.number()));
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::random;
    use std::collections::BTreeSet;

    #[test]
    fn enough_of_what_is_generated_is_a_filter() {
        let all = || (1..400).map(|seed| random(seed, 500));
        let fine = all()
            .filter(|data| Program::check(&shaped(&mut Choices::new(data))).is_ok())
            .count();
        assert!((100..390).contains(&fine), "{fine} of 399");
        let answers = all().filter_map(|data| {
            let code = executable(&mut Choices::new(&data));
            let program = Program::check(&code).ok()?;
            let (answer, steps) = program.trace(&kernel::PROBED);
            (steps > 3).then_some(answer)
        });
        let answers: BTreeSet<u32> = answers.collect();
        assert!(answers.len() >= 50, "{} answers", answers.len());
    }
}
