//! The digest of a directory with all below it, as DESIGN.md defines it ("Digests of trees"): anybody can compute it
//! again with a few lines of a scripting language. It knows no view and no policy.
//!
//! Walks by descriptors, follows no symbolic link, opens nothing but directories and regular files, and crosses mounts:
//! what the program would see is what counts.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;
use sr_common::Digest;
use sr_common::digest::Hasher;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// Of names, kinds, modes, link targets and contents; of what was not read, zeroes.
    pub digest: Digest,
    /// Of names, kinds, modes, inodes, sizes and times: another one if anything changed.
    pub stamp: Digest,
}

/// Why a tree has no digest. Paths are below its top.
#[derive(Debug)]
pub enum Problem {
    Unreadable(Vec<u8>, Errno),
    /// It changed while it was read.
    Changed(Vec<u8>),
    /// The caller does not want to wait for it any more.
    Ended,
}

/// Hashes what is below `top`. `others`: paths below it where something else of the view stands, which is not read.
pub fn of(
    top: BorrowedFd<'_>,
    others: &BTreeSet<Vec<u8>>,
    contents: bool,
    ended: &mut dyn FnMut() -> bool,
) -> Result<Tree, Problem> {
    let mut walk = Walk {
        others,
        contents,
        ended,
        stamp: Hasher::default(),
        path: Vec::new(),
        buffer: if contents { vec![0; 128 * 1024] } else { Vec::new() },
    };
    let mut record = Hasher::default();
    walk.directory(top, b".", b"", &mut record)?;
    Ok(Tree {
        digest: record.finish(),
        stamp: walk.stamp.finish(),
    })
}

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

struct Walk<'a> {
    others: &'a BTreeSet<Vec<u8>>,
    contents: bool,
    ended: &'a mut dyn FnMut() -> bool,
    stamp: Hasher,
    path: Vec<u8>,
    buffer: Vec<u8>,
}

impl Walk<'_> {
    fn unreadable(&self, error: Errno) -> Problem {
        match error {
            // It was there when the directory was listed.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => self.changed(),
            error => Problem::Unreadable(self.path.clone(), error),
        }
    }

    fn changed(&self) -> Problem {
        Problem::Changed(self.path.clone())
    }

    /// Opens directory `name` of `dir` and records it as `shown`.
    fn directory(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        shown: &[u8],
        listing: &mut Hasher,
    ) -> Result<(), Problem> {
        let fd = openat(dir, name, OPEN | OFlags::DIRECTORY, Mode::empty()).map_err(|e| self.unreadable(e))?;
        let before = fstat(&fd).map_err(|e| self.unreadable(e))?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(|e| self.unreadable(e))? {
            let entry = entry.map_err(|e| self.unreadable(e))?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.push(name.to_vec()),
            }
        }
        names.sort_unstable();
        let mut below = Hasher::default();
        for name in names {
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend(&name);
            self.entry(fd.as_fd(), &name, &mut below)?;
            self.path.truncate(length);
        }
        let after = fstat(&fd).map_err(|e| self.unreadable(e))?;
        if times(&before) != times(&after) {
            return Err(self.changed());
        }
        self.record(listing, b'd', Some(&after), shown, below.finish());
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &[u8], listing: &mut Hasher) -> Result<(), Problem> {
        if (self.ended)() {
            return Err(Problem::Ended);
        }
        if self.others.contains(&self.path) {
            self.record(listing, b'm', None, name, Digest::ZERO);
            return Ok(());
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = statat(dir, name, flags).map_err(|e| self.unreadable(e))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(dir, name, name, listing),
            FileType::RegularFile => return self.file(dir, name, listing),
            FileType::Symlink => {
                let to = readlinkat(dir, name, Vec::new()).map_err(|e| self.unreadable(e))?;
                // The mode of a link means nothing, and differs between file systems.
                self.record(listing, b'l', None, name, Digest::of(to.to_bytes()));
                return Ok(());
            }
            FileType::Fifo => b'p',
            FileType::Socket => b's',
            FileType::CharacterDevice => b'c',
            FileType::BlockDevice => b'b',
            FileType::Unknown => b'?',
        };
        self.record(listing, kind, Some(&stat), name, Digest::ZERO);
        Ok(())
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &[u8], listing: &mut Hasher) -> Result<(), Problem> {
        if !self.contents {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| self.unreadable(e))?;
            self.record(listing, b'f', Some(&stat), name, Digest::ZERO);
            return Ok(());
        }
        let fd: OwnedFd = openat(dir, name, OPEN, Mode::empty()).map_err(|e| self.unreadable(e))?;
        let before = fstat(&fd).map_err(|e| self.unreadable(e))?;
        if !FileType::from_raw_mode(before.st_mode).is_file() {
            return Err(self.changed());
        }
        let mut file = File::from(fd);
        let mut content = Hasher::default();
        loop {
            if (self.ended)() {
                return Err(Problem::Ended);
            }
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(n) => content.update(&self.buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.unreadable(Errno::from_io_error(&e).unwrap_or(Errno::IO))),
            }
        }
        let after = fstat(&file).map_err(|e| self.unreadable(e))?;
        if times(&before) != times(&after) || before.st_size != after.st_size {
            return Err(self.changed());
        }
        self.record(listing, b'f', Some(&after), name, content.finish());
        Ok(())
    }

    /// `KIND MODE NAME`, NUL, the digest in hexadecimal, newline.
    fn record(&mut self, listing: &mut Hasher, kind: u8, stat: Option<&Stat>, name: &[u8], digest: Digest) {
        let mode = stat.map_or(0o777, |s| s.st_mode & 0o7777);
        let head = format!("{} {mode:04o} ", char::from(kind));
        let hex = digest.hex();
        for part in [head.as_bytes(), name, b"\0", hex.as_bytes(), b"\n"] {
            listing.update(part);
        }
        // Size and number of a directory say nothing, and an overlay may answer otherwise the next time.
        let file = stat.filter(|_| kind != b'd').map(|s| (s.st_ino, s.st_size));
        let times = stat.map(times);
        self.stamp.update(head.as_bytes());
        self.stamp.update(&self.path);
        self.stamp.update(format!("\0{file:?} {times:?}\n").as_bytes());
        if kind == b'l' {
            self.stamp.update(hex.as_bytes());
        }
    }
}

