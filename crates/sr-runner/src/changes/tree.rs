//! Walking a tree by descriptors: one for the directory that we are in, whatever the depth and however long the path.
//! Nothing here follows a symbolic link or leaves the mount.

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, chmod, chmodat, fgetxattr, fstat, openat,
    openat2, statat,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(super) const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The mark of a deleted name where a character device could not be made.
pub(super) const WHITEOUT_MARK: &str = "user.safe-run.whiteout";
const OPAQUE_MARKS: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];

/// A directory in a tree, and the way back up.
pub(super) struct Cursor {
    fd: OwnedFd,
    /// For each directory above: what it is, and how the one below it is called and was locked.
    above: Vec<Above>,
}

struct Above {
    id: (u64, u64),
    /// The mode that the directory below had before it was opened up to be read.
    locked: Option<(Vec<u8>, RawMode)>,
}

impl Cursor {
    pub fn open(path: &Path) -> Result<Cursor, Errno> {
        Ok(Cursor::new(rustix::fs::open(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?))
    }

    pub fn new(fd: OwnedFd) -> Cursor {
        Cursor { fd, above: Vec::new() }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The names in this directory, sorted.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub fn stat(&self, name: &[u8]) -> Result<Option<Stat>, Errno> {
        stat_in(self.fd(), name)
    }

    /// Goes into a directory of the host's. `EXDEV`: something is mounted there.
    pub fn descend(&mut self, name: &[u8]) -> Result<(), Errno> {
        let next = openat2(&self.fd, name, DIRECTORY, Mode::empty(), RESOLVE)?;
        self.enter(next, None)
    }

    /// Goes into a directory of a layer, which is the caller's own: one that forbids it is opened up meanwhile.
    pub fn descend_unlocking(&mut self, name: &[u8], stat: &Stat) -> Result<(), Errno> {
        let locked = stat.st_mode & 0o700 != 0o700 && !rustix::process::geteuid().is_root();
        if !locked {
            return self.descend(name);
        }
        chmodat(
            &self.fd,
            name,
            Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o700),
            AtFlags::empty(),
        )?;
        let next = openat2(&self.fd, name, DIRECTORY, Mode::empty(), RESOLVE)?;
        self.enter(next, Some((name.to_vec(), stat.st_mode & 0o7777)))
    }

    fn enter(&mut self, next: OwnedFd, locked: Option<(Vec<u8>, RawMode)>) -> Result<(), Errno> {
        let here = fstat(&self.fd)?;
        self.above.push(Above {
            id: (here.st_dev, here.st_ino),
            locked,
        });
        self.fd = next;
        Ok(())
    }

    /// Back to the directory that we came from; `ESTALE` if the tree was moved meanwhile.
    pub fn ascend(&mut self) -> Result<(), Errno> {
        let Some(above) = self.above.pop() else {
            return Err(Errno::NOENT);
        };
        let next = openat(&self.fd, "..", DIRECTORY, Mode::empty())?;
        let stat = fstat(&next)?;
        if (stat.st_dev, stat.st_ino) != above.id {
            return Err(Errno::STALE);
        }
        self.fd = next;
        if let Some((name, mode)) = above.locked {
            chmodat(&self.fd, &name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(())
    }
}

pub(super) fn stat_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens `path` below `root`; paths longer than the kernel takes are opened piece by piece.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    const PIECE: usize = 3000;
    let mut held: Option<OwnedFd> = None;
    let mut rest = if path.is_empty() { b".".as_slice() } else { path };
    loop {
        let at = held.as_ref().map_or(root, |fd| fd.as_fd());
        if rest.len() <= PIECE {
            return openat2(
                at,
                rest,
                flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
                Mode::empty(),
                RESOLVE,
            );
        }
        let cut = rest[..PIECE]
            .iter()
            .rposition(|c| *c == b'/')
            .ok_or(Errno::NAMETOOLONG)?;
        let next = openat2(
            at,
            &rest[..cut],
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            RESOLVE,
        )?;
        rest = &rest[cut + 1..];
        held = Some(next);
    }
}

/// The directory that holds `path`, and the last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

pub(super) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() {
        name.to_vec()
    } else {
        [dir, b"/", name].concat()
    }
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a file of the host's for reading. Nothing of it changes.
pub(super) fn open_host_file(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat2(dir, name, READ, Mode::empty(), RESOLVE)
}

/// Opens a regular file of a layer for reading, even where its mode forbids it to its owner.
pub(super) fn open_file(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<OwnedFd, Errno> {
    match openat2(dir, name, READ, Mode::empty(), RESOLVE) {
        Err(Errno::ACCESS | Errno::PERM) => {}
        other => return other,
    }
    // By descriptor, so that exactly the file that was looked at is changed, and changed back.
    let path = openat2(
        dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        RESOLVE,
    )?;
    let link = format!("/proc/self/fd/{}", path.as_raw_fd());
    chmod(&link, Mode::from_raw_mode((stat.st_mode & 0o7777) | 0o400))?;
    let opened = openat2(dir, name, READ, Mode::empty(), RESOLVE);
    chmod(&link, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    opened
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn has_mark(fd: BorrowedFd<'_>, mark: &str) -> bool {
    let mut value = [0u8; 2];
    matches!(fgetxattr(fd, mark, value.as_mut_slice()), Ok(1)) && value[0] == b'y'
}

/// Whether the entry says that the name below it is gone.
pub(super) fn is_whiteout(dir: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<bool, Errno> {
    match file_type(stat) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => Ok(has_mark(open_file(dir, name, stat)?.as_fd(), WHITEOUT_MARK)),
        _ => Ok(false),
    }
}

/// Whether a directory of a layer hides what is below it.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    OPAQUE_MARKS.iter().any(|mark| has_mark(dir, mark))
}

pub(super) fn mark_opaque(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::fs::fsetxattr(dir, OPAQUE_MARKS[0], b"y", rustix::fs::XattrFlags::empty())
}
