//! What a guest asks of the directory that is shared with it, and what it is answered. Nothing is opened by a path: each name
//! is looked up in the directory that the guest holds, never through a link, and only files and directories are opened.

use super::wire::{Reader, Writer};
use super::{HEAD, MESSAGE};
use rustix::fs::{
    self, AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

/// The messages, by the number of the request; its answer has the next.
mod kind {
    pub const LERROR: u8 = 6;
    pub const STATFS: u8 = 8;
    pub const LOPEN: u8 = 12;
    pub const LCREATE: u8 = 14;
    pub const SYMLINK: u8 = 16;
    pub const MKNOD: u8 = 18;
    pub const READLINK: u8 = 22;
    pub const GETATTR: u8 = 24;
    pub const SETATTR: u8 = 26;
    pub const READDIR: u8 = 40;
    pub const FSYNC: u8 = 50;
    pub const LOCK: u8 = 52;
    pub const GETLOCK: u8 = 54;
    pub const LINK: u8 = 70;
    pub const MKDIR: u8 = 72;
    pub const RENAMEAT: u8 = 74;
    pub const UNLINKAT: u8 = 76;
    pub const VERSION: u8 = 100;
    pub const ATTACH: u8 = 104;
    pub const FLUSH: u8 = 108;
    pub const WALK: u8 = 110;
    pub const READ: u8 = 116;
    pub const WRITE: u8 = 118;
    pub const CLUNK: u8 = 120;
    pub const REMOVE: u8 = 122;
}

const DIALECT: &[u8] = b"9P2000.L";
/// A shorter message than this holds no answer.
const LEAST_MESSAGE: u32 = 4096;
/// The most names of one walk, by the protocol.
const MOST_NAMES: u16 = 16;
/// The part of an inode's number that is told as it is; what is above tells devices apart.
const INODE: u32 = 48;

/// Flags of an open, by the protocol's own numbers.
const ACCESS: u32 = 0o3;
const OPEN_FLAGS: [(u32, OFlags); 5] = [
    (0o200, OFlags::EXCL),
    (0o1000, OFlags::TRUNC),
    (0o10000, OFlags::DSYNC),
    (0o200000, OFlags::DIRECTORY),
    (0o4000000, OFlags::SYNC),
];

/// What of a file is to be changed.
mod change {
    pub const MODE: u32 = 0x1;
    pub const UID: u32 = 0x2;
    pub const GID: u32 = 0x4;
    pub const SIZE: u32 = 0x8;
    pub const ATIME: u32 = 0x10;
    pub const MTIME: u32 = 0x20;
    pub const CTIME: u32 = 0x40;
    pub const ATIME_SET: u32 = 0x80;
    pub const MTIME_SET: u32 = 0x100;
}

/// All that `getattr` tells: everything up to the count of blocks.
const BASIC: u64 = 0x7ff;
const REMOVE_DIRECTORY: u32 = 0x200;
const UNLOCKED: u8 = 2;

/// Something that the guest holds by a number of its own.
struct Held {
    /// Opened for nothing but what its name stands for.
    path: OwnedFd,
    open: Option<OwnedFd>,
}

pub struct Files {
    top: OwnedFd,
    /// `/proc/self/fd`, through which what is held is opened.
    descriptors: OwnedFd,
    held: HashMap<u32, Held>,
    /// Devices and high parts of inodes, each with a number of its own.
    ranges: HashMap<(u64, u64), u64>,
    message: u32,
}

type Answer = Result<Writer, Errno>;

impl Files {
    pub fn of(directory: &str) -> Result<Files, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Files {
            top: fs::openat(CWD, directory, flags, Mode::empty())?,
            descriptors: fs::openat(CWD, "/proc/self/fd", flags, Mode::empty())?,
            held: HashMap::new(),
            ranges: HashMap::new(),
            message: MESSAGE,
        })
    }

    /// The longest message that was agreed upon.
    pub fn message(&self) -> u32 {
        self.message
    }

    /// The whole answer to a whole message, both but for what comes before: the size is in the answer only.
    pub fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        let mut reader = Reader(message);
        let (kind, tag) = match (reader.u8(), reader.u16()) {
            (Ok(kind), Ok(tag)) => (kind, tag),
            _ => (0, u16::MAX),
        };
        let (kind, body) = match self.request(kind, reader) {
            Ok(writer) => (kind.wrapping_add(1), writer.0),
            Err(e) => (kind::LERROR + 1, e.raw_os_error().unsigned_abs().to_le_bytes().to_vec()),
        };
        let mut whole = Writer::default();
        // No answer is longer than a message, which a number of this width counts.
        whole.u32((HEAD + body.len()) as u32);
        whole.u8(kind);
        whole.u16(tag);
        whole.0.extend(body);
        whole.0
    }

    fn request(&mut self, kind: u8, mut r: Reader<'_>) -> Answer {
        let r = &mut r;
        match kind {
            kind::VERSION => self.version(r),
            kind::ATTACH => self.attach(r),
            kind::FLUSH => Ok(Writer::default()),
            kind::WALK => self.walk(r),
            kind::CLUNK => self
                .held
                .remove(&r.u32()?)
                .map(|_| Writer::default())
                .ok_or(Errno::BADF),
            kind::REMOVE => {
                // The kernel removes by name; what is held is let go whatever the answer is.
                self.held.remove(&r.u32()?);
                Err(Errno::OPNOTSUPP)
            }
            kind::LOPEN => self.open(r),
            kind::LCREATE => self.create(r),
            kind::READ => self.read(r),
            kind::WRITE => self.write(r),
            kind::READDIR => self.list(r),
            kind::READLINK => {
                let link = fs::readlinkat(&self.held(r.u32()?)?.path, "", Vec::new())?;
                let mut writer = Writer::default();
                writer.string(link.to_bytes())?;
                Ok(writer)
            }
            kind::GETATTR => self.attributes(r),
            kind::SETATTR => self.change(r),
            kind::STATFS => self.file_system(r),
            kind::FSYNC => {
                let file = self.opened(r.u32()?)?;
                match r.u32()? {
                    0 => fs::fsync(file)?,
                    _ => fs::fdatasync(file)?,
                }
                Ok(Writer::default())
            }
            // There is one client, whose kernel has looked at its own locks.
            kind::LOCK => {
                self.opened(r.u32()?)?;
                Ok(Writer(vec![0]))
            }
            kind::GETLOCK => self.lock_of(r),
            kind::MKDIR => {
                let (into, name, mode) = (r.u32()?, r.name()?, r.u32()?);
                fs::mkdirat(&self.held(into)?.path, name, mode_of(mode))?;
                self.made(into, name)
            }
            kind::SYMLINK => {
                let (into, name, to) = (r.u32()?, r.name()?, r.string()?);
                fs::symlinkat(to, &self.held(into)?.path, name)?;
                self.made(into, name)
            }
            kind::MKNOD => {
                let (into, name, mode) = (r.u32()?, r.name()?, r.u32()?);
                let kind = FileType::from_raw_mode(mode);
                if !matches!(kind, FileType::Fifo | FileType::Socket | FileType::RegularFile) {
                    return Err(Errno::PERM);
                }
                fs::mknodat(&self.held(into)?.path, name, kind, mode_of(mode), 0)?;
                self.made(into, name)
            }
            kind::LINK => {
                let (into, what, name) = (r.u32()?, r.u32()?, r.name()?);
                let (what, into) = (&self.held(what)?.path, &self.held(into)?.path);
                fs::linkat(&self.descriptors, number(what), into, name, AtFlags::SYMLINK_FOLLOW)?;
                Ok(Writer::default())
            }
            kind::RENAMEAT => {
                let (from, old, to, new) = (r.u32()?, r.name()?, r.u32()?, r.name()?);
                let (from, to) = (&self.held(from)?.path, &self.held(to)?.path);
                fs::renameat(from, old, to, new)?;
                Ok(Writer::default())
            }
            kind::UNLINKAT => {
                let (from, name, flags) = (r.u32()?, r.name()?, r.u32()?);
                let flags = match flags & REMOVE_DIRECTORY {
                    0 => AtFlags::empty(),
                    _ => AtFlags::REMOVEDIR,
                };
                fs::unlinkat(&self.held(from)?.path, name, flags)?;
                Ok(Writer::default())
            }
            // Extended attributes and accounts among them: there are none.
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn held(&self, number: u32) -> Result<&Held, Errno> {
        self.held.get(&number).ok_or(Errno::BADF)
    }

    fn opened(&self, number: u32) -> Result<&OwnedFd, Errno> {
        self.held(number)?.open.as_ref().ok_or(Errno::BADF)
    }

    fn version(&mut self, r: &mut Reader<'_>) -> Answer {
        let (most, dialect) = (r.u32()?, r.string()?);
        if most < LEAST_MESSAGE {
            return Err(Errno::MSGSIZE);
        }
        // Whoever says this starts anew.
        self.held.clear();
        self.message = most.min(MESSAGE);
        let mut writer = Writer::default();
        writer.u32(self.message);
        writer.string(match dialect {
            DIALECT => DIALECT,
            _ => b"unknown",
        })?;
        Ok(writer)
    }

    fn attach(&mut self, r: &mut Reader<'_>) -> Answer {
        let number = r.u32()?;
        let top = self.top.try_clone().map_err(errno)?;
        let id = self.id(&fs::fstat(&top)?)?;
        self.hold(number, top)?;
        Ok(id)
    }

    /// Takes `path` for what the guest calls `number`, which is nothing else so far.
    fn hold(&mut self, number: u32, path: OwnedFd) -> Result<(), Errno> {
        if self.held.contains_key(&number) {
            return Err(Errno::BADF);
        }
        self.held.insert(number, Held { path, open: None });
        Ok(())
    }

    fn walk(&mut self, r: &mut Reader<'_>) -> Answer {
        let (from, number, count) = (r.u32()?, r.u32()?, r.u16()?);
        if count > MOST_NAMES || (from != number && self.held.contains_key(&number)) {
            return Err(Errno::INVAL);
        }
        let mut at = self.held(from)?.path.try_clone().map_err(errno)?;
        let mut ids = Writer::default();
        for step in 0..count {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = r.name().and_then(|name| fs::openat(&at, name, flags, Mode::empty()));
            let id = next.and_then(|next| Ok((self.id(&fs::fstat(&next)?)?, next)));
            match id {
                Ok((id, next)) => {
                    ids.0.extend(id.0);
                    at = next;
                }
                Err(e) if step == 0 => return Err(e),
                // So far it came: nothing is held.
                Err(_) => {
                    let mut writer = Writer::default();
                    writer.u16(step);
                    writer.0.extend(ids.0);
                    return Ok(writer);
                }
            }
        }
        self.held.insert(number, Held { path: at, open: None });
        let mut writer = Writer::default();
        writer.u16(count);
        writer.0.extend(ids.0);
        Ok(writer)
    }

    /// Who a file is: its kind, a version that changes with it, and a number that no other file has.
    fn id(&mut self, stat: &Stat) -> Answer {
        let (high, low) = (stat.st_ino >> INODE, stat.st_ino & ((1 << INODE) - 1));
        let number = self.range((stat.st_dev, high))? << INODE | low;
        let mut writer = Writer::default();
        writer.u8(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => 0x80,
            FileType::Symlink => 0x02,
            _ => 0,
        });
        writer.u32(stat.st_mtime as u32 ^ (stat.st_size as u32) << 8);
        writer.u64(number);
        Ok(writer)
    }

    fn range(&mut self, of: (u64, u64)) -> Result<u64, Errno> {
        let next = self.ranges.len() as u64;
        if next >> (64 - INODE) != 0 && !self.ranges.contains_key(&of) {
            return Err(Errno::NFILE);
        }
        Ok(*self.ranges.entry(of).or_insert(next))
    }

    /// Opens what is held anew, whatever has become of its name.
    fn again(&self, path: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        fs::openat(&self.descriptors, number(path), flags | OFlags::CLOEXEC, Mode::empty())
    }

    fn open(&mut self, r: &mut Reader<'_>) -> Answer {
        let (number, flags) = (r.u32()?, r.u32()?);
        let held = self.held(number)?;
        plain(&fs::fstat(&held.path)?)?;
        let file = self.again(&held.path, flags_of(flags) - OFlags::EXCL)?;
        self.opens(number, file)
    }

    fn create(&mut self, r: &mut Reader<'_>) -> Answer {
        let (number, name, flags, mode) = (r.u32()?, r.name()?, r.u32()?, r.u32()?);
        // What is there already may be something that waits for another side.
        let careful = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let into = &self.held(number)?.path;
        let file = fs::openat(into, name, flags_of(flags) | careful, mode_of(mode))?;
        plain(&fs::fstat(&file)?)?;
        let path = self.again(&file, OFlags::PATH)?;
        self.held.insert(number, Held { path, open: None });
        self.opens(number, file)
    }

    fn opens(&mut self, number: u32, file: OwnedFd) -> Answer {
        let mut writer = self.id(&fs::fstat(&file)?)?;
        // As much at once as a message holds.
        writer.u32(0);
        self.held.get_mut(&number).ok_or(Errno::BADF)?.open = Some(file);
        Ok(writer)
    }

    /// How much of an answer a guest may have that asks for `count`.
    fn room(&self, count: u32) -> usize {
        let most = self.message.saturating_sub(HEAD as u32 + 4);
        count.min(most) as usize
    }

    fn read(&mut self, r: &mut Reader<'_>) -> Answer {
        let (number, offset, count) = (r.u32()?, r.u64()?, r.u32()?);
        let mut data = vec![0; 4 + self.room(count)];
        let read = rustix::io::pread(self.opened(number)?, &mut data[4..], offset)?;
        data.truncate(4 + read);
        data[..4].copy_from_slice(&(read as u32).to_le_bytes());
        Ok(Writer(data))
    }

    fn write(&mut self, r: &mut Reader<'_>) -> Answer {
        let (number, offset, count) = (r.u32()?, r.u64()?, r.u32()?);
        let data = r.bytes(count as usize)?;
        let written = rustix::io::pwrite(self.opened(number)?, data, offset)?;
        let mut writer = Writer::default();
        writer.u32(written as u32);
        Ok(writer)
    }

    fn list(&mut self, r: &mut Reader<'_>) -> Answer {
        let (number, offset, count) = (r.u32()?, r.u64()?, r.u32()?);
        let room = self.room(count);
        let directory = self.opened(number)?.try_clone().map_err(errno)?;
        let device = fs::fstat(&directory)?.st_dev;
        fs::seek(&directory, SeekFrom::Start(offset))?;
        let mut buffer = vec![MaybeUninit::uninit(); room.clamp(1024, 64 << 10)];
        let mut entries = RawDir::new(&directory, &mut buffer);
        let mut data = Writer::default();
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let (kind, number) = (entry.file_type(), entry.ino());
            let range = self.range((device, number >> INODE))?;
            let mut one = Writer::default();
            one.u8(match kind {
                FileType::Directory => 0x80,
                FileType::Symlink => 0x02,
                _ => 0,
            });
            one.u32(0);
            one.u64(range << INODE | number & ((1 << INODE) - 1));
            one.u64(entry.next_entry_cookie());
            one.u8(type_of(kind));
            one.string(entry.file_name().to_bytes())?;
            if data.0.len() + one.0.len() > room {
                break;
            }
            data.0.extend(one.0);
        }
        let mut writer = Writer::default();
        writer.u32(data.0.len() as u32);
        writer.0.extend(data.0);
        Ok(writer)
    }

    fn attributes(&mut self, r: &mut Reader<'_>) -> Answer {
        let stat = fs::fstat(&self.held(r.u32()?)?.path)?;
        let mut writer = Writer::default();
        writer.u64(BASIC);
        writer.0.extend(self.id(&stat)?.0);
        for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
            writer.u32(number);
        }
        writer.u64(u64::from(stat.st_nlink as u32));
        writer.u64(stat.st_rdev);
        for number in [stat.st_size, stat.st_blksize as i64, stat.st_blocks] {
            writer.u64(number as u64);
        }
        for (seconds, nanos) in [
            (stat.st_atime, stat.st_atime_nsec),
            (stat.st_mtime, stat.st_mtime_nsec),
            (stat.st_ctime, stat.st_ctime_nsec),
        ] {
            writer.u64(seconds as u64);
            writer.u64(nanos);
        }
        // Its birth, generation and version are not told.
        for _ in 0..4 {
            writer.u64(0);
        }
        Ok(writer)
    }

    fn change(&mut self, r: &mut Reader<'_>) -> Answer {
        let (number, what) = (r.u32()?, r.u32()?);
        let (mode, uid, gid, size) = (r.u32()?, r.u32()?, r.u32()?, r.u64()?);
        let mut time = |change: u32, set: u32| -> Result<Timespec, Errno> {
            let (seconds, nanos) = (r.u64()?, r.u64()?);
            let special = |nsec| Timespec {
                tv_sec: 0,
                tv_nsec: nsec,
            };
            Ok(match (what & change != 0, what & set != 0) {
                (false, _) => special(UTIME_OMIT),
                (true, false) => special(UTIME_NOW),
                (true, true) => Timespec {
                    tv_sec: seconds as i64,
                    tv_nsec: nanos as i64,
                },
            })
        };
        let times = Timestamps {
            last_access: time(change::ATIME, change::ATIME_SET)?,
            last_modification: time(change::MTIME, change::MTIME_SET)?,
        };
        let held = self.held(number)?;
        let (all, path) = (&self.descriptors, self::number(&held.path));
        if what & change::MODE != 0 {
            fs::chmodat(all, &path, mode_of(mode), AtFlags::empty())?;
        }
        let owner = |bit: u32, id: u32| (what & bit != 0).then_some(id);
        if what & (change::UID | change::GID | change::CTIME) != 0 {
            let uid = owner(change::UID, uid).map(fs::Uid::from_raw);
            let gid = owner(change::GID, gid).map(fs::Gid::from_raw);
            // Nobody named: its time of change is set by that.
            fs::chownat(all, &path, uid, gid, AtFlags::empty())?;
        }
        if what & change::SIZE != 0 {
            plain(&fs::fstat(&held.path)?)?;
            let own = held.open.as_ref().map(|file| fs::ftruncate(file, size));
            if !matches!(own, Some(Ok(()))) {
                fs::ftruncate(self.again(&held.path, OFlags::WRONLY)?, size)?;
            }
        }
        if what & (change::ATIME | change::MTIME) != 0 {
            fs::utimensat(all, &path, &times, AtFlags::empty())?;
        }
        Ok(Writer::default())
    }

    fn file_system(&mut self, r: &mut Reader<'_>) -> Answer {
        let found = fs::fstatvfs(&self.held(r.u32()?)?.path)?;
        let mut writer = Writer::default();
        // V9FS_MAGIC: what it is on the host is nothing to the guest.
        writer.u32(0x0102_1997);
        writer.u32(found.f_bsize as u32);
        for number in [
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
            found.f_files,
            found.f_ffree,
            0,
        ] {
            writer.u64(number);
        }
        writer.u32(found.f_namemax as u32);
        Ok(writer)
    }

    fn lock_of(&mut self, r: &mut Reader<'_>) -> Answer {
        let number = r.u32()?;
        self.opened(number)?;
        let (_, start, length, process, client) = (r.u8()?, r.u64()?, r.u64()?, r.u32()?, r.string()?);
        let mut writer = Writer::default();
        writer.u8(UNLOCKED);
        writer.u64(start);
        writer.u64(length);
        writer.u32(process);
        writer.string(client)?;
        Ok(writer)
    }

    /// Who it is that was just made.
    fn made(&mut self, into: u32, name: &[u8]) -> Answer {
        let stat = fs::statat(&self.held(into)?.path, name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.id(&stat)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// The name of a descriptor among the own.
fn number(fd: &OwnedFd) -> String {
    fd.as_raw_fd().to_string()
}

/// Anything else waits for another side, or is a device.
fn plain(stat: &Stat) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => Ok(()),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::PERM),
    }
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn flags_of(flags: u32) -> OFlags {
    let access = match flags & ACCESS {
        0 => OFlags::RDONLY,
        1 => OFlags::WRONLY,
        _ => OFlags::RDWR,
    };
    let others = OPEN_FLAGS.iter().filter(|(bit, _)| flags & bit != 0);
    others.fold(access, |all, (_, flag)| all | *flag)
}

/// As `readdir(3)` has them.
fn type_of(kind: FileType) -> u8 {
    match kind {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    }
}

#[cfg(test)]
mod tests;
