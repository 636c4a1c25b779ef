//! Who asks. The truth is two accounts that must agree: the kernel's of who made the socket pair (`SO_PEERCRED`: its maker's
//! ids at that moment, whoever holds an end now), and sudo's or pkexec's of who called it, which it puts into the
//! environment itself. A socket alone could have been made by somebody else and passed on; a variable alone says nothing of
//! the socket. Root that starts the helper without either of them answers for the socket.

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use sr_kernel::peer::{self, Peer};
use std::os::fd::BorrowedFd;

/// What those who start a helper say of who called them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// `SUDO_UID`.
    pub sudo: Option<String>,
    /// `PKEXEC_UID`.
    pub pkexec: Option<String>,
}

impl Told {
    fn uid(&self) -> Result<Option<u32>, String> {
        let (name, text) = match (&self.sudo, &self.pkexec) {
            (None, None) => return Ok(None),
            (Some(text), None) => ("SUDO_UID", text),
            (None, Some(text)) => ("PKEXEC_UID", text),
            (Some(_), Some(_)) => return Err("both SUDO_UID and PKEXEC_UID are set".into()),
        };
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let uid = text.parse().ok().filter(|_| plain);
        uid.map(Some).ok_or_else(|| format!("{name} is no uid"))
    }
}

/// Who is at the other end of `socket`.
pub fn identify(socket: BorrowedFd<'_>, told: &Told) -> Result<Peer, String> {
    let kind = (socket_domain(socket), socket_type(socket));
    if kind != (Ok(AddressFamily::UNIX), Ok(SocketType::SEQPACKET)) {
        return Err("standard input is not a socket of Safe-Run's".into());
    }
    let peer = peer::of(socket).map_err(|e| format!("the kernel does not say who asks: {e}"))?;
    judge(peer, told.uid()?)
}

fn judge(peer: Peer, told: Option<u32>) -> Result<Peer, String> {
    if peer.pid <= 0 {
        return Err("who asks is in another pid namespace".into());
    }
    match told {
        Some(uid) if uid != peer.uid => Err(format!("uid {uid} called, and uid {} made the socket", peer.uid)),
        _ => Ok(peer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sudo: Option<&str>, pkexec: Option<&str>) -> Result<Option<u32>, String> {
        Told {
            sudo: sudo.map(Into::into),
            pkexec: pkexec.map(Into::into),
        }
        .uid()
    }

    #[test]
    fn two_accounts_must_agree() {
        assert_eq!(told(Some("1000"), None), Ok(Some(1000)));
        assert_eq!(told(None, Some("7")), Ok(Some(7)));
        assert_eq!(told(None, None), Ok(None));
        assert!(told(Some("1000"), Some("1000")).is_err());
        for bad in ["", "+1", "-1", " 1", "1 ", "0x1", "4294967296", "ann"] {
            assert!(told(Some(bad), None).is_err(), "{bad}");
        }
        let peer = |pid, uid| Peer {
            pid,
            uid,
            gid: 5,
            groups: Vec::new(),
        };
        assert_eq!(judge(peer(9, 1000), Some(1000)), Ok(peer(9, 1000)));
        assert_eq!(judge(peer(9, 1000), None), Ok(peer(9, 1000)));
        assert!(judge(peer(9, 1000), Some(1001)).is_err());
        assert!(judge(peer(9, 1000), Some(0)).is_err());
        assert!(judge(peer(9, 0), Some(1000)).is_err());
        assert_eq!(judge(peer(9, 0), Some(0)), Ok(peer(9, 0)));
        assert!(judge(peer(0, 1000), Some(1000)).is_err());
    }

    #[test]
    fn other_kinds_of_standard_input() {
        use std::os::fd::AsFd;
        let null = std::fs::File::open("/dev/null").unwrap();
        let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        for fd in [null.as_fd(), stream.as_fd()] {
            assert!(identify(fd, &Told::default()).unwrap_err().contains("standard input"));
        }
    }
}
