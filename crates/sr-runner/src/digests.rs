//! Digests of executables and mounts. Those of single files are cached by identity: (device, inode, size, mtime, ctime). Never for files younger than two
//! seconds, whose times may not yet have moved with a change, nor for files without a device of their own (overlays).

pub mod mounts;
mod tree;

use crate::store::Store;
use rustix::fs::Stat;
use sr_common::Digest;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::time::{SystemTime, UNIX_EPOCH};

/// Digest of all of `file`, by its descriptor. `ended`: whether the caller does not want to wait for it any more, which
/// is an error of the kind `TimedOut`.
pub fn of_file(store: &Store, file: &File, stat: &Stat, ended: &mut dyn FnMut() -> bool) -> io::Result<Digest> {
    let Some(key) = key(stat) else {
        return read(file, ended);
    };
    let path = store.cache().join(format!("{:x}-{:x}", stat.st_dev, stat.st_ino));
    if let Ok(text) = fs::read_to_string(&path)
        && let Some((cached, digest)) = text.trim_end().rsplit_once(' ')
        && cached == key
        && let Some(digest) = Digest::parse(digest)
    {
        return Ok(digest);
    }
    let digest = read(file, ended)?;
    // Cached only if nothing changed while it was read; a cache that cannot be written costs time, not truth.
    let after = rustix::fs::fstat(file)?;
    if self::key(&after).as_deref() == Some(&key) {
        let temporary = path.with_extension(std::process::id().to_string());
        if fs::write(&temporary, format!("{key} {digest}\n")).is_err() || fs::rename(&temporary, &path).is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }
    Ok(digest)
}

fn read(mut file: &File, ended: &mut dyn FnMut() -> bool) -> io::Result<Digest> {
    file.seek(SeekFrom::Start(0))?;
    Ok(Digest::of_reader(Endable { file, ended })?.0)
}

struct Endable<'a> {
    file: &'a File,
    ended: &'a mut dyn FnMut() -> bool,
}

impl Read for Endable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.ended)() {
            return Err(io::Error::other(
                "the run was asked to end meanwhile; nothing was started",
            ));
        }
        self.file.read(buffer)
    }
}

fn key(stat: &Stat) -> Option<String> {
    settled(stat).then(|| {
        format!(
            "{} {}.{} {}.{}",
            stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec
        )
    })
}

/// Whether a later change of a file or directory is bound to show in its times.
pub(crate) fn settled(stat: &Stat) -> bool {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return false;
    };
    #[allow(clippy::unnecessary_cast)] // The types differ between architectures.
    let (mtime, ctime) = (stat.st_mtime as i64, stat.st_ctime as i64);
    let old = |t: i64| u64::try_from(t).is_ok_and(|t| t + 2 <= now.as_secs());
    let own_device = rustix::fs::major(stat.st_dev) != 0;
    own_device && old(mtime) && old(ctime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn young_files_are_not_cached() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        let path = dir.path().join("f");
        fs::write(&path, b"abc").unwrap();
        let file = File::open(&path).unwrap();
        let digest = of_file(&store, &file, &rustix::fs::fstat(&file).unwrap(), &mut || false).unwrap();
        assert_eq!(digest, Digest::of(b"abc"));
        assert_eq!(fs::read_dir(store.cache()).unwrap().count(), 0);
    }
}
