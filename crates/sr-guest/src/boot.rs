//! From the kernel's hand-over to a port that leads to the host.

use crate::failure::{Failure, at, failure};
use crate::port::Port;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use sr_common::guest::AGENT_PORT;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Where the modules are, and the list of them in an order in which they can be loaded.
const MODULES_DIR: &str = "/modules";
const MODULES_LIST: &str = "/modules/list";

/// How often a port is looked for, a millisecond apart: its device is found while others are.
const TRIES: u32 = 10_000;

/// The agent's own: the program has others.
pub fn mounts() -> Result<(), Failure> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (fs, place) in [("devtmpfs", "/dev"), ("proc", "/proc")] {
        match mount(fs, place, fs, flags, None) {
            // The kernel may have mounted devtmpfs itself.
            Ok(()) | Err(Errno::BUSY) => {}
            Err(e) => return Err(failure(format!("mount {fs}"), e.to_string())),
        }
    }
    // A program is given what it asks for and ended at its limit, as on a host that has more memory than a guest.
    let setting = "/proc/sys/vm/overcommit_memory";
    std::fs::write(setting, "1").map_err(|e| failure(format!("write {setting}"), e.to_string()))
}

/// Loads `names` and what each needs, before it. A module that the list does not have is the kernel's own, or of no use to it.
pub fn modules(names: &[&str]) -> Result<(), Failure> {
    let list = match std::fs::read_to_string(MODULES_LIST) {
        Ok(list) => list,
        // A kernel that has all in itself comes without.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(at("read the list of modules")(e)),
    };
    for name in order(&list, names) {
        let loaded = std::fs::File::open(format!("{MODULES_DIR}/{name}"))
            .map_err(|e| e.to_string())
            .and_then(|file| {
                match rustix::system::finit_module(&file, c"", 0) {
                    // By an earlier call.
                    Ok(()) | Err(Errno::EXIST) => Ok(()),
                    Err(e) => Err(e.to_string()),
                }
            });
        loaded.map_err(|found| failure(format!("load the module {name}"), found))?;
    }
    Ok(())
}

/// The files of `names` and of all that they stand on, in the order of the list: a line for each, `FILE: FILE …`, which comes
/// behind those that it names.
fn order<'a>(list: &'a str, names: &[&str]) -> Vec<&'a str> {
    let lines: Vec<(&str, &str)> = list.lines().filter_map(|line| line.split_once(':')).collect();
    let mut wanted: Vec<String> = names.iter().map(|name| format!("{name}.ko")).collect();
    // From the end: whatever needs a module comes after it.
    let mut found = Vec::new();
    for (file, needs) in lines.iter().rev() {
        if wanted.iter().any(|name| name == file) {
            found.push(*file);
            wanted.extend(needs.split_ascii_whitespace().map(str::to_owned));
        }
    }
    found.reverse();
    found
}

/// Waits for a device of that name in `/dev`.
pub fn device(name: &str) -> Result<(), Failure> {
    let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let path = std::path::Path::new("/dev").join(name);
    for _ in 0..TRIES {
        if plain && path.exists() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(failure(
        "find the root's disk",
        format!("{name:?} has not appeared in /dev"),
    ))
}

/// A connection to the host's end of the vsock.
pub fn vsock() -> Result<Port, Failure> {
    let step = "connect to the host by vsock";
    let mut last = None;
    for _ in 0..TRIES {
        match sr_kernel::vsock::connect_to_host(AGENT_PORT) {
            Ok(socket) => return Port::new(socket),
            // Its device is found while others are.
            Err(e) => last = Some(e),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let found = last.map_or_else(|| "no try was made".to_owned(), |e| e.to_string());
    Err(failure(step, found))
}

/// The one virtio serial port there is.
pub fn port() -> Result<Port, Failure> {
    let step = "open the port that leads to the host";
    for _ in 0..TRIES {
        if let Some(port) = find().map_err(at(step))? {
            return Port::new(port);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(failure(step, "no virtio serial port has appeared"))
}

fn find() -> std::io::Result<Option<OwnedFd>> {
    for entry in std::fs::read_dir("/dev")? {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"vport"))
        {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
            return match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(port) => Ok(Some(port)),
                // Its name comes a moment before the port itself.
                Err(Errno::NXIO | Errno::NODEV | Errno::NOENT) => Ok(None),
                Err(e) => Err(e.into()),
            };
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn what_is_needed_comes_first_and_nothing_else_does() {
        let list =
            "ring.ko:\nvirtio.ko: ring.ko\next4.ko:\nnet.ko:\nnine.ko: net.ko virtio.ko\npci.ko: virtio.ko ring.ko\n";
        assert_eq!(order(list, &["nine"]), ["ring.ko", "virtio.ko", "net.ko", "nine.ko"]);
        assert_eq!(order(list, &["pci", "other"]), ["ring.ko", "virtio.ko", "pci.ko"]);
        assert!(order("", &["pci"]).is_empty());
    }
}
