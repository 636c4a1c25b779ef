//! What init and the supervisor say to each other over their socket: fixed-size messages, with descriptors.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

/// Descriptors that one message can carry: the kernel's `SCM_MAX_FD` (unix(7)).
pub const MAX_DESCRIPTORS: usize = 253;

/// A step failed: `a` is its index (plus [`PROGRAM_STEPS`] in the program's process), `b` the errno.
pub const TAG_FAILED: u8 = b'E';
/// A descriptor of the view's executable.
pub const TAG_EXECUTABLE: u8 = b'X';
/// A descriptor of the script.
pub const TAG_SCRIPT: u8 = b'#';
/// A descriptor of the executable that a monitor's guest is to start, and of its script.
pub const TAG_GUEST_EXECUTABLE: u8 = b'x';
pub const TAG_GUEST_SCRIPT: u8 = b's';
/// What a guest's host shares with it.
pub const TAG_SHARE: u8 = b'D';
/// A mount whose content is hashed: `a` is its number.
pub const TAG_MOUNT: u8 = b'M';
/// The writable tmpfs.
pub const TAG_WRITABLE: u8 = b'W';
/// The pty's master.
pub const TAG_PTY: u8 = b'P';
/// The program's process is at the handshake.
pub const TAG_HANDSHAKE: u8 = b'H';
/// The program ended: `a` is the wait status, `b` the CPU time of all that ran, in microseconds, where nothing else of
/// the sandbox is left; 0 where something is, or the time does not fit.
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
    // SAFETY: the caller holds `fd` open during the call.
    let held = fd.map(|raw| [unsafe { BorrowedFd::borrow_raw(raw) }]);
    send_each(socket, message, held.as_ref().map_or(&[], |fd| fd.as_slice()))
}

/// Sends one message with up to [`MAX_DESCRIPTORS`] descriptors. Does not allocate.
pub fn send_each(socket: BorrowedFd<'_>, message: Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = message.encode();
    let data = [IoSlice::new(&bytes)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(rustix::io::Errno::TOOMANYREFS.into());
    }
    sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and the descriptor that came with it. `None`: the other side is gone.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    let mut first = None;
    let message = receive_each(socket, |fd| {
        first.get_or_insert(fd);
    })?;
    Ok(message.map(|message| (message, first)))
}

/// Receives one message and hands over every descriptor that came with it. Does not allocate.
pub fn receive_each(socket: BorrowedFd<'_>, mut keep: impl FnMut(OwnedFd)) -> io::Result<Option<Message>> {
    let mut bytes = [0u8; Message::LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut reset = false;
    let received = loop {
        let mut data = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // The other side ended with something unread; what it had sent before is read after this.
            Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
            other => break other?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            fds.into_iter().for_each(&mut keep);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    match Message::decode(&bytes[..received.bytes]) {
        Some(message) => Ok(Some(message)),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a message of the wrong length",
        )),
    }
}

/// The next message, if one waits; it stays where it is.
pub fn peek(socket: BorrowedFd<'_>) -> Option<Message> {
    let mut bytes = [0u8; Message::LEN];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (read, _) = rustix::net::recv(socket, &mut bytes, flags).ok()?;
    Message::decode(&bytes[..read.min(Message::LEN)])
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

    #[test]
    fn as_many_descriptors_as_the_kernel_takes() {
        use std::os::fd::AsFd;
        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let go = Message {
            tag: TAG_GO,
            a: 1,
            b: 2,
        };
        let many = vec![ours.as_fd(); MAX_DESCRIPTORS + 1];
        for count in [0, 1, MAX_DESCRIPTORS] {
            send_each(ours.as_fd(), go, &many[..count]).unwrap();
            let mut came = Vec::new();
            assert_eq!(receive_each(theirs.as_fd(), |fd| came.push(fd)).unwrap(), Some(go));
            assert_eq!(came.len(), count);
        }
        assert!(send_each(ours.as_fd(), go, &many).is_err());
        drop(many);
        drop(ours);
        assert_eq!(receive_each(theirs.as_fd(), drop).unwrap(), None);
    }
}
