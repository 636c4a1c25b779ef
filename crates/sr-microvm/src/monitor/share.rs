//! The program's files for a guest whose monitor shares none: a directory served by 9P2000.L over a second connection of the
//! guest's (the kernel's `Documentation/filesystems/9p.rst`; the messages are those of the diod project's protocol.md and
//! `include/net/9p/9p.h`). The server is as hostile to the guest's words as the rest of the driver, and stands in the same
//! sandbox: what it may open is what the view shows, as the one user that the sandbox has.

mod files;
mod wire;

use super::Failure;
use super::kind::Door;
use files::Files;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// The longest message, in both directions, as the guest asks for it at most.
const MESSAGE: u32 = 512 << 10;
/// A message's size, its type and its tag.
const HEAD: usize = 7;

/// Serves `directory` to the one guest that comes to `door`, on a thread of its own, for as long as this process lives.
pub fn serve(door: Door, directory: &str) -> Result<(), Failure> {
    // The guest's kernel has applied the program's mask to the modes that it asks for.
    rustix::process::umask(rustix::fs::Mode::empty());
    let files = Files::of(directory).map_err(|e| Failure::own(&format!("the files to share ({directory})"), e))?;
    let serve = move || {
        if let Some(guest) = come(door) {
            // The guest sees a share that is gone; what becomes of the run is said by its agent, or by its silence.
            let _ = answer_all(guest, files);
        }
    };
    let thread = std::thread::Builder::new().name("share".to_owned());
    thread
        .spawn(serve)
        .map(drop)
        .map_err(|e| Failure::own("the thread that shares files", e))
}

/// Who comes first; nobody comes after it.
fn come(door: Door) -> Option<File> {
    loop {
        match poll(&mut [PollFd::new(&door.socket, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        match door.accept() {
            Ok(Some(guest)) => return blocking(guest).ok(),
            Ok(None) => {}
            Err(_) => return None,
        }
    }
}

fn blocking(socket: OwnedFd) -> std::io::Result<File> {
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(socket.into())
}

fn answer_all(mut guest: File, mut files: Files) -> std::io::Result<()> {
    let mut message = Vec::new();
    loop {
        let mut size = [0; 4];
        guest.read_exact(&mut size)?;
        let size = u32::from_le_bytes(size);
        let rest = usize::try_from(size).unwrap_or(0).checked_sub(4);
        let Some(rest) = rest.filter(|rest| size <= files.message() && *rest >= HEAD - 4) else {
            return Err(std::io::Error::from(std::io::ErrorKind::InvalidData));
        };
        message.resize(rest, 0);
        guest.read_exact(&mut message)?;
        guest.write_all(&files.answer(&message))?;
    }
}
