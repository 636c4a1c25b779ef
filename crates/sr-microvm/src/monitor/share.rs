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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What this directory's kernel makes of the share, in a mount namespace of its own.
    const SCRIPT: &str = r#"
set -e; cd "$1"; mkdir there; mount -t 9p -o trans=unix,version=9p2000.L,msize=500000,cache=mmap,access=client "$1/door" there
cd there; test "$(cat given)" = 0123456789; printf abc > made; mkdir -p a/b; mv made a/b/moved; ln a/b/moved hard; ln -s moved a/b/link
test "$(cat a/b/link)$(stat -c %h hard)" = abc2; chmod 640 hard; touch -d @7 hard; test "$(stat -c %a-%Y hard)" = 640-7
head -c 3000000 /dev/urandom > big; cp big copy; cmp big copy; truncate -s 5 big; test "$(stat -c %s big)" = 5
seq 500 | (cd a; xargs touch); test "$(ls a | wc -l)" = 501; rm -r a; mkfifo pipe; (echo through > pipe &); test "$(cat pipe)" = through
exec 3<>gone; rm gone; echo x >&3; ! mknod node c 1 3 2> /dev/null; test "$(ls | tr '\n' ' ')" = "big copy given hard pipe "
"#;

    #[test]
    fn a_kernel_mounts_what_is_shared() {
        if std::env::var_os("SAFE_RUN_TEST_RIG").is_none() {
            println!("SKIP a_kernel_mounts_what_is_shared: only on the rig: SAFE_RUN_TEST_RIG is not set");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir(path("shared")).unwrap();
        std::fs::write(path("shared/given"), "0123456789").unwrap();
        serve(Door::open(&path("door")).unwrap(), &path("shared")).unwrap();
        let words = ["--mount", "sh", "-c", SCRIPT, "sh", dir.path().to_str().unwrap()];
        let ran = Command::new("unshare").args(words).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(std::fs::read(path("shared/hard")).unwrap(), b"abc");
        // There was one guest, and nobody else can come.
        assert!(!dir.path().join("door").exists());
    }

    #[test]
    fn a_guest_that_says_how_long_nothing_can_be_is_heard_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let door = dir.path().join("door");
        serve(
            Door::open(door.to_str().unwrap()).unwrap(),
            dir.path().to_str().unwrap(),
        )
        .unwrap();
        let mut guest = std::os::unix::net::UnixStream::connect(&door).unwrap();
        guest.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(guest.read(&mut [0]).unwrap(), 0);
    }
}
