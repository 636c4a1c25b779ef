//! The program's standard streams, or its terminal: the agent's ends of them.

use crate::failure::{Failure, at, violation};
use rustix::event::PollFlags;
use rustix::fs::{Gid, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sr_microvm::protocol::Stream;
use sr_microvm::protocol::guest::Guest;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// How far what is to be said to the host may grow before no more output is read.
const ENOUGH: usize = 256 << 10;
const PIECE: usize = 32 << 10;

/// The agent's ends.
pub struct Streams {
    input: Option<Rc<OwnedFd>>,
    waiting: VecDeque<u8>,
    input_ended: bool,
    outputs: [Option<Rc<OwnedFd>>; 2],
    terminal: bool,
}

/// Pipes for a program: our ends, and its.
pub fn pipes(user: u32) -> Result<(Streams, [OwnedFd; 3]), Failure> {
    let make = || pipe_with(PipeFlags::CLOEXEC).map_err(at("make a pipe"));
    let ((stdin, input), (output, stdout), (error, stderr)) = (make()?, make()?, make()?);
    for end in [&input, &output, &error] {
        rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK).map_err(at("set up a pipe"))?;
    }
    // By their names in /proc they are opened as files are.
    for end in [&stdin, &stdout, &stderr] {
        let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
        rustix::fs::fchown(end, Some(uid), Some(gid)).map_err(at("set up a pipe"))?;
    }
    let streams = Streams {
        input: Some(Rc::new(input)),
        waiting: VecDeque::new(),
        input_ended: false,
        outputs: [Some(Rc::new(output)), Some(Rc::new(error))],
        terminal: false,
    };
    Ok((streams, [stdin, stdout, stderr]))
}

/// A terminal, by its master.
pub fn terminal(master: OwnedFd) -> Result<Streams, Failure> {
    let flags = rustix::fs::fcntl_getfl(&master).map_err(at("set up the terminal"))?;
    rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(at("set up the terminal"))?;
    let master = Rc::new(master);
    Ok(Streams {
        input: Some(Rc::clone(&master)),
        waiting: VecDeque::new(),
        input_ended: false,
        outputs: [Some(master), None],
        terminal: true,
    })
}

/// What a descriptor of theirs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Input,
    Output(Stream),
}

impl Streams {
    /// What is worth waiting for, with so much for the host waiting already.
    pub fn interest(&self, guest: &Guest, out: usize) -> Vec<(End, BorrowedFd<'_>, PollFlags)> {
        let mut all = Vec::new();
        if let Some(input) = self.input.as_ref().filter(|_| !self.waiting.is_empty()) {
            all.push((End::Input, input.as_fd(), PollFlags::OUT));
        }
        for (stream, output) in [Stream::Out, Stream::Err].into_iter().zip(&self.outputs) {
            if let Some(output) = output
                && guest.room(stream) > 0
                && out < ENOUGH
            {
                all.push((End::Output(stream), output.as_fd(), PollFlags::IN));
            }
        }
        all
    }

    pub fn at_end(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// Input from the host. What nobody reads any more is handed on to nobody.
    pub fn input(&mut self, guest: &mut Guest, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Failure> {
        if self.input.is_none() {
            return guest.handed_on(out, bytes.len()).map_err(violation);
        }
        self.waiting.extend(bytes);
        Ok(())
    }

    pub fn end_input(&mut self) {
        self.input_ended = true;
        self.close_if_done();
    }

    /// A terminal stays: what it shows is still to be read, and who reads from it gets what was typed before.
    fn close_if_done(&mut self) {
        if self.input_ended && self.waiting.is_empty() && !self.terminal {
            self.input = None;
        }
    }

    /// Nobody reads this output any more: who writes to it is told so, as with any pipe.
    pub fn unread(&mut self, stream: Stream) {
        if let Some(place) = self.place(stream) {
            *place = None;
        }
    }

    fn place(&mut self, stream: Stream) -> Option<&mut Option<Rc<OwnedFd>>> {
        self.outputs.get_mut(match stream {
            Stream::Out => 0,
            Stream::Err => 1,
            Stream::In => return None,
        })
    }

    /// Hands input on, as much as is taken now.
    pub fn write(&mut self, guest: &mut Guest, out: &mut Vec<u8>) -> Result<(), Failure> {
        let Some(input) = &self.input else { return Ok(()) };
        let (first, _) = self.waiting.as_slices();
        let done = match rustix::io::write(input, first) {
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            // Nobody reads any more.
            Err(_) => {
                self.input = None;
                self.waiting.len()
            }
        };
        self.waiting.drain(..done);
        self.close_if_done();
        guest.handed_on(out, done).map_err(violation)
    }

    /// Takes output, as much as is there now and the host has room for.
    pub fn read(&mut self, stream: Stream, guest: &mut Guest, out: &mut Vec<u8>) -> Result<(), Failure> {
        let mut buffer = [0u8; PIECE];
        let most = guest.room(stream).min(PIECE);
        let Some(place) = self.place(stream) else { return Ok(()) };
        let Some(output) = place.as_ref().filter(|_| most > 0) else {
            return Ok(());
        };
        match rustix::io::read(output, &mut buffer[..most]) {
            Ok(n) if n > 0 => guest.output(out, stream, &buffer[..n]).map_err(violation),
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            // A terminal that nobody has open gives an error for an end.
            _ => {
                *place = None;
                guest.end_output(out, stream).map_err(violation)
            }
        }
    }

    /// The terminal's size.
    pub fn window(&self, rows: u16, columns: u16) {
        if let Some(master) = self.input.as_ref().filter(|_| self.terminal) {
            let size = rustix::termios::Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            // A terminal without a size is one.
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }
}
