//! The port that leads to the host: what waits to be sent, and frames out of what comes.

use crate::failure::{Failure, at, failure, violation};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sr_microvm::protocol::frame::{Decoder, Frame};
use sr_microvm::protocol::guest::{Guest, Said};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The host is there once it has answered; before that the port may be closed on its side for a moment.
const TRIES: u32 = 10_000;

pub struct Port {
    fd: OwnedFd,
    decoder: Decoder,
    pub guest: Guest,
    pub out: Vec<u8>,
    /// Tries left to hear the first word.
    tries: Option<u32>,
}

impl Port {
    pub fn new(fd: OwnedFd) -> Result<Port, Failure> {
        let mut out = Vec::new();
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let guest = Guest::new(&mut out, &release).map_err(violation)?;
        Ok(Port {
            fd,
            decoder: Decoder::default(),
            guest,
            out,
            tries: Some(TRIES),
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What to wait for at it.
    pub fn interest(&self) -> PollFlags {
        match self.out.is_empty() {
            true => PollFlags::IN,
            false => PollFlags::IN | PollFlags::OUT,
        }
    }

    /// Sends what the port takes now.
    pub fn send(&mut self) -> Result<(), Failure> {
        while !self.out.is_empty() {
            match rustix::io::write(&self.fd, &self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(at("write to the host")(e)),
            }
        }
        Ok(())
    }

    /// Takes what has come; `each` is handed every word of it.
    pub fn hear(
        &mut self,
        mut each: impl FnMut(&mut Guest, &mut Vec<u8>, Said<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut buffer = [0u8; 16 << 10];
        let read = match rustix::io::read(&self.fd, &mut buffer) {
            Ok(0) => match &mut self.tries {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    std::thread::sleep(Duration::from_millis(1));
                    return Ok(());
                }
                _ => return Err(failure("read from the host", "it has closed the port")),
            },
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(e) => return Err(at("read from the host")(e)),
        };
        self.tries = None;
        self.decoder.push(&buffer[..read]).map_err(violation)?;
        while let Some(frame) = self.decoder.frame().map_err(violation)? {
            let frame: Frame<'_> = frame;
            let said = self.guest.take(frame).map_err(violation)?;
            each(&mut self.guest, &mut self.out, said)?;
        }
        Ok(())
    }

    /// Waits until all that waits to be sent is, and taken by the host.
    pub fn flush(&mut self) -> Result<(), Failure> {
        loop {
            self.send()?;
            let empty = self.out.is_empty();
            let mut wait = [PollFd::new(&self.fd, PollFlags::OUT)];
            match poll(&mut wait, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(at("wait for the host")(e)),
            }
            if wait[0].revents().contains(PollFlags::HUP) {
                return Err(failure("write to the host", "it has closed the port"));
            }
            if empty && wait[0].revents().contains(PollFlags::OUT) {
                return Ok(());
            }
        }
    }

    /// Tells the host of a failure, and waits for it to be heard. A host that is gone hears nothing.
    pub fn fail(&mut self, failure: &Failure) {
        if self.guest.failed(&mut self.out, failure).is_ok() && self.flush().is_ok() {
            self.wait_for_the_end();
        }
    }

    /// The host ends the machine when it has heard the last word; some time later the machine ends itself.
    pub fn wait_for_the_end(&mut self) {
        // A port hangs up; of a connection that the host has closed this side's half is still open.
        let mut wait = [PollFd::new(&self.fd, PollFlags::RDHUP)];
        let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
        // Whatever comes of it, the machine is over.
        let _ = poll(&mut wait, Some(&patience));
    }
}