#[allow(clippy::unnecessary_cast)] // The types differ between architectures.
fn times(stat: &Stat) -> [(i64, i64); 2] {
    [
        (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn walk(path: &Path, contents: bool) -> Result<Tree, Problem> {
        of(
            File::open(path).unwrap().as_fd(),
            &BTreeSet::new(),
            contents,
            &mut || false,
        )
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn make(dir: &Path) {
        fs::create_dir_all(dir.join("a-b")).unwrap();
        fs::create_dir_all(dir.join("a")).unwrap();
        fs::write(dir.join("a/x"), "one").unwrap();
        fs::write(dir.join("a-b/\n"), "").unwrap();
        symlink("a/x", dir.join("l")).unwrap();
        for (path, bits) in [
            ("", 0o755),
            ("a", 0o750),
            ("a-b", 0o1777),
            ("a/x", 0o644),
            ("a-b/\n", 0o600),
        ] {
            mode(&dir.join(path), bits);
        }
    }

    #[test]
    fn the_digest_is_the_documented_one() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let hex = |text: &str| Digest::of(text.as_bytes()).hex();
        let a = hex(&format!("f 0644 x\0{}\n", hex("one")));
        let ab = hex(&format!("f 0600 \n\0{}\n", hex("")));
        let top = hex(&format!("d 0750 a\0{a}\nd 1777 a-b\0{ab}\nl 0777 l\0{}\n", hex("a/x")));
        let expected = Digest::of(format!("d 0755 \0{top}\n").as_bytes());
        assert_eq!(walk(dir.path(), true).unwrap().digest, expected);
        // Another place and another time, the same content.
        let other = tempfile::tempdir().unwrap();
        make(other.path());
        let again = walk(other.path(), true).unwrap();
        assert_eq!(again.digest, expected);
        assert_ne!(again.stamp, walk(dir.path(), true).unwrap().stamp, "other files");
    }

    #[test]
    fn whatever_changes_shows() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 7] = [
            ("content", |d| fs::write(d.join("a/x"), "two").unwrap()),
            ("mode", |d| mode(&d.join("a/x"), 0o600)),
            ("name", |d| fs::rename(d.join("a/x"), d.join("a/y")).unwrap()),
            ("new", |d| fs::write(d.join("a-b/new"), "").unwrap()),
            ("gone", |d| fs::remove_file(d.join("l")).unwrap()),
            ("link", |d| {
                fs::remove_file(d.join("l")).unwrap();
                symlink("a/y", d.join("l")).unwrap();
            }),
            ("kind", |d| {
                fs::remove_file(d.join("a/x")).unwrap();
                fs::create_dir(d.join("a/x")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            let before = walk(dir.path(), true).unwrap();
            assert_eq!(walk(dir.path(), false).unwrap().stamp, before.stamp, "nothing changed");
            change(dir.path());
            let after = walk(dir.path(), true).unwrap();
            assert_ne!(after.digest, before.digest, "{what}");
            assert_ne!(walk(dir.path(), false).unwrap().stamp, before.stamp, "{what}");
        }
    }

    #[test]
    fn a_tree_that_changes_under_the_walk_has_no_digest() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let top = File::open(dir.path()).unwrap();
        let mut calls = 0;
        let mut meddle = || {
            calls += 1;
            if calls == 2 {
                fs::write(dir.path().join("a/late"), "").unwrap();
            }
            false
        };
        let found = of(top.as_fd(), &BTreeSet::new(), true, &mut meddle);
        assert!(
            matches!(&found, Err(Problem::Changed(path)) if path == b"a"),
            "{found:?}"
        );
        let ended = of(top.as_fd(), &BTreeSet::new(), true, &mut || true);
        assert!(matches!(ended, Err(Problem::Ended)));
    }

    #[test]
    fn what_else_stands_there_is_named_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let others = BTreeSet::from([b"a".to_vec()]);
        let digest = || {
            of(File::open(dir.path()).unwrap().as_fd(), &others, true, &mut || false)
                .unwrap()
                .digest
        };
        let before = digest();
        assert_ne!(before, walk(dir.path(), true).unwrap().digest);
        fs::write(dir.path().join("a/x"), "two").unwrap();
        assert_eq!(digest(), before);
    }

    #[test]
    fn pipes_are_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("p"), Mode::from_raw_mode(0o600)).unwrap();
        walk(dir.path(), true).unwrap();
    }
}
