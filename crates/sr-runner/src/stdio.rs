//! The supervisor's ends of the program's input and output. The caller's own descriptors never enter the sandbox; their
//! modes are not changed either, since others share them, so writes to them are kept to what cannot block.

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::io::Errno;
use sr_common::digest::Hasher;
use sr_compiler::bundle::{IdMap, UserPlan};
use sr_evidence::report::StreamOutput;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const CHUNK: usize = 64 * 1024;
/// POLLOUT promises this much on a pipe (PIPE_BUF, pipe(7)).
const SAFE_WRITE: usize = 4096;

/// Program → caller.
pub struct OutputPump {
    /// `None`: closed, by either side.
    from: Option<OwnedFd>,
    to: OwnedFd,
    /// Regular files never block and are not polled.
    to_is_file: bool,
    /// The caller's side is gone: the rest is dropped, the program is told by SIGPIPE.
    broken: bool,
    pending: Vec<u8>,
    sent: usize,
    /// The last byte that the caller took.
    last: Option<u8>,
    passed: u64,
    dropped: u64,
    hasher: Hasher,
}

/// What a read from the program brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Data,
    Nothing,
    /// The output limit is used up.
    OverLimit,
}

impl OutputPump {
    pub fn new(from: OwnedFd, to: BorrowedFd<'_>) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&from, true)?;
        let to = rustix::io::fcntl_dupfd_cloexec(to, 3)?;
        let to_is_file =
            rustix::fs::fstat(&to).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
        Ok(OutputPump {
            from: Some(from),
            to,
            to_is_file,
            broken: false,
            pending: Vec::new(),
            sent: 0,
            last: None,
            passed: 0,
            dropped: 0,
            hasher: Hasher::default(),
        })
    }

    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Whether something waits for the caller to take it.
    pub fn is_waiting(&self) -> bool {
        self.has_pending()
    }

    /// Whether what the caller took ends in the middle of a line.
    pub fn ends_within_line(&self) -> bool {
        self.last.is_some_and(|last| last != b'\n')
    }

    pub fn is_open(&self) -> bool {
        self.from.is_some() || self.has_pending()
    }

    fn has_pending(&self) -> bool {
        self.sent < self.pending.len()
    }

    /// What to wait for, if anything.
    pub fn interest(&self) -> Option<PollFd<'_>> {
        if self.has_pending() {
            return Some(PollFd::from_borrowed_fd(self.to.as_fd(), PollFlags::OUT));
        }
        self.from
            .as_ref()
            .map(|from| PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN))
    }

    /// Moves what can be moved without blocking. `allowance`: bytes that may still be passed on.
    pub fn turn(&mut self, allowance: u64) -> Progress {
        if self.has_pending() {
            self.flush();
            return Progress::Data;
        }
        let Some(from) = &self.from else {
            return Progress::Nothing;
        };
        self.sent = 0;
        let n = match read(from.as_fd(), &mut self.pending) {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Progress::Nothing,
            // A pty's master answers EIO when the last slave is closed.
            Err(_) => 0,
        };
        if n == 0 {
            self.from = None;
            return Progress::Nothing;
        }
        let keep = usize::try_from(allowance).unwrap_or(usize::MAX).min(n);
        self.pending.truncate(keep);
        self.dropped += (n - keep) as u64;
        self.passed += keep as u64;
        self.hasher.update(&self.pending);
        if self.to_is_file {
            self.flush();
        }
        if keep < n { Progress::OverLimit } else { Progress::Data }
    }

    fn flush(&mut self) {
        let rest = &self.pending[self.sent..];
        let chunk = if self.to_is_file {
            rest
        } else {
            &rest[..rest.len().min(SAFE_WRITE)]
        };
        match rustix::io::write(&self.to, chunk) {
            Ok(n) => {
                self.last = n.checked_sub(1).and_then(|at| chunk.get(at).copied()).or(self.last);
                self.sent += n;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                // The reader has gone (`| head`), or its disk is full: the program finds its own pipe closed.
                self.broken = true;
                self.from = None;
                self.dropped += rest.len() as u64;
                self.passed -= rest.len() as u64;
                self.pending.clear();
                self.sent = 0;
            }
        }
        if !self.has_pending() {
            self.pending.clear();
            self.sent = 0;
        }
    }

    /// Closes the program's side: what it still writes is refused.
    pub fn close(&mut self) {
        self.from = None;
    }

    pub fn result(self) -> StreamOutput {
        // After a broken pipe the hash covers bytes that never arrived.
        let digest = (!self.broken).then(|| self.hasher.finish());
        StreamOutput {
            bytes: self.passed,
            dropped: self.dropped,
            digest,
        }
    }
}

/// Caller → program.
pub struct InputPump {
    from: OwnedFd,
    /// `None`: closed.
    to: Option<OwnedFd>,
    pending: Vec<u8>,
    sent: usize,
    ended: bool,
    /// A terminal that belongs to another job now.
    paused: bool,
}

