//! Whether a guest can be made with KVM: the device is opened, asked for its version, and for a machine without anything in
//! it, which is gone again at once. Whether such a machine also runs is seen where one is started.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// `_IO(KVMIO, 0)` and `_IO(KVMIO, 1)`.
const GET_API_VERSION: libc::c_ulong = 0xae00;
const CREATE_VM: libc::c_ulong = 0xae01;
/// The only version that there has been since Linux 2.6.22.
const VERSION: c_int = 12;

/// Why no guest can be made here; `None`: one can.
pub fn blocked() -> Option<String> {
    blocked_at(Path::new("/dev/kvm"))
}

fn blocked_at(path: &Path) -> Option<String> {
    let shown = path.display();
    let device = match open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()) {
        Ok(device) => device,
        Err(Errno::NOENT) => return Some(format!("there is no {shown}")),
        Err(Errno::ACCESS) => {
            return Some(format!("{shown} may not be opened by this user{}", whose(path)));
        }
        Err(e) => return Some(format!("{shown} cannot be opened: {e}")),
    };
    match ask(device.as_fd(), GET_API_VERSION) {
        Ok(VERSION) => {}
        Ok(other) => {
            return Some(format!(
                "{shown} speaks version {other} of KVM's interface, not {VERSION}"
            ));
        }
        Err(e) => return Some(format!("{shown} is not KVM's: {e}")),
    }
    match ask(device.as_fd(), CREATE_VM) {
        Ok(machine) => {
            // SAFETY: the kernel has just given this process the descriptor, and nobody else knows of it.
            drop(unsafe { OwnedFd::from_raw_fd(machine) });
            None
        }
        Err(e) => Some(format!("KVM makes no machine: {e}")),
    }
}

/// Who may, as far as the file's mode says.
fn whose(path: &Path) -> String {
    match rustix::fs::stat(path) {
        Ok(stat) if stat.st_mode & 0o060 == 0o060 => format!(", who is not in its group ({})", stat.st_gid),
        Ok(stat) => format!(": only by its owner ({})", stat.st_uid),
        Err(_) => String::new(),
    }
}

fn ask(device: BorrowedFd<'_>, question: libc::c_ulong) -> std::io::Result<c_int> {
    // SAFETY: both questions take a number, here 0, and touch no memory of this process.
    match unsafe { libc::ioctl(device.as_raw_fd(), question, 0) } {
        answer if answer >= 0 => Ok(answer),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kvm_is_named() {
        let found = |path: &str| blocked_at(Path::new(path)).unwrap();
        assert_eq!(found("/dev/none"), "there is no /dev/none");
        assert!(found("/dev/null").starts_with("/dev/null is not KVM's: "));
        assert!(found("/").starts_with("/ cannot be opened: "));
    }

    #[test]
    fn who_may_open_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kvm");
        let told = |mode| {
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            whose(&file)
        };
        let stat = rustix::fs::stat(dir.path()).unwrap();
        assert_eq!(told(0o600), format!(": only by its owner ({})", stat.st_uid));
        assert_eq!(told(0o640), format!(": only by its owner ({})", stat.st_uid));
        assert_eq!(told(0o660), format!(", who is not in its group ({})", stat.st_gid));
    }
}
