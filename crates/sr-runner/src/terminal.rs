//! The caller's terminal in raw mode while the program's own pty is what it talks to; put back at the end, come what may.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::os::fd::BorrowedFd;

/// Raw mode, until dropped.
pub struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    /// `None` if `terminal` is none.
    pub fn enter(terminal: BorrowedFd<'a>) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Drain, &raw).ok()?;
        Some(RawMode { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        // Nothing else could be done about a terminal that is gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}
