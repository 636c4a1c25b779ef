//! An interpreter of classic BPF as seccomp uses it, with the checks the kernel makes when a filter is loaded.
//! It knows no plan: it runs programs, so that a program can be compared with what it was made from.

use std::fmt;

/// One instruction: code, jump if true, jump if false, constant.
pub type Instruction = (u16, u8, u8, u32);

/// The kernel's `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// What a filter is given: `struct seccomp_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeccompData {
    pub nr: u32,
    pub arch: u32,
    pub instruction_pointer: u64,
    pub args: [u64; 6],
}

impl SeccompData {
    pub const SIZE: u32 = 64;

    // The word at a byte offset, as a little-endian machine lays the structure out.
    #[inline]
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64, offset: u32| {
            if offset.is_multiple_of(8) {
                value as u32
            } else {
                (value >> 32) as u32
            }
        };
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer, offset)),
            16..Self::SIZE if offset.is_multiple_of(4) => Some(half(self.args[(offset as usize - 16) / 8], offset)),
            _ => None,
        }
    }
}

/// Why the kernel would refuse a program. The number is the instruction's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramError {
    /// Empty, or longer than the kernel takes.
    Length(usize),
    /// An instruction that seccomp does not have.
    Instruction(usize),
    /// A jump past the end.
    Jump(usize),
    /// A load outside `struct seccomp_data`, or not aligned.
    Load(usize),
    /// Scratch memory has sixteen words.
    Memory(usize),
    /// A word of scratch memory is read that was not written on every way there.
    Unwritten(usize),
    /// Division by a constant zero, or a shift by the word's width or more.
    Operand(usize),
    /// The last instruction does not return.
    NoReturn,
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Length(n) => write!(f, "{n} instructions; the kernel takes 1 to {MAX_INSTRUCTIONS}"),
            ProgramError::Instruction(at) => write!(f, "instruction {at} is not one that seccomp has"),
            ProgramError::Jump(at) => write!(f, "instruction {at} jumps past the end"),
            ProgramError::Load(at) => write!(f, "instruction {at} loads from outside seccomp_data"),
            ProgramError::Memory(at) => write!(f, "instruction {at} uses scratch memory that does not exist"),
            ProgramError::Unwritten(at) => write!(f, "instruction {at} reads scratch memory before it is written"),
            ProgramError::Operand(at) => write!(f, "instruction {at} has an impossible operand"),
            ProgramError::NoReturn => f.write_str("the last instruction does not return"),
        }
    }
}

impl std::error::Error for ProgramError {}

/// The first load of a word of scratch memory that some way to it has not written (`check_load_and_stores`). Jumps only go
/// forward.
fn load_before_store(code: &[Instruction]) -> Option<usize> {
    // Per instruction, the words that are written on every way to it.
    let mut written = vec![u16::MAX; code.len() + 1];
    let mut here = 0u16;
    for (at, &(op, jt, jf, k)) in code.iter().enumerate() {
        here &= written[at];
        let word = 1u16.checked_shl(k).unwrap_or(0);
        let mut jump = |by: usize| {
            if let Some(there) = written.get_mut(at + 1 + by) {
                *there &= here;
            }
        };
        match op {
            0x02 | 0x03 => here |= word,
            0x60 | 0x61 if here & word == 0 => return Some(at),
            0x05 => {
                jump(k as usize);
                here = u16::MAX;
            }
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => {
                jump(usize::from(jt));
                jump(usize::from(jf));
                here = u16::MAX;
            }
            _ => {}
        }
    }
    None
}

/// A program that has passed the kernel's checks: it ends for every input.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a>(&'a [Instruction]);

/// What one run of a program says of other inputs: from the number and the architecture that it was run with up to these,
/// with the same arguments, the same instructions are run; and so from the argument, where it looks at one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub answer: u32,
    pub last_nr: u32,
    pub last_arch: u32,
    pub last_argument: u32,
    /// The words of [`SeccompData`] that were looked at, a bit for each: the others make no difference.
    pub looked: u16,
}

impl Region {
    /// Number and architecture.
    pub const CONSTANT: u16 = 0b11;

    /// The word in which a 32-bit argument lies.
    pub const fn argument(index: u8) -> u16 {
        1 << (4 + 2 * index)
    }

    /// Nothing but number, architecture and `words` was looked at.
    pub const fn looked_at_most(self, words: u16) -> bool {
        self.looked & !(Self::CONSTANT | words) == 0
    }
}

/// What the accumulator holds.
#[derive(Clone, Copy)]
enum Holds {
    Number,
    Arch,
    Argument,
    Else,
}

