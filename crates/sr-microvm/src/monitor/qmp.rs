//! The few words of QMP that are needed: capabilities, the events that tell how a machine fares, and `quit`. The program at
//! the other end has read a guest's bytes, so lines are bounded and what is not understood is passed over.

use super::kind::{Monitor, Parting, Seen};
use rustix::io::Errno;
use serde_json::Value;
use std::os::fd::OwnedFd;

const MOST_LINE: usize = 64 << 10;
/// More than these are not told of.
const MOST_EVENTS: usize = 32;

/// A connection.
#[derive(Debug)]
pub struct Qmp {
    /// `None`: it has ended.
    socket: Option<OwnedFd>,
    line: Vec<u8>,
    waiting: Vec<u8>,
    told: usize,
}

impl Qmp {
    /// `socket` is non-blocking. The first that is said leaves the mode of negotiation.
    pub fn new(socket: OwnedFd) -> Qmp {
        Qmp {
            socket: Some(socket),
            line: Vec::new(),
            waiting: b"{\"execute\":\"qmp_capabilities\"}\n".to_vec(),
            told: 0,
        }
    }
}

impl Monitor for Qmp {
    fn source(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    fn has_to_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn quit(&mut self) -> Parting {
        self.waiting.extend(b"{\"execute\":\"quit\"}\n");
        self.write();
        Parting::Stays
    }

    fn write(&mut self) {
        let Some(socket) = &self.socket else { return };
        match rustix::net::send(socket, &self.waiting, rustix::net::SendFlags::NOSIGNAL) {
            Ok(n) => drop(self.waiting.drain(..n)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.socket = None,
        }
    }

    fn read(&mut self) -> Vec<Seen> {
        let Some(socket) = &self.socket else { return Vec::new() };
        let mut buffer = [0u8; 4096];
        let read = match rustix::io::read(socket, &mut buffer) {
            Ok(0) => {
                self.socket = None;
                return Vec::new();
            }
            Ok(n) => n,
            Err(Errno::AGAIN | Errno::INTR) => return Vec::new(),
            Err(_) => {
                self.socket = None;
                return Vec::new();
            }
        };
        self.line.extend(&buffer[..read]);
        let mut events = Vec::new();
        while let Some(end) = self.line.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            events.extend(event(&line));
        }
        if self.line.len() > MOST_LINE {
            self.socket = None;
        }
        let room = MOST_EVENTS - self.told;
        events.truncate(room);
        self.told += events.len();
        events
    }
}

/// What the guest did, of what a line tells.
fn event(line: &[u8]) -> Option<Seen> {
    let said: Value = serde_json::from_slice(line).ok()?;
    if let Some(greeting) = said.get("QMP") {
        return version(greeting).map(Seen::Version);
    }
    let reason = || said.get("data")?.get("reason")?.as_str();
    match (said.get("event")?.as_str()?, reason()) {
        ("GUEST_PANICKED", _) | ("SHUTDOWN", Some("guest-panic")) => Some(Seen::Panicked),
        ("RESET" | "SHUTDOWN", Some("guest-reset")) => Some(Seen::Reset),
        ("SHUTDOWN", Some("guest-shutdown")) => Some(Seen::Shutdown),
        _ => None,
    }
}

fn version(greeting: &Value) -> Option<[u32; 3]> {
    let numbers = greeting.get("version")?.get("qemu")?;
    let number = |name| u32::try_from(numbers.get(name)?.as_u64()?).ok();
    Some([number("major")?, number("minor")?, number("micro")?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn it_negotiates_tells_events_and_quits() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut qmp = Qmp::new(ours.into());
        let greeting = "{\"QMP\":{\"version\":{}}}\n{\"return\":{}}\nnonsense\n{\"event\":\"RTC_CHANGE\"}\n{\"event\":\"RESET\",\"data\":{\"reason\":\"host-qmp-quit\"}}\n";
        theirs.write_all(greeting.as_bytes()).unwrap();
        let shutdown = "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-reset\"}}\n";
        theirs.write_all(&shutdown.as_bytes()[..20]).unwrap();
        assert_eq!(qmp.read(), Vec::<Seen>::new());
        theirs.write_all(&shutdown.as_bytes()[20..]).unwrap();
        assert_eq!(qmp.read(), [Seen::Reset]);
        qmp.quit();
        let mut said = [0; 100];
        let read = theirs.read(&mut said).unwrap();
        let said = String::from_utf8_lossy(&said[..read]).into_owned();
        assert_eq!(said, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n");
        for _ in 0..2 * MOST_EVENTS {
            theirs.write_all(b"{\"event\":\"GUEST_PANICKED\"}\n").unwrap();
        }
        let mut told = 1;
        loop {
            match qmp.read().len() {
                0 => break,
                n => told += n,
            }
        }
        assert_eq!(told, MOST_EVENTS);
        drop(theirs);
        super::super::await_end(qmp.source().unwrap());
        // What was not told of is still read, piece by piece.
        for _ in 0..2 * MOST_EVENTS {
            qmp.read();
        }
        assert!(qmp.source().is_none());
    }

    #[test]
    fn a_greeting_has_a_version_or_none() {
        for (line, expected) in [
            (
                r#"{"QMP":{"version":{"qemu":{"micro":22,"minor":2,"major":7},"package":"Debian"},"capabilities":[]}}"#,
                Some([7, 2, 22]),
            ),
            (r#"{"QMP":{"version":{"qemu":{"micro":-1,"minor":2,"major":7}}}}"#, None),
            (r#"{"QMP":{"version":{"qemu":{"minor":2,"major":7}}}}"#, None),
            (r#"{"QMP":7}"#, None),
        ] {
            assert_eq!(event(line.as_bytes()), expected.map(Seen::Version), "{line}");
        }
    }

    #[test]
    fn a_line_without_end_ends_the_connection() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut qmp = Qmp::new(ours.into());
        let mut sent = 0;
        while qmp.source().is_some() {
            theirs.write_all(&[b'x'; 4096]).unwrap();
            sent += 4096;
            qmp.read();
            assert!(sent <= MOST_LINE + 4096);
        }
    }
}
