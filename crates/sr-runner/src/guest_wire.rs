//! What a run's supervisor and who joins it say to each other: one JSON object a packet, with the descriptors that it names.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};
use sr_common::{Code, Fault};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// The socket's name in the run's folder.
pub(crate) const DOOR: &str = "join";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Said {
    /// Supervisor: come in. With: the bundle, the root of the view, the namespaces, and what is named here.
    Welcome { landlock: bool, cgroup: bool, tasks: usize },
    /// Supervisor: no.
    Refused {
        path: String,
        found: String,
        remedy: String,
    },
    /// Who joins: the command is at its exec. With: its pidfd, and what is named here.
    Ready { listener: bool, script: Option<String> },
    /// Supervisor: it stands behind the run's wall, and that is recorded.
    Go,
    /// Who joins: the command's wait status.
    Ended { status: i32 },
    /// Who joins: the command was killed together with its init.
    Lost,
    /// Supervisor: with the run, the command has ended.
    RunEnded,
}

impl Said {
    pub(crate) fn refused(fault: &Fault) -> Said {
        Said::Refused {
            path: fault.path.clone(),
            found: fault.found.clone(),
            remedy: fault.remedy.clone(),
        }
    }

    /// What was said, where it is no refusal.
    pub(crate) fn accepted(self) -> Result<Said, Fault> {
        match self {
            Said::Refused { path, found, remedy } => Err(Fault::new(Code::Run001, path, found, remedy)),
            Said::RunEnded => Err(Fault::new(
                Code::Run001,
                "run",
                "the run has ended meanwhile",
                "a command can only join a sandbox that is running; start one with safe-run run",
            )),
            other => Ok(other),
        }
    }
}

const MOST_BYTES: usize = 16 * 1024;
const MOST_DESCRIPTORS: usize = 24;

pub(crate) fn socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// The door of the run whose folder is `dir`. A socket's name has 108 bytes at most; a store's path may have more.
pub(crate) fn door(dir: BorrowedFd<'_>) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{DOOR}", dir.as_raw_fd()))
}

/// Says `said`. It never blocks: a packet is far smaller than a socket's buffer.
pub(crate) fn send(socket: BorrowedFd<'_>, said: &Said, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(said)?;
    if bytes.len() > MOST_BYTES {
        return Err(io::Error::other("too much to say in one packet"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one packet"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
    Ok(())
}

/// What the other side said; `None` if it is gone. Only to be called where something is there to be read.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Said, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MOST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let mut receive = || recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags);
    let received = match receive() {
        // The other side closed without having read all: what it had said before comes after this.
        Err(rustix::io::Errno::CONNRESET) => receive()?,
        other => other?,
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..received.bytes])?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_said_arrives_with_its_descriptors() {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let fds = vec![a.as_fd(); 13];
        let said = Said::Welcome {
            landlock: true,
            cgroup: false,
            tasks: 3,
        };
        send(a.as_fd(), &said, &fds).unwrap();
        let (got, descriptors) = receive(b.as_fd()).unwrap().unwrap();
        assert!(matches!(
            got,
            Said::Welcome {
                landlock: true,
                cgroup: false,
                tasks: 3
            }
        ));
        assert_eq!(descriptors.len(), 13);
        drop((a, descriptors));
        assert!(receive(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_an_error() {
        let (a, b) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::io::write(&a, b"{\"go\":1").unwrap();
        assert!(receive(b.as_fd()).is_err());
    }
}
