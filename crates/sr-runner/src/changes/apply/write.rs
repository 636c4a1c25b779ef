//! Writing to the host: every path is opened beneath the directory without following a link or crossing a mount, every
//! file is made under another name and renamed, and nothing is replaced that is not what was looked at.

use super::Record;
use super::plan::applied_mode;
use crate::changes::scan::Entry;
use crate::changes::survey::changed_at;
use crate::changes::tree::{self, Cursor, file_type};
use crate::changes::{Kind, Layer, Node, What, data, escape, unescape};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, chmod, chownat, fchmod, fstat, fsync, mkdirat,
    openat, renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;
use sr_common::{Code, Fault};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(super) struct Writer<'a> {
    layer: &'a Layer<'a>,
    upper: OwnedFd,
    lower: OwnedFd,
    record: Record,
    sync: bool,
    made: u64,
}

/// Why one path could not be written.
enum Problem {
    Errno(&'static str, Errno),
    /// It is not what it was when the changes were compared.
    Moved,
    /// The layer's file is not what was compared.
    Tampered,
}

type Done = Result<(), Problem>;

fn noting(error: std::io::Error) -> Problem {
    Problem::Errno(
        "note it in the run store",
        Errno::from_io_error(&error).unwrap_or(Errno::IO),
    )
}

fn doing(what: &'static str) -> impl Fn(Errno) -> Problem {
    move |errno| Problem::Errno(what, errno)
}

impl<'a> Writer<'a> {
    pub fn open(layer: &'a Layer<'a>, sync: bool) -> Result<Writer<'a>, Fault> {
        let open = |path: &std::path::Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| {
                let found = format!("cannot open {}: {e}", path.display());
                Fault::new(
                    Code::Run001,
                    "changes.apply",
                    found,
                    "see that the directory is there and readable",
                )
            })
        };
        Ok(Writer {
            layer,
            upper: open(layer.upper)?,
            lower: open(layer.lower)?,
            record: Record::read(layer.upper)?,
            sync,
            made: 0,
        })
    }

    pub fn finish(self) -> Result<(), Fault> {
        self.record.save()
    }

    /// Deletions, then directories from the top down, then files and links, then the directories' modes from below.
    pub fn all(&mut self, todo: &[Entry], applied: &mut Vec<String>) -> Result<(), Fault> {
        let directory = |e: &&Entry| e.change.after.as_ref().is_some_and(|n| n.what == What::Directory);
        let deleted = |e: &&Entry| e.change.kind == Kind::Deleted;
        for entry in todo.iter().filter(deleted) {
            self.one(entry, applied, |w, dir, name| w.delete(dir, name, entry))?;
        }
        for entry in todo
            .iter()
            .filter(directory)
            .filter(|e| e.change.kind != Kind::ModeChanged)
        {
            self.one(entry, applied, |w, dir, name| w.directory(dir, name, entry))?;
        }
        for entry in todo.iter().filter(|e| !directory(e) && !deleted(e)) {
            self.one(entry, applied, |w, dir, name| w.file_or_link(dir, name, entry))?;
        }
        for entry in todo.iter().rev().filter(directory) {
            let list = entry.change.kind == Kind::ModeChanged;
            let mut ignored = Vec::new();
            let names = if list { &mut *applied } else { &mut ignored };
            self.one(entry, names, |w, dir, name| w.directory_mode(dir, name, entry))?;
        }
        applied.sort();
        Ok(())
    }

    fn one(
        &mut self,
        entry: &Entry,
        applied: &mut Vec<String>,
        write: impl FnOnce(&mut Self, BorrowedFd<'_>, &[u8]) -> Done,
    ) -> Result<(), Fault> {
        let (parent, name) = tree::split(&entry.path);
        let result = (|| -> Done {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let dir = tree::open_beneath(self.lower.as_fd(), parent, flags).map_err(doing("open its directory"))?;
            let before = fstat(&dir).map_err(doing("look at its directory"))?;
            // A directory that only we change stays free of conflicts.
            let ours = changed_at(&before) <= self.layer.started || self.record.wrote(parent, &before);
            write(self, dir.as_fd(), name)?;
            if let Some(stat) = tree::stat_in(dir.as_fd(), name).map_err(doing("look at it"))? {
                self.record.note(&entry.path, &stat).map_err(noting)?;
            }
            if self.sync {
                fsync(&dir).map_err(doing("flush its directory"))?;
            }
            if ours {
                let after = fstat(&dir).map_err(doing("look at its directory"))?;
                self.record.note(parent, &after).map_err(noting)?;
            }
            Ok(())
        })();
        match result {
            Ok(()) => {
                applied.push(entry.change.path.clone());
                Ok(())
            }
            Err(problem) => Err(problem.fault(&entry.change.path)),
        }
    }

    /// The host's entry must be what was compared; directories change with their contents, so for them it is the inode.
    fn unmoved(&self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Done {
        let now = tree::stat_in(dir, name).map_err(doing("look at it"))?;
        let same = match (&entry.seen, &now) {
            (None, None) => true,
            (Some(then), Some(now)) => {
                let directory = file_type(now) == FileType::Directory;
                (then.st_dev, then.st_ino, file_type(then)) == (now.st_dev, now.st_ino, file_type(now))
                    && (directory || identity(then) == identity(now))
            }
            _ => false,
        };
        if same { Ok(()) } else { Err(Problem::Moved) }
    }

    fn delete(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Done {
        self.unmoved(dir, name, entry)?;
        match &entry.seen {
            Some(stat) if file_type(stat) == FileType::Directory => remove_tree(dir, name),
            _ => unlinkat(dir, name, AtFlags::empty()).map_err(doing("delete it")),
        }
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Done {
        self.unmoved(dir, name, entry)?;
        if entry.seen.is_some() {
            unlinkat(dir, name, AtFlags::empty()).map_err(doing("replace it"))?;
        }
        mkdirat(dir, name, Mode::from_raw_mode(0o700)).map_err(doing("make it"))?;
        own(dir, name)
    }

    fn directory_mode(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Done {
        let Some(after) = &entry.change.after else {
            return Ok(());
        };
        let fd = tree::open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(doing("open it"))?;
        let stat = fstat(&fd).map_err(doing("look at it"))?;
        // What a new directory inherited from the one above it stays.
        let mode = applied_mode(after.mode, What::Directory) | stat.st_mode & 0o2000;
        fchmod(&fd, Mode::from_raw_mode(mode)).map_err(doing("set its mode"))
    }

    fn file_or_link(&mut self, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Done {
        let Some(after) = &entry.change.after else {
            return Ok(());
        };
        self.unmoved(dir, name, entry)?;
        if entry.change.kind == Kind::ModeChanged {
            let path = tree::open_beneath(dir, name, OFlags::RDONLY | OFlags::NONBLOCK).map_err(doing("open it"))?;
            return fchmod(&path, Mode::from_raw_mode(applied_mode(after.mode, What::File)))
                .map_err(doing("set its mode"));
        }
        self.made += 1;
        let temporary = format!(".safe-run-{}-{}.tmp", std::process::id(), self.made).into_bytes();
        let result = self
            .make(dir, &temporary, after, entry)
            .and_then(|()| self.place(dir, &temporary, name, entry));
        if result.is_err() {
            // It may never have been made; the failure that counts is the one above.
            let _ = unlinkat(dir, &temporary, AtFlags::empty());
        }
        result
    }

    fn make(&self, dir: BorrowedFd<'_>, temporary: &[u8], after: &Node, entry: &Entry) -> Done {
        if after.what == What::Symlink {
            let target = after.target.as_deref().and_then(unescape).ok_or(Problem::Tampered)?;
            symlinkat(target, dir, temporary).map_err(doing("make it"))?;
            return own(dir, temporary);
        }
        let (parent, name) = tree::split(&entry.path);
        let from = tree::open_beneath(self.upper.as_fd(), parent, OFlags::PATH | OFlags::DIRECTORY)
            .and_then(|dir| {
                let stat = tree::stat_in(dir.as_fd(), name)?.ok_or(Errno::NOENT)?;
                tree::open_file(dir.as_fd(), name, &stat)
            })
            .map_err(doing("read the captured file"))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(dir, temporary, flags, Mode::from_raw_mode(0o600)).map_err(doing("make it"))?;
        data::copy(from.as_fd(), to.as_fd(), after.size.unwrap_or(0)).map_err(doing("write it"))?;
        let again = openat(
            dir,
            temporary,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        );
        // What was written is compared, not what was read: nothing that was not compared is ever renamed into place.
        let again = again.map_err(doing("read it back"))?;
        let same = match (after.digest, after.extents) {
            (Some(digest), _) => data::whole(again).map(|written| written == digest),
            (None, Some(digest)) => data::extents(again).map(|written| written == digest),
            (None, None) => Ok(false),
        };
        if !same.map_err(doing("read it back"))? {
            return Err(Problem::Tampered);
        }
        own(dir, temporary)?;
        fchmod(&to, Mode::from_raw_mode(applied_mode(after.mode, What::File))).map_err(doing("set its mode"))?;
        if self.sync {
            fsync(&to).map_err(doing("flush it"))?;
        }
        Ok(())
    }

    fn place(&self, dir: BorrowedFd<'_>, temporary: &[u8], name: &[u8], entry: &Entry) -> Done {
        self.unmoved(dir, name, entry)?;
        match &entry.seen {
            None => match renameat_with(dir, temporary, dir, name, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => Err(Problem::Moved),
                Err(Errno::INVAL | Errno::NOSYS) => renameat(dir, temporary, dir, name).map_err(doing("rename it")),
                other => other.map_err(doing("rename it")),
            },
            Some(stat) => {
                if file_type(stat) == FileType::Directory {
                    remove_tree(dir, name)?;
                }
                renameat(dir, temporary, dir, name).map_err(doing("rename it"))
            }
        }
    }
}

fn identity(stat: &Stat) -> (u64, i64, u64) {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    (
        u64::try_from(stat.st_size).unwrap_or(0),
        stat.st_mtime as i64,
        stat.st_mtime_nsec as u64,
    )
}

/// Owner and group follow the directory, as far as the caller may give files away.
fn own(dir: BorrowedFd<'_>, name: &[u8]) -> Done {
    let stat = fstat(dir).map_err(doing("look at its directory"))?;
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let mine = tree::stat_in(dir, name).map_err(doing("look at it"))?;
    if mine.is_some_and(|m| (m.st_uid, m.st_gid) == (stat.st_uid, stat.st_gid)) {
        return Ok(());
    }
    let chown = |uid| chownat(dir, name, uid, Some(gid), AtFlags::SYMLINK_NOFOLLOW);
    match chown(Some(uid)).or_else(|_| chown(None)) {
        // Not root: the file stays the caller's own.
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
        Err(e) => Err(Problem::Errno("set its owner", e)),
    }
}

/// A directory that is to go is emptied whatever its mode forbids to its owner.
fn open_up(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let Some(stat) = tree::stat_in(dir, name)? else {
        return Ok(());
    };
    if file_type(&stat) != FileType::Directory || stat.st_mode & 0o700 == 0o700 {
        return Ok(());
    }
    let fd = tree::open_beneath(dir, name, OFlags::PATH | OFlags::DIRECTORY)?;
    chmod(
        format!("/proc/self/fd/{}", fd.as_raw_fd()),
        Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700),
    )
}

/// Deletes a directory with all that is in it, from the bottom up, without crossing a mount.
fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Done {
    let fail = doing("delete it");
    let mut at = Cursor::new(rustix::io::dup(dir).map_err(&fail)?);
    open_up(dir, name).map_err(&fail)?;
    at.descend(name).map_err(&fail)?;
    let mut above = vec![name.to_vec()];
    let mut levels = vec![at.names().map_err(&fail)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.pop() else {
            levels.pop();
            at.ascend().map_err(&fail)?;
            if let Some(name) = above.pop() {
                unlinkat(at.fd(), &name, AtFlags::REMOVEDIR).map_err(&fail)?;
            }
            continue;
        };
        let Some(stat) = at.stat(&name).map_err(&fail)? else {
            continue;
        };
        if file_type(&stat) != FileType::Directory {
            unlinkat(at.fd(), &name, AtFlags::empty()).map_err(&fail)?;
            continue;
        }
        open_up(at.fd(), &name).map_err(&fail)?;
        at.descend(&name).map_err(&fail)?;
        levels.push(at.names().map_err(&fail)?);
        above.push(name);
    }
    Ok(())
}

impl Problem {
    fn fault(self, path: &str) -> Fault {
        let (found, remedy) = match self {
            Problem::Errno(what, Errno::XDEV) => (
                format!("cannot {what}: another file system is mounted there"),
                "apply it by hand, or unmount it",
            ),
            Problem::Errno(what, Errno::LOOP | Errno::NOTDIR) => (
                format!("cannot {what}: a directory of the path is a symbolic link, or none any more"),
                "apply it by hand",
            ),
            Problem::Errno(what, errno) => (
                format!("cannot {what}: {errno}"),
                "see to that and apply again: what was applied stays applied",
            ),
            Problem::Moved => (
                "it changed on the host while the changes were applied".to_owned(),
                "look at it and apply again",
            ),
            Problem::Tampered => (
                "the captured file is not what was compared".to_owned(),
                "leave the run store alone; `safe-run discard` throws the run away",
            ),
        };
        Fault::new(
            Code::Run001,
            escape(unescape(path).unwrap_or_default().as_slice()),
            found,
            remedy,
        )
    }
}
