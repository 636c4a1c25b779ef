//! From decisions by number to classic BPF: a binary search over ranges of numbers that share a decision, short where the
//! kernel really runs it. It knows numbers and answers, no names and no policy.

use super::interpreter::Instruction;
use super::table::Arch;
use crate::bundle::{ArgumentTest, ConditionalRule};

/// `SECCOMP_RET_*`.
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
pub const RET_ERRNO: u32 = 0x0005_0000;
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
pub const RET_LOG: u32 = 0x7ffc_0000;
pub const RET_ALLOW: u32 = 0x7fff_0000;

/// Bit 30 of the number marks an x32 call on x86_64.
pub const X32_BIT: u32 = 0x4000_0000;

const LD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

/// What the filter does about one number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decision<'a> {
    /// The same answer for all arguments.
    Answer(u32),
    /// By arguments; `denied` where the rule does not allow the call, else `allowed`.
    Arguments {
        rule: &'a ConditionalRule,
        allowed: u32,
        denied: u32,
    },
}

impl PartialEq for Decision<'_> {
    /// Whether both decide the same way, for whichever calls they were made.
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Decision::Answer(a), Decision::Answer(b)) => a == b,
            (
                Decision::Arguments {
                    rule: a,
                    allowed: allows,
                    denied: denies,
                },
                Decision::Arguments {
                    rule: b,
                    allowed,
                    denied,
                },
            ) => (&a.allow, &a.deny, allows, denies) == (&b.allow, &b.deny, allowed, denied),
            _ => false,
        }
    }
}

/// Decisions by number, each from its number up to the next.
type Ranges<'a> = [(u32, Decision<'a>)];

/// The program: architecture, then `decisions[nr]`, `beyond` for every number that is not in `decisions`, and x32.
pub(crate) fn render(arch: Arch, decisions: &[Decision<'_>], beyond: u32) -> Vec<Instruction> {
    let mut ranges: Vec<(u32, Decision<'_>)> = Vec::new();
    for (nr, decision) in (0u32..).zip(decisions.iter().copied().chain([Decision::Answer(beyond)])) {
        if ranges.last().is_none_or(|(_, last)| *last != decision) {
            ranges.push((nr, decision));
        }
    }
    if arch == Arch::X86_64 {
        ranges.push((X32_BIT, Decision::Answer(RET_KILL_PROCESS)));
    }
    let mut code = Vec::with_capacity(3 * ranges.len());
    code.extend([
        (LD_WORD, 0, 0, ARCH),
        (JEQ, 1, 0, arch.audit()),
        (RET, 0, 0, RET_KILL_PROCESS),
        (LD_WORD, 0, 0, NR),
    ]);
    search(&ranges, &mut code);
    code
}

/// How much nearer to the top an argument rule stands than an answer. The kernel keeps a bitmap of the numbers that a
/// filter allows by number and architecture alone and does not run it for them: what is run often are argument rules.
const ARGUMENTS_WEIGHT: usize = 32;

/// Where the two sides come nearest to equal weight; both hold a range.
fn middle(ranges: &Ranges<'_>) -> usize {
    let weight = |(_, decision): &(u32, Decision<'_>)| match decision {
        Decision::Answer(_) => 1,
        Decision::Arguments { .. } => ARGUMENTS_WEIGHT,
    };
    let all: usize = ranges.iter().map(weight).sum();
    let (mut at, mut below) = (0, 0);
    while at + 1 < ranges.len() {
        let with = below + weight(&ranges[at]);
        // One more below would leave the sides further apart.
        if at > 0 && with.abs_diff(all - with) > below.abs_diff(all - below) {
            break;
        }
        (at, below) = (at + 1, with);
    }
    at
}

// The accumulator holds the number. Returns are repeated at the leaves rather than shared: every jump stays short.
fn search(ranges: &Ranges<'_>, code: &mut Vec<Instruction>) {
    match ranges {
        [] => {}
        [(_, Decision::Answer(answer))] => code.push((RET, 0, 0, *answer)),
        [(_, Decision::Arguments { rule, allowed, denied })] => arguments(rule, *allowed, *denied, code),
        _ => {
            let (below, from) = ranges.split_at(middle(ranges));
            let branch = code.len();
            code.push((JGE, 0, 0, from[0].0));
            search(below, code);
            let distance = code.len() - branch - 1;
            match u8::try_from(distance) {
                Ok(distance) => code[branch].1 = distance,
                // Too far for a conditional jump: step over an unconditional one, which has 32 bits.
                Err(_) => {
                    code[branch].2 = 1;
                    code.insert(branch + 1, (JA, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX)));
                }
            }
            search(from, code);
        }
    }
}

fn arguments(rule: &ConditionalRule, allowed: u32, denied: u32, code: &mut Vec<Instruction>) {
    let mut loaded = None;
    for (tests, answer) in [(&rule.deny, denied), (&rule.allow, allowed)] {
        for ArgumentTest { index, mask, value } in tests {
            // A comparison leaves in the accumulator what it compared.
            if loaded != Some((index, mask)) {
                loaded = Some((index, mask));
                code.push((LD_WORD, 0, 0, ARGS + 8 * u32::from(*index)));
                if *mask != u32::MAX {
                    code.push((AND, 0, 0, *mask));
                }
            }
            code.extend([(JEQ, 0, 1, *value), (RET, 0, 0, answer)]);
        }
    }
    let only_denies = rule.allow.is_empty() && !rule.deny.is_empty();
    code.push((RET, 0, 0, if only_denies { allowed } else { denied }));
}

/// The program's bytes as little-endian `struct sock_filter`s: what is loaded, and what the bundle's digest is of.
pub fn bytes(program: &[Instruction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(program.len() * 8);
    for (code, jt, jf, k) in program {
        out.extend(code.to_le_bytes());
        out.extend([*jt, *jf]);
        out.extend(k.to_le_bytes());
    }
    out
}

/// What [`bytes`] was made from.
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (parts, rest) = bytes.as_chunks::<8>();
    let instruction = |[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| {
        (
            u16::from_le_bytes([*c0, *c1]),
            *jt,
            *jf,
            u32::from_le_bytes([*k0, *k1, *k2, *k3]),
        )
    };
    rest.is_empty().then(|| parts.iter().map(instruction).collect())
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Program, SeccompData};
    use super::*;

    #[test]
    fn far_jumps_take_a_detour() {
        // Every number its own range: 2 000 leaves, far more than a conditional jump can span.
        let decisions: Vec<Decision<'_>> = (0..2000).map(|nr| Decision::Answer(RET_ERRNO | (nr % 100))).collect();
        let code = render(Arch::X86_64, &decisions, RET_ALLOW);
        let program = Program::check(&code).unwrap();
        for nr in 0..2100 {
            let data = SeccompData {
                nr,
                arch: Arch::X86_64.audit(),
                ..SeccompData::default()
            };
            let expected = if nr < 2000 { RET_ERRNO | (nr % 100) } else { RET_ALLOW };
            let (answer, steps) = program.trace(&data);
            assert_eq!(answer, expected, "{nr}");
            assert!(steps < 32, "{steps} steps for {nr}");
        }
    }
}
