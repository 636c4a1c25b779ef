//! What init and the supervisor say to each other over their socket: fixed-size messages, one descriptor at most.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// A step failed: `a` is its index (plus [`PROGRAM_STEPS`] in the program's process), `b` the errno.
pub const TAG_FAILED: u8 = b'E';
/// A descriptor of the view's executable.
pub const TAG_EXECUTABLE: u8 = b'X';
/// A descriptor of the script.
pub const TAG_SCRIPT: u8 = b'#';
/// The writable tmpfs.
pub const TAG_WRITABLE: u8 = b'W';
/// The pty's master.
pub const TAG_PTY: u8 = b'P';
/// The program's process is at the handshake.
pub const TAG_HANDSHAKE: u8 = b'H';
/// The program ended: `a` is the wait status.
pub const TAG_ENDED: u8 = b'S';
/// The filter's notification listener.
pub const TAG_LISTENER: u8 = b'L';
/// The Landlock ruleset of the view.
pub const TAG_LANDLOCK: u8 = b'R';
/// Supervisor to init: go on.
pub const TAG_GO: u8 = b'G';
/// Supervisor to init: send signal `a` to the program's process group.
pub const TAG_SIGNAL: u8 = b'K';

/// Added to the index of a step of the program's process.
pub const PROGRAM_STEPS: u32 = 100_000;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub a: u32,
    pub b: u32,
}

impl Message {
    pub const LEN: usize = 9;

    pub fn encode(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = self.tag;
        out[1..5].copy_from_slice(&self.a.to_le_bytes());
        out[5..9].copy_from_slice(&self.b.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Message {
            tag: bytes[0],
            a: word(1),
            b: word(5),
        })
    }
}

/// Sends one message, with a descriptor if given. Does not allocate.
pub fn send(socket: BorrowedFd<'_>, message: Message, fd: Option<RawFd>) -> io::Result<()> {
    let bytes = message.encode();
    let data = [IoSlice::new(&bytes)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // SAFETY: the caller holds `fd` open during the call.
    let held = fd.map(|raw| [unsafe { BorrowedFd::borrow_raw(raw) }]);
    if let Some(fds) = &held {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and the descriptor that came with it. `None`: the other side is gone.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut bytes = [0u8; Message::LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut data = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fd = fds.into_iter().next();
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    match Message::decode(&bytes[..received.bytes]) {
        Some(message) => Ok(Some((message, fd))),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message of the wrong length",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_other_lengths_are_refused() {
        let message = Message {
            tag: TAG_FAILED,
            a: 0x0102_0304,
            b: u32::MAX,
        };
        assert_eq!(Message::decode(&message.encode()), Some(message));
        assert_eq!(Message::decode(&message.encode()[..8]), None);
    }
}
