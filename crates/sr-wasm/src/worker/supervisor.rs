//! The socket that leads to the supervisor, a message at a time. One that is read and written by a process with one thread,
//! which has nothing else to do meanwhile: it waits where it must.

use super::Failure;
use crate::monitor::Denial;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use sr_common::canonical::MAX_INTEGER;
use sr_common::monitor::{MESSAGE, Order, Said};
use std::io;
use std::os::fd::OwnedFd;

/// The largest order: what the kernel lets a message have (`net.core.wmem_default`), and more.
const ORDER: usize = 256 << 10;
/// Where the descriptor is looked for.
const NUMBERS: std::ops::Range<i32> = 3..1024;

#[derive(Debug)]
pub(super) struct Supervisor {
    socket: OwnedFd,
}

impl Supervisor {
    /// The one descriptor that this process was started with beside its standard streams. It is looked for by its number, since
    /// a minimal view has no `/proc`.
    pub(super) fn inherited() -> io::Result<Supervisor> {
        let socket = NUMBERS
            .into_iter()
            .find_map(|number| sr_kernel::process::inherited(number).ok());
        let socket = socket.ok_or_else(|| io::Error::other("no descriptor leads to a supervisor"))?;
        Ok(Supervisor { socket })
    }

    /// Waits for the next order.
    pub(super) fn wait(&self) -> Result<Order, Failure> {
        let bad = |e: String| Failure::own("the supervisor's order", e);
        let mut message = vec![0; ORDER];
        let length = loop {
            match rustix::net::recv(&self.socket, &mut message, RecvFlags::TRUNC) {
                Ok((_, length)) => break length,
                Err(Errno::INTR) => {}
                Err(e) => return Err(bad(e.to_string())),
            }
        };
        match message.get(..length) {
            Some([]) => Err(Failure::own("the supervisor", "it is gone")),
            Some(message) => serde_json::from_slice(message).map_err(|e| bad(e.to_string())),
            None => Err(bad(format!("{length} bytes"))),
        }
    }

    pub(super) fn tell(&self, said: &Said) -> Result<(), Failure> {
        let bad = |e: String| Failure::own("a message for the supervisor", e);
        let bytes = serde_json::to_vec(said).map_err(|e| bad(e.to_string()))?;
        if bytes.len() > MESSAGE {
            return Err(bad(format!("{} bytes are too many", bytes.len())));
        }
        loop {
            match rustix::net::send(&self.socket, &bytes, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(bad(e.to_string())),
            }
        }
    }

    pub(super) fn denied(&self, denial: Denial) -> Result<(), Failure> {
        self.tell(&Said::Denied {
            function: denial.function,
            reason: denial.reason,
            count: denial.count.min(MAX_INTEGER),
        })
    }

    /// The last that is said. A supervisor that is gone sees the status alone.
    pub(super) fn fail(&self, failure: &Failure) {
        let said = Said::Failed {
            path: failure.path.to_owned(),
            found: failure.found.clone(),
            remedy: failure.remedy.to_owned(),
        };
        let _ = self.tell(&said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn orders_come_whole_and_others_are_refused() {
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let supervisor = Supervisor { socket };
        let say = |bytes: &[u8]| rustix::net::send(&theirs, bytes, SendFlags::empty()).unwrap();
        say(br#""go""#);
        assert_eq!(supervisor.wait(), Ok(Order::Go));
        for bad in [&b"{"[..], br#""stop""#, br#"{"module":{}}"#] {
            say(bad);
            assert!(supervisor.wait().is_err());
        }
        let large = Said::Booted {
            kernel: "x".repeat(MESSAGE),
        };
        assert!(supervisor.tell(&large).is_err());
        drop(theirs);
        assert!(supervisor.wait().unwrap_err().found.ends_with("it is gone"));
    }
}
