//! What the running kernel says about a filter, without one ever being installed.
//!
//! A thread that has a filter with a listener asks for another one: the kernel checks the program, and only then sees that
//! there can be no second listener (`EBUSY`). A program that it does not take is answered `EINVAL` before.

use rustix::io::Errno;
use sr_compiler::syscalls::bpf::RET_ALLOW;
use sr_compiler::syscalls::interpreter::Instruction;
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

fn program(code: &[Instruction]) -> Vec<sr_kernel::seccomp::Instruction> {
    let plain = |&(code, jt, jf, k): &Instruction| sr_kernel::seccomp::Instruction { code, jt, jf, k };
    code.iter().map(plain).collect()
}