impl InputPump {
    pub fn new(from: BorrowedFd<'_>, to: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&to, true)?;
        let from = rustix::io::fcntl_dupfd_cloexec(from, 3)?;
        Ok(InputPump {
            from,
            to: Some(to),
            pending: Vec::new(),
            sent: 0,
            ended: false,
            paused: false,
        })
    }

    fn has_pending(&self) -> bool {
        self.sent < self.pending.len()
    }

    pub fn interest(&self) -> Option<PollFd<'_>> {
        let to = self.to.as_ref()?;
        if self.has_pending() {
            return Some(PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT));
        }
        (!self.ended && !self.paused).then(|| PollFd::from_borrowed_fd(self.from.as_fd(), PollFlags::IN))
    }

    /// A background job may not read its terminal; it is asked again at the next tick.
    pub fn tick(&mut self) {
        self.paused = false;
    }

    pub fn turn(&mut self) {
        let Some(to) = &self.to else { return };
        if !self.has_pending() {
            self.sent = 0;
            match read(self.from.as_fd(), &mut self.pending) {
                Ok(0) => {
                    self.ended = true;
                    self.to = None;
                    return;
                }
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(Errno::IO) => {
                    self.paused = true;
                    return;
                }
                // A directory or a closed descriptor as stdin: the program sees an end of file.
                Err(_) => {
                    self.to = None;
                    return;
                }
            }
        }
        match rustix::io::write(to, &self.pending[self.sent..]) {
            Ok(n) => self.sent += n,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.to = None;
                self.sent = self.pending.len();
            }
        }
    }
}

/// Reads at most [`CHUNK`] bytes in place of what `into` holds. No more of it is touched than is read.
fn read(from: BorrowedFd<'_>, into: &mut Vec<u8>) -> rustix::io::Result<usize> {
    into.clear();
    into.reserve_exact(CHUNK);
    rustix::io::read(from, rustix::buffer::spare_capacity(into))
}

/// The program's ends of stdin, stdout and stderr, and ours of the same.
pub fn pipes(user: &UserPlan) -> std::io::Result<([OwnedFd; 3], [OwnedFd; 3])> {
    let pipe = || -> std::io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((above_stdio(read)?, above_stdio(write)?))
    };
    let (in_read, in_write) = pipe()?;
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    if let IdMap::Range { base, .. } = user.map {
        let id = base + user.inside;
        for end in [&in_read, &out_write, &err_write] {
            // So that `/dev/stdout` can be opened by the program.
            let (uid, gid) = (rustix::fs::Uid::from_raw(id), rustix::fs::Gid::from_raw(id));
            rustix::fs::fchown(end, Some(uid), Some(gid))?;
        }
    }
    Ok(([in_read, out_write, err_write], [in_write, out_read, err_read]))
}

/// The child copies these onto 0, 1 and 2: none may be one of them already (a caller may start us with 0 closed).
fn above_stdio(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 {
        Ok(fd)
    } else {
        Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?)
    }
}

/// Waits until nobody has the other end. A test that dropped it may not have been the last: a process that another test
/// starts in the meantime has it too, until it executes its program.
#[cfg(test)]
pub fn await_end(fd: impl AsFd) {
    let mut wait = [PollFd::new(&fd, PollFlags::empty())];
    rustix::event::poll(&mut wait, None).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_at_the_allowance_and_counted() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (out_read, out_write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"0123456789").unwrap();
        drop(write);
        await_end(&read);
        let mut pump = OutputPump::new(read, out_write.as_fd()).unwrap();
        assert_eq!(pump.turn(4), Progress::OverLimit);
        assert!(!pump.ends_within_line());
        assert_eq!(pump.turn(0), Progress::Data);
        assert!(pump.ends_within_line());
        assert_eq!(pump.turn(0), Progress::Nothing);
        assert!(!pump.is_open());
        let result = pump.result();
        assert_eq!((result.bytes, result.dropped), (4, 6));
        assert_eq!(result.digest, Some(sr_common::Digest::of(b"0123")));
        let mut got = [0; 16];
        assert_eq!(rustix::io::read(&out_read, &mut got).unwrap(), 4);
    }

    #[test]
    fn a_reader_that_left_closes_the_programs_pipe() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let (out_read, out_write) = rustix::pipe::pipe().unwrap();
        drop(out_read);
        await_end(&out_write);
        rustix::io::write(&write, b"x").unwrap();
        let mut pump = OutputPump::new(read, out_write.as_fd()).unwrap();
        pump.turn(10);
        pump.turn(10);
        assert!(!pump.is_open());
        await_end(&write);
        assert_eq!(rustix::io::write(&write, b"y"), Err(Errno::PIPE));
    }
}