impl<'a> Program<'a> {
    /// The checks of `bpf_check_classic` and `seccomp_check_filter`.
    pub fn check(code: &'a [Instruction]) -> Result<Self, ProgramError> {
        if code.is_empty() || code.len() > MAX_INSTRUCTIONS {
            return Err(ProgramError::Length(code.len()));
        }
        let mut loads = false;
        for (at, &(op, jt, jf, k)) in code.iter().enumerate() {
            loads |= matches!(op, 0x60 | 0x61);
            let left = (code.len() - at - 1) as u64;
            match op {
                0x20 if !k.is_multiple_of(4) || k >= SeccompData::SIZE => return Err(ProgramError::Load(at)),
                // ld abs, imm, len; ldx imm, len; tax, txa; ret k, a.
                0x20 | 0x00 | 0x80 | 0x01 | 0x81 | 0x07 | 0x87 | 0x06 | 0x16 => {}
                // ld mem, ldx mem, st, stx.
                0x60 | 0x61 | 0x02 | 0x03 if k >= 16 => return Err(ProgramError::Memory(at)),
                0x60 | 0x61 | 0x02 | 0x03 => {}
                0x34 if k == 0 => return Err(ProgramError::Operand(at)),
                0x64 | 0x74 if k >= 32 => return Err(ProgramError::Operand(at)),
                // add, sub, mul, div, or, and, lsh, rsh, neg, xor, by constant or X.
                0x04 | 0x0c | 0x14 | 0x1c | 0x24 | 0x2c | 0x34 | 0x3c | 0x44 | 0x4c | 0x54 | 0x5c => {}
                0x64 | 0x6c | 0x74 | 0x7c | 0x84 | 0xa4 | 0xac => {}
                0x05 if u64::from(k) >= left => return Err(ProgramError::Jump(at)),
                0x05 => {}
                // jeq, jgt, jge, jset, by constant or X.
                0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => {
                    if u64::from(jt.max(jf)) >= left {
                        return Err(ProgramError::Jump(at));
                    }
                }
                _ => return Err(ProgramError::Instruction(at)),
            }
        }
        match code.last() {
            Some((0x06 | 0x16, ..)) => match loads.then(|| load_before_store(code)).flatten() {
                Some(at) => Err(ProgramError::Unwritten(at)),
                None => Ok(Program(code)),
            },
            _ => Err(ProgramError::NoReturn),
        }
    }

    /// The program's answer: a `SECCOMP_RET_*` value.
    pub fn run(self, data: &SeccompData) -> u32 {
        self.walk::<false>(data).0.answer
    }

    /// The answer, and how many instructions it took.
    pub fn trace(self, data: &SeccompData) -> (u32, usize) {
        let (region, steps) = self.walk::<false>(data);
        (region.answer, steps)
    }

    /// The answer, and for which other numbers and architectures it was given with it: both have been compared with
    /// constants alone, and the region is on this side of them.
    pub fn run_region(self, data: &SeccompData) -> Region {
        self.walk::<true>(data).0
    }

