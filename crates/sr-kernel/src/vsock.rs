//! A connection from a virtual machine to its host (vsock(7)).

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Waits until the host has taken it, or for as long as the kernel does (two seconds); non-blocking then.
pub fn connect_to_host(port: u32) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the type is plain numbers, for all of which zero is a value.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = libc::VMADDR_CID_HOST;
    address.svm_port = port;
    let length = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the address is one of the socket's family, and its length is its own; it is only read.
    let done = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}
