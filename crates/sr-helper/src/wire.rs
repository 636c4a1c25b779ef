//! What is said on the socket: one JSON document a message, at most [`MAX`] bytes, one question outstanding. The helper
//! speaks first. What is to be acted on comes as a descriptor, never as a path.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use sr_common::RunId;
use sr_common::facts::CgroupController;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Of this form of what is said.
pub const VERSION: u32 = 1;
/// The longest message.
pub const MAX: usize = 4096;

/// The most that a run may hold of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Bytes, of memory and swap together.
    pub memory: u64,
    /// Thousandths of a CPU.
    pub cpu: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What a run's group is to hold. What is not named its user has a group for already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    #[serde(default, deserialize_with = "named", skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// `null` is no other way to say nothing.
fn named<'d, D: Deserializer<'d>>(from: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(from).map(Some)
}

impl From<Amounts> for Wanted {
    fn from(all: Amounts) -> Wanted {
        Wanted {
            memory: Some(all.memory),
            cpu: Some(all.cpu),
            pids: Some(all.pids),
        }
    }
}

/// A message to the helper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub version: u32,
    pub ask: Ask,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Ask {
    /// Make the group of a run. There is one at a time.
    MakeGroup { id: RunId, limits: Wanted },
    /// Move the process whose pidfd comes along into the group.
    Enter,
    /// Move it into the group of a run of the caller's user that another helper made.
    Join { id: RunId },
    /// Limit what is made in the directory that comes along, which is empty. There is one at a time.
    LimitDisk { bytes: u64, files: u64 },
    /// Take that limit away.
    FreeDisk,
    /// Kill what is in the group.
    Kill,
    /// Kill what is in the group, and remove it.
    Remove,
}

/// A message of the helper's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub version: u32,
    pub say: Say,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Say {
    /// The first message: where groups would be, and the most that each may hold.
    Ready(Ready),
    Done,
    /// What was asked for was not done.
    Refused {
        why: String,
    },
}

/// The parents of the groups of a user's runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    pub memory: CgroupController,
    pub cpu: CgroupController,
    pub pids: CgroupController,
    pub ceilings: Amounts,
    /// `None`: no project quotas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskCeilings>,
}

/// The most that a run may hold on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskCeilings {
    /// Of the file systems.
    pub devices: Vec<u64>,
    pub bytes: u64,
    pub files: u64,
}

/// Why a message could not be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not one of these; the next may be.
    Malformed(String),
    /// Nothing more can be received.
    Broken(String),
}

/// More descriptors than any message carries: those beyond are closed by the kernel, and the message is refused.
const TAKEN: usize = 4;

/// The next message and the descriptors that came with it; `None` at the end.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<Option<(T, Vec<OwnedFd>)>, Fault> {
    // One more than the longest, so that nobody need trust the flag alone.
    let mut bytes = [0u8; MAX + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TAKEN))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut data = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // The other side ended with something unread.
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Err(e) => return Err(Fault::Broken(e.to_string())),
            Ok(received) => break received,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    if received.bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Fault::Malformed("more descriptors than any message carries".into()));
    }
    if received.bytes > MAX || received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Fault::Malformed(format!("a message of more than {MAX} bytes")));
    }
    let message = decode(&bytes[..received.bytes]).map_err(Fault::Malformed)?;
    Ok(Some((message, fds)))
}

/// What a message says.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|e| format!("not a message of version {VERSION}: {e}"))
}

/// Sends one message, with a descriptor if given.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fd: Option<BorrowedFd<'_>>) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    let data = [IoSlice::new(&bytes)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(rustix::io::Errno::TOOMANYREFS.into());
    }
    sendmsg(socket, &data, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    const MAKE: &str = r#"{"version":1,"ask":{"makeGroup":{"id":"01j00000000000000000000000","limits":{"memory":1,"cpu":2,"pids":3}}}}"#;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn a_request_has_one_form() {
        let request: Request = decode(MAKE.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), MAKE);
        let enter: Request = decode(br#"{"version":1,"ask":"enter"}"#).unwrap();
        assert_eq!(enter.ask, Ask::Enter);
        let some = MAKE.replace(r#","pids":3"#, "");
        let request: Request = decode(some.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), some);
        for (what, with) in [
            ("01j00000000000000000000000", "../../../../../../tmp/xxxx"),
            ("01j00000000000000000000000", "01j0000000000000000000000"),
            ("01j00000000000000000000000", "01J00000000000000000000000"),
            (r#""pids":3"#, r#""pids":-3"#),
            (r#""pids":3"#, r#""pids":3.5"#),
            (r#""pids":3"#, r#""pids":18446744073709551616"#),
            (r#""pids":3"#, r#""pids":3,"io":4"#),
            (r#""pids":3"#, r#""pids":3,"pids":4"#),
            (r#""pids":3"#, r#""pids":null"#),
            (r#""ask""#, r#""path":"/","ask""#),
            ("makeGroup", "run"),
            ("}}}}", "}}}}{}"),
        ] {
            let changed = MAKE.replace(what, with);
            assert_ne!(changed, MAKE);
            assert!(decode::<Request>(changed.as_bytes()).is_err(), "{changed}");
        }
    }

    #[test]
    fn long_messages_and_many_descriptors_are_refused_and_the_next_is_read() {
        let (ours, theirs) = pair();
        rustix::net::send(&theirs, &[b' '; MAX + 1], SendFlags::empty()).unwrap();
        rustix::net::send(&theirs, &[b' '; 9 * MAX], SendFlags::empty()).unwrap();
        for _ in 0..2 {
            let fault = receive::<Request>(ours.as_fd()).unwrap_err();
            assert!(
                matches!(&fault, Fault::Malformed(why) if why.contains("4096")),
                "{fault:?}"
            );
        }
        let message = sr_kernel::wire::Message { tag: b'G', a: 0, b: 0 };
        sr_kernel::wire::send_each(theirs.as_fd(), message, &[theirs.as_fd(); TAKEN + 40]).unwrap();
        let before = open_descriptors();
        let fault = receive::<Request>(ours.as_fd()).unwrap_err();
        assert!(
            matches!(&fault, Fault::Malformed(why) if why.contains("descriptors")),
            "{fault:?}"
        );
        assert_eq!(open_descriptors(), before);
        let request = Request {
            version: VERSION,
            ask: Ask::Enter,
        };
        send(theirs.as_fd(), &request, Some(theirs.as_fd())).unwrap();
        let (read, fds) = receive::<Request>(ours.as_fd()).unwrap().unwrap();
        assert_eq!((read, fds.len()), (request, 1));
        drop((theirs, fds));
        assert!(receive::<Request>(ours.as_fd()).unwrap().is_none());
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let (ours, _theirs) = pair();
        let say = Say::Refused { why: "x".repeat(MAX) };
        assert!(send(ours.as_fd(), &Answer { version: VERSION, say }, None).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<Request>(&bytes).is_err());
        }

        /// What is read from a changed request is written as what it was read from, or not read.
        #[test]
        fn any_change_of_a_request(at in 0..MAKE.len(), byte in any::<u8>(), cut in any::<bool>()) {
            let mut bytes = MAKE.as_bytes().to_vec();
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
                prop_assert!(decode::<Request>(&bytes).is_err());
            } else if let Ok(request) = decode::<Request>(&bytes) {
                let again = serde_json::to_vec(&request).unwrap();
                let tight: Vec<u8> = bytes.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
                prop_assert!(again == tight || byte.is_ascii_digit() || byte == b'\\', "{}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