    /// `REGION`: whether more than the answer is wanted.
    #[inline]
    fn walk<const REGION: bool>(self, data: &SeccompData) -> (Region, usize) {
        let mut region = Region {
            answer: 0,
            last_nr: u32::MAX,
            last_arch: u32::MAX,
            last_argument: u32::MAX,
            looked: 0,
        };
        // What is made of number, architecture or argument is not followed: then they stand for themselves alone.
        let mut holds = Holds::Else;
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
        let mut at = 0;
        let mut steps = 0;
        // Checked programs only jump forward and end in a return, so this ends.
        while let Some(&(op, jt, jf, k)) = self.0.get(at) {
            at += 1;
            steps += 1;
            let operand = if op & 0x08 == 0 { k } else { x };
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            if REGION {
                let up_to = |last: u32| match op {
                    // Comparisons with a constant.
                    0x15 | 0x35 if a < k => last.min(k - 1),
                    0x25 if a <= k => last.min(k),
                    0x15 if a > k => last,
                    0x25 | 0x35 => last,
                    // Loads over it, jumps, and an answer that it has no part in.
                    0x20 | 0x00 | 0x80 | 0x60 | 0x87 | 0x01 | 0x81 | 0x61 | 0x05 | 0x06 => last,
                    _ => a,
                };
                match holds {
                    Holds::Number => region.last_nr = up_to(region.last_nr),
                    Holds::Arch => region.last_arch = up_to(region.last_arch),
                    Holds::Argument => region.last_argument = up_to(region.last_argument),
                    Holds::Else => {}
                }
                match (op, k) {
                    (0x20, 0) => holds = Holds::Number,
                    (0x20, 4) => holds = Holds::Arch,
                    (0x20, _) => holds = Holds::Argument,
                    (0x15 | 0x25 | 0x35 | 0x05 | 0x01 | 0x81 | 0x61, _) => {}
                    _ => holds = Holds::Else,
                }
                if op == 0x20 {
                    region.looked |= 1 << (k / 4);
                }
            }
            match op {
                0x20 => a = data.word(k).unwrap_or(0),
                0x00 => a = k,
                0x80 => a = SeccompData::SIZE,
                0x01 => x = k,
                0x81 => x = SeccompData::SIZE,
                0x60 => a = memory[k as usize & 15],
                0x61 => x = memory[k as usize & 15],
                0x02 => memory[k as usize & 15] = a,
                0x03 => memory[k as usize & 15] = x,
                0x07 => x = a,
                0x87 => a = x,
                0x06 => return (Region { answer: k, ..region }, steps),
                0x16 => return (Region { answer: a, ..region }, steps),
                0x04 | 0x0c => a = a.wrapping_add(operand),
                0x14 | 0x1c => a = a.wrapping_sub(operand),
                0x24 | 0x2c => a = a.wrapping_mul(operand),
                // The kernel ends a program that divides by X = 0 with 0.
                0x34 | 0x3c => match a.checked_div(operand) {
                    Some(quotient) => a = quotient,
                    None => return (region, steps),
                },
                0x44 | 0x4c => a |= operand,
                0x54 | 0x5c => a &= operand,
                0x64 | 0x6c => a = a.wrapping_shl(operand),
                0x74 | 0x7c => a = a.wrapping_shr(operand),
                0x84 => a = a.wrapping_neg(),
                0xa4 | 0xac => a ^= operand,
                0x05 => at += k as usize,
                0x15 | 0x1d => jump(a == operand),
                0x25 | 0x2d => jump(a > operand),
                0x35 | 0x3d => jump(a >= operand),
                0x45 | 0x4d => jump(a & operand != 0),
                _ => break,
            }
        }
        (region, steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_program_runs() {
        // The high half of argument 2, masked, equal to 5: allow; else kill.
        let code = [
            (0x20, 0, 0, 16 + 2 * 8 + 4),
            (0x54, 0, 0, 0xff),
            (0x15, 0, 1, 5),
            (0x06, 0, 0, 7),
            (0x06, 0, 0, 9),
        ];
        let program = Program::check(&code).unwrap();
        let mut data = SeccompData {
            args: [0, 0, 5, 0, 0, 0],
            ..SeccompData::default()
        };
        assert_eq!(program.run(&data), 9);
        data.args[2] = 0x0000_0105 << 32;
        assert_eq!(program.trace(&data), (7, 4));
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        assert_eq!(Program::check(&[]).unwrap_err(), ProgramError::Length(0));
        assert_eq!(Program::check(&[(0x20, 0, 0, 0)]).unwrap_err(), ProgramError::NoReturn);
        assert_eq!(
            Program::check(&[(0x20, 0, 0, 2), (6, 0, 0, 0)]).unwrap_err(),
            ProgramError::Load(0)
        );
        assert_eq!(
            Program::check(&[(0x20, 0, 0, 64), (6, 0, 0, 0)]).unwrap_err(),
            ProgramError::Load(0)
        );
        assert_eq!(
            Program::check(&[(0x15, 1, 0, 0), (6, 0, 0, 0)]).unwrap_err(),
            ProgramError::Jump(0)
        );
        assert_eq!(
            Program::check(&[(0x05, 0, 0, u32::MAX), (6, 0, 0, 0)]).unwrap_err(),
            ProgramError::Jump(0)
        );
        assert_eq!(
            Program::check(&[(0x28, 0, 0, 0), (6, 0, 0, 0)]).unwrap_err(),
            ProgramError::Instruction(0)
        );
        assert_eq!(
            Program::check(&[(0x02, 0, 0, 16), (6, 0, 0, 0)]).unwrap_err(),
            ProgramError::Memory(0)
        );
        // Written on one of two ways.
        let unwritten = [(0x15, 1, 0, 0), (0x02, 0, 0, 3), (0x60, 0, 0, 3), (6, 0, 0, 0)];
        assert_eq!(Program::check(&unwritten).unwrap_err(), ProgramError::Unwritten(2));
        assert!(Program::check(&unwritten[1..]).is_ok());
    }
}
