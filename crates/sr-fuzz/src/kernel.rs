//! What the running kernel says about a filter: whether it takes it, and what the filter answers there.
//!
//! Whether it takes one is asked without installing it. A thread that has a filter with a listener asks for another one: the kernel checks the program, and only then sees that
//! there can be no second listener (`EBUSY`). A program that it does not take is answered `EINVAL` before.

use rustix::fs::Advice;
use rustix::io::Errno;
use sr_compiler::Arch;
use sr_compiler::syscalls::bpf::{RET_ALLOW, RET_ERRNO};
use sr_compiler::syscalls::interpreter::{Instruction, SeccompData};
use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

type Asked = (Vec<sr_kernel::seccomp::Instruction>, Sender<Result<bool, String>>);

/// Whether the kernel takes `code` as a filter; an error where it cannot be asked.
pub fn takes(code: &[Instruction]) -> Result<bool, String> {
    static ASKER: OnceLock<Mutex<Sender<Asked>>> = OnceLock::new();
    let asker = ASKER.get_or_init(|| {
        let (to, asked) = channel();
        std::thread::spawn(move || answer(&asked));
        Mutex::new(to)
    });
    let (to, answer) = channel();
    let gone = || "the thread that asks the kernel has ended".to_owned();
    let asker = asker.lock().unwrap_or_else(PoisonError::into_inner).clone();
    asker.send((program(code), to)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Serves the questions. The filter of this thread allows everything, and goes with it.
fn answer(asked: &Receiver<Asked>) {
    let ready = rustix::thread::set_no_new_privs(true)
        .map_err(std::io::Error::from)
        .and_then(|()| sr_kernel::seccomp::install_with_listener(&program(&[(0x06, 0, 0, RET_ALLOW)])));
    for (code, to) in asked {
        let judged = match &ready {
            Err(e) => Err(format!("a filter with a listener cannot be installed here: {e}")),
            Ok(_listener) => match sr_kernel::seccomp::install_with_listener(&code) {
                Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => Ok(true),
                Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(false),
                Err(e) => Err(format!("the kernel answers {e}")),
                Ok(_) => Err("the kernel gave a second listener".into()),
            },
        };
        // Whoever asked may not wait any more.
        let _ = to.send(judged);
    }
}

/// What a filter sees of the call by which it is asked: its number, and four arguments.
pub const PROBED: SeccompData = SeccompData {
    #[cfg(target_arch = "x86_64")]
    nr: 221,
    #[cfg(target_arch = "aarch64")]
    nr: 223,
    arch: HERE.audit(),
    instruction_pointer: 0,
    args: [0; 6],
};

#[cfg(target_arch = "x86_64")]
const HERE: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const HERE: Arch = Arch::Aarch64;

/// What `code`, which the kernel takes, answers to [`PROBED`] (fadvise64) with these second and third arguments, and 0 for the
/// others: asked of a thread that ends with it. Piece by piece, as an errno. Both are positive where they are signed.
pub fn answers(code: &[Instruction], offset: u64, length: u64) -> Result<u32, String> {
    let length = NonZeroU64::new(length);
    let mut answer = 0;
    for shift in [0, 11, 22] {
        let told = telling(code, shift);
        let piece = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).map_err(|e| e.to_string())?;
            sr_kernel::seccomp::install(&told).map_err(|e| format!("a filter cannot be installed here: {e}"))?;
            // The descriptor's number is the first argument, and no file is asked about.
            let advised = rustix::fs::fadvise(rustix::stdio::stdin(), offset, length, Advice::Normal);
            advised
                .err()
                .ok_or_else(|| "the filter's answer did not come".to_owned())
        });
        let piece = piece
            .join()
            .map_err(|_| "the thread that ran the filter has ended".to_owned())??;
        answer |= piece.raw_os_error().cast_unsigned().saturating_sub(1) << shift;
    }
    Ok(answer)
}

/// A filter that runs `code` for the one call alone, and tells eleven bits of its answer.
fn telling(code: &[Instruction], shift: u32) -> Vec<sr_kernel::seccomp::Instruction> {
    let mut whole: Vec<Instruction> = vec![(0x20, 0, 0, 0), (0x15, 1, 0, PROBED.nr), (0x06, 0, 0, RET_ALLOW)];
    // The accumulator is 0 at the beginning of a filter.
    whole.push((0x00, 0, 0, 0));
    let begin = whole.len();
    // Returns become jumps: behind the program each constant is loaded, and at the very end the answer is told.
    let constants: Vec<u32> = code.iter().filter(|op| op.0 == 0x06).map(|op| op.3).collect();
    let end = code.len() + 2 * constants.len();
    let mut seen = 0;
    for (at, &(op, jt, jf, k)) in code.iter().enumerate() {
        let jump = |to: usize| (0x05, 0, 0, (to - at - 1) as u32);
        whole.push(match op {
            0x06 => {
                seen += 1;
                jump(code.len() + 2 * (seen - 1))
            }
            0x16 => jump(end),
            _ => (op, jt, jf, k),
        });
    }
    for (n, constant) in constants.iter().enumerate() {
        let at = code.len() + 2 * n + 1;
        whole.extend([(0x00, 0, 0, *constant), (0x05, 0, 0, (end - at - 1) as u32)]);
    }
    debug_assert_eq!(whole.len(), begin + end);
    whole.extend([
        (0x74, 0, 0, shift),
        (0x54, 0, 0, 0x7ff),
        (0x04, 0, 0, 1),
        (0x44, 0, 0, RET_ERRNO),
        (0x16, 0, 0, 0),
    ]);
    program(&whole)
}

fn program(code: &[Instruction]) -> Vec<sr_kernel::seccomp::Instruction> {
    let plain = |&(code, jt, jf, k): &Instruction| sr_kernel::seccomp::Instruction { code, jt, jf, k };
    code.iter().map(plain).collect()
}
