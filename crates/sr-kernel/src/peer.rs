//! Who is at the other end of a Unix socket, as the kernel says.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Who made the other end of a Unix socket, or connected it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// 0: of another pid namespace.
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
}

/// As the kernel noted it when the socket was made (`SO_PEERCRED`, `SO_PEERGROUPS`; unix(7)).
pub fn of(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    const SO_PEERGROUPS: libc::c_int = 59;
    let fd = socket.as_raw_fd();
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes of a live struct ucred.
    let answer = unsafe {
        let value = (&raw mut cred).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut size)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    // As many as the kernel has at most (NGROUPS_MAX).
    let mut groups = vec![0u32; 65536];
    let mut size = (groups.len() * size_of::<u32>()) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes, which is what the vector holds.
    let answer = unsafe {
        let value = groups.as_mut_ptr().cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, SO_PEERGROUPS, value, &raw mut size)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(size as usize / size_of::<u32>());
    Ok(Peer {
        pid: cred.pid,
        uid: cred.uid,
        gid: cred.gid,
        groups,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn this_process_made_both_ends() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = of(ours.as_fd()).unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        let groups: Vec<u32> = rustix::process::getgroups()
            .unwrap()
            .iter()
            .map(|g| g.as_raw())
            .collect();
        assert_eq!((peer.gid, peer.groups), (rustix::process::getegid().as_raw(), groups));
        assert!(of(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
