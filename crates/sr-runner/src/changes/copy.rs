//! Copies the upper layer of a dead sandbox to the run store, as it is: whiteouts, opaque directories, hard links,
//! holes. Special files are noted, never made; setuid and setgid bits and unreadable modes are noted, not kept, so that
//! the store holds nothing that acts and can be read by its owner.

use super::manifest::{Line, Writer};
use super::name::escape;
use super::tree::{self, Cursor, file_type, join};
use super::{What, data};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Stat, XattrFlags, fgetxattr_query, fsetxattr, linkat, mkdirat, openat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sr_common::{Code, Fault};
use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What was copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub files: u64,
    pub directories: u64,
    pub symlinks: u64,
    pub whiteouts: u64,
    /// FIFOs, sockets and devices, noted only.
    pub special: u64,
    /// Bytes of data, holes not counted.
    pub bytes: u64,
}

pub(super) fn store_fault(action: &str, path: &Path, error: &io::Error) -> Fault {
    let shown = escape(path.as_os_str().as_bytes());
    let full = [Errno::NOSPC, Errno::DQUOT].map(|e| e.raw_os_error());
    if error.raw_os_error().is_some_and(|e| full.contains(&e)) {
        let found = format!("the run store is full: cannot {action} {shown}: {error}");
        return Fault::new(
            Code::Run001,
            "finish.capture",
            found,
            "free space there, or move the store; `safe-run gc` removes old runs",
        );
    }
    Fault::new(
        Code::Run001,
        "finish.capture",
        format!("cannot {action} {shown}: {error}"),
        "make the run store writable for the user who starts the run",
    )
}

/// Whether the directory `source` has no entries.
pub fn is_empty(source: impl AsFd) -> Result<bool, Fault> {
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut entries = RawDir::new(source, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|e| store_fault("read", Path::new("the captured layer"), &e.into()))?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies everything in the directory `source` to the new directory `target`. Nothing may change `source` meanwhile.
pub fn copy_layer(source: impl AsFd, target: &Path) -> Result<Stats, Fault> {
    let fail = |action: &'static str, e: Errno| store_fault(action, target, &e.into());
    let from = openat(
        source,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| fail("open the captured layer for", e))?;
    mkdirat(rustix::fs::CWD, target, Mode::from_raw_mode(0o700)).map_err(|e| fail("make", e))?;
    let to = Cursor::open(target).map_err(|e| fail("open", e))?;
    let root = rustix::io::dup(to.fd()).map_err(|e| fail("open", e))?;
    let mut copy = Copy {
        from: Cursor::new(from),
        to,
        root,
        target,
        path: Vec::new(),
        links: HashMap::new(),
        manifest: Writer::create(target)?,
        stats: Stats::default(),
    };
    copy.tree()?;
    copy.manifest.finish()?;
    Ok(copy.stats)
}

struct Copy<'a> {
    from: Cursor,
    to: Cursor,
    root: OwnedFd,
    target: &'a Path,
    /// Of the directory that we are in, relative.
    path: Vec<u8>,
    /// Files with several names: where the first was copied to.
    links: HashMap<(u64, u64), Vec<u8>>,
    manifest: Writer,
    stats: Stats,
}

