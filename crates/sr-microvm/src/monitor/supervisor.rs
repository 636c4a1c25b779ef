//! The socket that leads to the supervisor: orders from there, and what is told (sr_common::monitor), a message each.

use super::Failure;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::Serialize;
use sr_common::monitor::{MESSAGE, Order, Said};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The largest order: a program's arguments and environment.
const ORDER: usize = 4 << 20;
/// What waits for a supervisor that does not read; a guest can make a thousand messages.
const MOST_WAITING: usize = 2000;

#[derive(Debug)]
pub struct Supervisor {
    socket: OwnedFd,
    waiting: VecDeque<Said>,
}

impl Supervisor {
    pub fn of(socket: OwnedFd) -> Supervisor {
        Supervisor {
            socket,
            waiting: VecDeque::new(),
        }
    }

    /// The only descriptor that this process was started with beside its standard streams.
    pub fn inherited() -> io::Result<Supervisor> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
        }
        // The directory's own is closed by now.
        let others = numbers.into_iter().filter(|number| *number > 2);
        let mut open: Vec<OwnedFd> = others
            .filter_map(|number| sr_kernel::process::inherited(number).ok())
            .collect();
        match (open.pop(), open.is_empty()) {
            (Some(socket), true) => Ok(Supervisor::of(super::machine::high(socket)?)),
            _ => Err(io::Error::other("not one descriptor beside the standard streams")),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether something waits to be told.
    pub fn has_to_tell(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next order, if one is there.
    pub fn order(&self) -> Result<Option<Order>, Failure> {
        let bad = |e: String| Failure::own("the supervisor's order", e);
        let mut none = [0u8; 0];
        let peeked = rustix::net::recv(
            &self.socket,
            &mut none,
            RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC,
        );
        let length = match peeked {
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(e) => return Err(bad(e.to_string())),
        };
        if length == 0 {
            return Err(Failure::own("the supervisor", "it is gone"));
        }
        if length > ORDER {
            return Err(bad(format!("{length} bytes")));
        }
        let mut message = vec![0; length];
        let (read, _) =
            rustix::net::recv(&self.socket, &mut message, RecvFlags::DONTWAIT).map_err(|e| bad(e.to_string()))?;
        let order = serde_json::from_slice(message.get(..read).unwrap_or_default());
        order.map(Some).map_err(|e| bad(e.to_string()))
    }

    /// Waits for the next order.
    pub fn wait(&self) -> Result<Order, Failure> {
        loop {
            if let Some(order) = self.order()? {
                return Ok(order);
            }
            let mut wait = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut wait, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Failure::own("poll", e)),
            }
        }
    }

    /// Tells it, or keeps it until it can be told. What waits is bounded by what a guest may say.
    pub fn tell(&mut self, said: Said) -> Result<(), Failure> {
        if self.waiting.len() >= MOST_WAITING {
            return Err(Failure::own("the supervisor", "it reads nothing"));
        }
        self.waiting.push_back(said);
        self.tell_waiting()
    }

    pub fn tell_waiting(&mut self) -> Result<(), Failure> {
        while let Some(said) = self.waiting.front() {
            match send(&self.socket, said) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(Failure::own("a message for the supervisor", e)),
            }
        }
        Ok(())
    }

    /// Waits until all is told.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.tell_waiting()?;
        while self.has_to_tell() {
            let mut wait = [PollFd::new(&self.socket, PollFlags::OUT)];
            match poll(&mut wait, None) {
                Ok(_) | Err(Errno::INTR) => self.tell_waiting()?,
                Err(e) => return Err(Failure::own("poll", e)),
            }
        }
        Ok(())
    }

    /// The last that is said. A supervisor that is gone sees the status alone.
    pub fn fail(&mut self, failure: &Failure) {
        self.waiting.push_back(Said::Failed {
            path: failure.path.to_owned(),
            found: failure.found.clone(),
            remedy: failure.remedy.to_owned(),
        });
        let _ = self.finish();
    }
}

fn send<T: Serialize>(socket: &OwnedFd, said: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(said)?;
    if bytes.len() > MESSAGE {
        return Err(io::Error::other(format!("{} bytes are too many", bytes.len())));
    }
    rustix::net::send(socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use sr_common::Usage;

    fn pair() -> (Supervisor, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        (Supervisor::of(ours), theirs)
    }

    #[test]
    fn orders_come_whole_and_others_are_refused() {
        let (supervisor, theirs) = pair();
        assert_eq!(supervisor.order(), Ok(None));
        let say = |bytes: &[u8]| rustix::net::send(&theirs, bytes, SendFlags::empty()).unwrap();
        say(br#""go""#);
        assert_eq!(supervisor.wait(), Ok(Order::Go));
        for bad in [&b"{"[..], br#""stop""#, br#"{"start":{}}"#] {
            say(bad);
            assert!(supervisor.order().is_err());
        }
        drop(theirs);
        super::super::await_end(supervisor.fd());
        assert!(supervisor.order().unwrap_err().found.ends_with("it is gone"));
    }

    #[test]
    fn what_a_supervisor_does_not_read_waits_and_is_bounded() {
        let (mut supervisor, theirs) = pair();
        let sample = Said::Sample {
            usage: Usage::default(),
        };
        let mut told = 0;
        while supervisor.tell(sample.clone()).is_ok() {
            told += 1;
        }
        assert!(supervisor.has_to_tell() && told >= MOST_WAITING);
        let mut read = 0;
        let mut message = vec![0; MESSAGE];
        while supervisor.has_to_tell() {
            rustix::net::recv(&theirs, &mut message, RecvFlags::empty()).unwrap();
            read += 1;
            supervisor.tell_waiting().unwrap();
        }
        assert!(read > 0 && read <= told);
        let large = Said::Booted {
            kernel: "x".repeat(MESSAGE),
        };
        assert!(supervisor.tell(large).is_err());
    }
}
