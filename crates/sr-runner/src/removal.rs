//! Removing a tree that a program made: however deep it is, whatever its modes are. No link is followed, and at any time two
//! directories are open.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, openat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

fn open(at: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    match openat(at, name, FLAGS, Mode::empty()) {
        // The program took its owner's permissions away. Nothing of it runs any more that could put a link here.
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(at, name, Mode::RWXU, AtFlags::empty())?;
            openat(at, name, FLAGS, Mode::empty())
        }
        other => other,
    }
}

/// The names in a directory, and which of them are directories; as many as one look gives.
fn entries(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, bool)>> {
    const AT_ONCE: usize = 4096;
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let directory = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode).is_dir()
            }
            kind => kind.is_dir(),
        };
        found.push((name.to_owned(), directory));
        if found.len() == AT_ONCE {
            break;
        }
    }
    Ok(found)
}

/// A directory on the way down.
struct Level {
    /// In the one above; none for the top.
    name: Option<CString>,
    /// Device and inode.
    identity: (u64, u64),
    /// Directories in it that were seen and are still to be removed.
    below: Vec<CString>,
}

impl Level {
    /// Looks into `dir`, and unlinks there what is no directory. `false`: nothing was found.
    fn look(&mut self, dir: BorrowedFd<'_>) -> io::Result<bool> {
        let found = entries(dir)?;
        let any = !found.is_empty();
        for (name, directory) in found {
            if directory {
                self.below.push(name);
            } else {
                unlinkat(dir, &name, AtFlags::empty())?;
            }
        }
        Ok(any)
    }
}

fn identity(dir: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Removes the directory at `path`, of which all that wrote into it has ended. `false`: it is not there.
pub fn remove(path: &Path) -> io::Result<bool> {
    let mut at = match rustix::fs::open(path, FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        other => other?,
    };
    let mut level = Level {
        name: None,
        identity: identity(at.as_fd())?,
        below: Vec::new(),
    };
    let mut above: Vec<Level> = Vec::new();
    loop {
        if let Some(name) = level.below.pop() {
            let down = open(at.as_fd(), &name)?;
            fchmod(&down, Mode::RWXU)?;
            let next = Level {
                name: Some(name),
                identity: identity(down.as_fd())?,
                below: Vec::new(),
            };
            above.push(std::mem::replace(&mut level, next));
            at = down;
        } else if !level.look(at.as_fd())? {
            // Not by a path, which could be too long; nothing is renamed, which a Landlock domain would keep the supervisor from.
            let (Some(name), Some(higher)) = (level.name, above.pop()) else {
                break;
            };
            let up = openat(&at, c"..", FLAGS, Mode::empty())?;
            if identity(up.as_fd())? != higher.identity {
                return Err(io::Error::other("a directory was moved while it was removed"));
            }
            unlinkat(&up, &name, AtFlags::REMOVEDIR)?;
            (at, level) = (up, higher);
        }
    }
    std::fs::remove_dir(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn trees_of_any_depth_and_mode_are_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Deeper than a path may be long.
        let mut at = rustix::fs::open(&tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = "d".repeat(100);
        for _ in 0..100 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::RWXU).unwrap();
            rustix::fs::symlinkat(&kept, &at, "link").unwrap();
            at = openat(&at, name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        for name in ["a", "b"] {
            fs::create_dir(tree.join(name)).unwrap();
            fs::create_dir(tree.join(name).join("in")).unwrap();
            fs::write(tree.join(name).join("in/f"), "x").unwrap();
        }
        for (name, mode) in [("a/in", 0o000), ("a", 0o500), ("b", 0o000)] {
            fs::set_permissions(tree.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        for number in 0..5000 {
            fs::write(tree.join(format!("f{number}")), "").unwrap();
        }
        assert!(remove(&tree).unwrap());
        assert!(!tree.exists() && kept.join("file").exists());
        assert!(!remove(&tree).unwrap());
        std::os::unix::fs::symlink(&kept, &tree).unwrap();
        assert!(remove(&tree).is_err() && kept.join("file").exists());
    }
}