impl Copy<'_> {
    fn fault(&self, action: &str, path: &[u8], error: Errno) -> Fault {
        store_fault(
            action,
            &self.target.join(std::ffi::OsStr::from_bytes(path)),
            &error.into(),
        )
    }

    /// Depth first, with a list instead of recursion: the depth is the program's choice.
    fn tree(&mut self) -> Result<(), Fault> {
        self.opaque()?;
        let mut levels = vec![self.names()?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.pop() else {
                levels.pop();
                if !levels.is_empty() {
                    self.leave()?;
                }
                continue;
            };
            let path = join(&self.path, &name);
            let stat = self.from.stat(&name).map_err(|e| self.fault("copy", &path, e))?;
            let Some(stat) = stat else {
                return Err(self.fault("copy", &path, Errno::NOENT));
            };
            if file_type(&stat) == FileType::Directory {
                self.enter(&name, &path, &stat)?;
                levels.push(self.names()?);
            } else {
                self.entry(&name, &path, &stat)?;
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<Vec<u8>>, Fault> {
        let mut names = self.from.names().map_err(|e| self.fault("copy", &self.path, e))?;
        names.reverse();
        Ok(names)
    }

    fn enter(&mut self, name: &[u8], path: &[u8], stat: &Stat) -> Result<(), Fault> {
        self.stats.directories += 1;
        let mode = stat.st_mode & 0o777 | 0o700;
        let made = mkdirat(self.to.fd(), name, Mode::from_raw_mode(0o700))
            .and_then(|()| rustix::fs::chmodat(self.to.fd(), name, Mode::from_raw_mode(mode), AtFlags::empty()));
        made.map_err(|e| self.fault("make", path, e))?;
        self.note_mode(path, stat, mode)?;
        self.from
            .descend_unlocking(name, stat)
            .map_err(|e| self.fault("copy", path, e))?;
        self.to.descend(name).map_err(|e| self.fault("open", path, e))?;
        self.path = path.to_vec();
        self.opaque()
    }

    fn leave(&mut self) -> Result<(), Fault> {
        self.from
            .ascend()
            .and_then(|()| self.to.ascend())
            .map_err(|e| self.fault("leave", &self.path, e))?;
        self.path = tree::split(&self.path).0.to_vec();
        Ok(())
    }

    fn opaque(&mut self) -> Result<(), Fault> {
        if !tree::is_opaque(self.from.fd()) {
            return Ok(());
        }
        match tree::mark_opaque(self.to.fd()) {
            Ok(()) => Ok(()),
            Err(Errno::NOSPC | Errno::DQUOT) => Err(self.fault("mark", &self.path, Errno::NOSPC)),
            Err(_) => self.manifest.add(
                &self.path,
                Line {
                    opaque: true,
                    ..Line::default()
                },
            ),
        }
    }

    fn note_mode(&mut self, path: &[u8], stat: &Stat, stored: u32) -> Result<(), Fault> {
        let mode = stat.st_mode & 0o7777;
        if mode == stored {
            Ok(())
        } else {
            self.manifest.add(
                path,
                Line {
                    mode: Some(mode),
                    ..Line::default()
                },
            )
        }
    }

    fn entry(&mut self, name: &[u8], path: &[u8], stat: &Stat) -> Result<(), Fault> {
        let whiteout = tree::is_whiteout(self.from.fd(), name, stat).map_err(|e| self.fault("copy", path, e))?;
        if whiteout {
            self.stats.whiteouts += 1;
            return self.whiteout(name, path);
        }
        let special = match file_type(stat) {
            FileType::RegularFile => return self.file(name, path, stat),
            FileType::Symlink => {
                self.stats.symlinks += 1;
                let target = rustix::fs::readlinkat(self.from.fd(), name, Vec::new());
                return target
                    .and_then(|target| rustix::fs::symlinkat(target, self.to.fd(), name))
                    .map_err(|e| self.fault("copy", path, e));
            }
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            FileType::CharacterDevice => What::CharDevice,
            _ => What::BlockDevice,
        };
        self.stats.special += 1;
        let mode = Some(stat.st_mode & 0o7777);
        self.manifest.add(
            path,
            Line {
                mode,
                special: Some(special),
                ..Line::default()
            },
        )
    }

    /// As the kernel writes it, else as a marked empty file, else as a line of the manifest.
    fn whiteout(&mut self, name: &[u8], path: &[u8]) -> Result<(), Fault> {
        match rustix::fs::mknodat(self.to.fd(), name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => return Ok(()),
            Err(e @ (Errno::NOSPC | Errno::DQUOT)) => return Err(self.fault("make", path, e)),
            Err(_) => {}
        }
        let file = self.create(name, 0o600).map_err(|e| self.fault("make", path, e))?;
        if fsetxattr(&file, tree::WHITEOUT_MARK, b"y", XattrFlags::empty()).is_ok() {
            return Ok(());
        }
        rustix::fs::unlinkat(self.to.fd(), name, AtFlags::empty()).map_err(|e| self.fault("remove", path, e))?;
        self.manifest.add(
            path,
            Line {
                whiteout: true,
                ..Line::default()
            },
        )
    }

    fn create(&self, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.to.fd(), name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(file)
    }

    fn file(&mut self, name: &[u8], path: &[u8], stat: &Stat) -> Result<(), Fault> {
        self.stats.files += 1;
        let mode = stat.st_mode & 0o777 | 0o600;
        self.note_mode(path, stat, mode)?;
        let id = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 && self.link(&id, name).map_err(|e| self.fault("link", path, e))? {
            return Ok(());
        }
        let from = tree::open_file(self.from.fd(), name, stat).map_err(|e| self.fault("read", path, e))?;
        if fgetxattr_query(&from, "security.capability").is_ok() {
            self.manifest.add(
                path,
                Line {
                    mode: Some(stat.st_mode & 0o7777),
                    capabilities: true,
                    ..Line::default()
                },
            )?;
        }
        let to = self.create(name, mode).map_err(|e| self.fault("make", path, e))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.stats.bytes += data::copy(from.as_fd(), to.as_fd(), size).map_err(|e| self.fault("write", path, e))?;
        if stat.st_nlink > 1 {
            self.links.insert(id, path.to_vec());
        }
        Ok(())
    }

    /// A further name of a file that was copied before: many names of one large file must not fill the store.
    fn link(&self, id: &(u64, u64), name: &[u8]) -> Result<bool, Errno> {
        let Some(first) = self.links.get(id) else {
            return Ok(false);
        };
        let (dir, first) = tree::split(first);
        let dir = tree::open_beneath(self.root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)?;
        match linkat(&dir, first, self.to.fd(), name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::MLINK) => Ok(false),
            Err(e) => Err(e),
        }
    }
}
