//! A directory for what is needed only while something is made: private, gone at the end, and removed by the next `gc` where
//! its maker was killed.

use crate::fault::on;
use rustix::fs::{FlockOperation, Mode, OFlags};
use sr_common::Fault;
use sr_common::digest::hex;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Locked while its maker lives.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Scratch {
    /// A new directory in `dir`, which exists.
    pub fn new(dir: &Path) -> Result<Scratch, Fault> {
        loop {
            let path = dir.join(unique().map_err(on(dir))?);
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(on(&path))?;
            // Whoever cleans up may come between: then it is gone again.
            let lock = match open(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(on(&path))?,
            };
            let locked = rustix::fs::flock(&lock, FlockOperation::LockExclusive);
            locked.map_err(|e| on(&path)(e.into()))?;
            if path.is_dir() {
                return Ok(Scratch { path, _lock: lock });
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to gc, which says so.
        let _ = remove(&self.path);
    }
}

/// What makers that are no more have left in `dir`; removed unless it is only to be looked at.
pub(crate) fn sweep(dir: &Path, look: bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let held = match open(&path) {
            Ok(fd) => rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map(|()| fd),
            Err(_) => continue,
        };
        // A maker holds it.
        let Ok(_held) = held else { continue };
        let there = if look {
            path.symlink_metadata().map(drop)
        } else {
            remove(&path)
        };
        match there {
            Ok(()) => found.push(path),
            // Its maker was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    found.sort();
    Ok(found)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty()).map_err(Into::into)
}

/// Directories that were unpacked may deny their own owner.
fn remove(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let stat = fs::symlink_metadata(path)?;
    if !stat.is_dir() {
        return fs::remove_file(path);
    }
    if stat.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(path)? {
        remove(&entry?.path())?;
    }
    fs::remove_dir(path)
}

/// A name that nothing else has.
pub(crate) fn unique() -> io::Result<String> {
    let mut random = [0u8; 12];
    // As few bytes as this come whole, or not at all (getrandom(2)).
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(hex(&random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_gone_with_its_maker_even_where_it_denies_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(dir.path()).unwrap();
        let inner = scratch.path().join("a");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("f"), "x").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o000)).unwrap();
        assert_eq!(
            sweep(dir.path(), false).unwrap(),
            Vec::<PathBuf>::new(),
            "its maker lives"
        );
        drop(scratch);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_maker_left_is_looked_at_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join("left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "x").unwrap();
        let file = dir.path().join("half");
        fs::write(&file, "x").unwrap();
        let expected = vec![file.clone(), left.clone()];
        assert_eq!(sweep(dir.path(), true).unwrap(), expected);
        assert!(left.exists() && file.exists());
        assert_eq!(sweep(dir.path(), false).unwrap(), expected);
        assert!(!left.exists() && !file.exists());
    }
}
