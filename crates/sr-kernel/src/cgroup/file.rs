//! Reading and writing cgroup files, each failure with the file's name and the kernel's answer.

use super::ReadBack;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, open, statfs, unlinkat};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What went wrong with a group, at which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupError {
    /// `write`, `read`, `mkdir` …
    pub action: &'static str,
    pub file: PathBuf,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    Errno(Errno),
    /// The kernel holds something else than what was written.
    Differs {
        wrote: String,
        read: String,
    },
    /// The path is not a run's group.
    NotOurs,
    /// Processes that cannot be killed are still in the group.
    StillAlive(usize),
}

impl CgroupError {
    pub(super) fn new(action: &'static str, file: &Path, problem: Problem) -> Self {
        CgroupError {
            action,
            file: file.to_owned(),
            problem,
        }
    }

    pub(super) fn errno(action: &'static str, file: &Path, errno: Errno) -> Self {
        CgroupError::new(action, file, Problem::Errno(errno))
    }
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.action, self.file.display())?;
        match &self.problem {
            Problem::Errno(errno) => write!(f, "{errno} (errno {})", errno.raw_os_error()),
            Problem::Differs { wrote, read } => write!(f, "wrote {wrote}, the kernel holds {read}"),
            Problem::NotOurs => write!(f, "not a control group of a run"),
            Problem::StillAlive(n) => write!(f, "{n} processes are still there after SIGKILL"),
        }
    }
}

impl std::error::Error for CgroupError {}

/// Control files only ever exist; nothing is created or truncated by writing to them.
pub(super) fn write(file: &Path, text: &str) -> Result<(), CgroupError> {
    let fail = |errno| CgroupError::errno("write", file, errno);
    let fd = open(file, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).map_err(fail)?;
    put(&fd, file, text)
}

fn put(open: &OwnedFd, file: &Path, text: &str) -> Result<(), CgroupError> {
    loop {
        match rustix::io::write(open, text.as_bytes()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(CgroupError::errno("write", file, errno)),
        }
    }
}

pub(super) fn read(file: &Path) -> Result<String, CgroupError> {
    crate::pseudo::text(file).map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        CgroupError::errno("read", file, errno)
    })
}

/// A limit that was written, its file still open.
#[derive(Debug)]
pub(super) struct Limit {
    open: OwnedFd,
    /// As the kernel gave it back then.
    pub read_back: ReadBack,
}

/// [`Limit::write`] or [`Limit::held`].
pub(super) type Put = fn(PathBuf, &str, &str) -> Result<Limit, CgroupError>;

impl Limit {
    /// Writes, and reads back what the kernel now holds: it must be `expected`.
    pub fn write(file: PathBuf, text: &str, expected: &str) -> Result<Self, CgroupError> {
        let open = open(&file, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|errno| CgroupError::errno("write", &file, errno))?;
        put(&open, &file, text)?;
        Limit::compared(open, file, text, expected)
    }

    /// What somebody else wrote: the kernel must hold `expected`.
    pub fn held(file: PathBuf, text: &str, expected: &str) -> Result<Self, CgroupError> {
        let open = open(
            &file,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .map_err(|errno| CgroupError::errno("read", &file, errno))?;
        Limit::compared(open, file, text, expected)
    }

    fn compared(open: OwnedFd, file: PathBuf, wrote: &str, expected: &str) -> Result<Self, CgroupError> {
        let value = held(&open, &file)?;
        if value != expected {
            let problem = Problem::Differs {
                wrote: wrote.to_owned(),
                read: value,
            };
            return Err(CgroupError::new("limit", &file, problem));
        }
        Ok(Limit {
            open,
            read_back: ReadBack { file, value },
        })
    }

    /// As the kernel gives it now.
    pub fn observe(&self) -> Result<ReadBack, CgroupError> {
        let file = self.read_back.file.clone();
        let value = held(&self.open, &file)?;
        Ok(ReadBack { file, value })
    }
}

/// The one line of an open file, read from its beginning.
fn held(open: &OwnedFd, file: &Path) -> Result<String, CgroupError> {
    let mut buffer = [0u8; 256];
    loop {
        match rustix::io::pread(open, &mut buffer, 0) {
            Ok(n) => return Ok(String::from_utf8_lossy(&buffer[..n]).trim().to_owned()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(CgroupError::errno("read", file, errno)),
        }
    }
}

pub(super) fn exists(file: &Path) -> bool {
    rustix::fs::accessat(CWD, file, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
}

pub(super) fn number(file: &Path) -> Option<u64> {
    read(file).ok()?.trim().parse().ok()
}

/// The number after `key` in a file of `key value` lines.
pub(super) fn keyed(file: &Path, key: &str) -> Option<u64> {
    let text = read(file).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)?
        .1
        .trim()
        .parse()
        .ok()
}

pub(super) fn mkdir(dir: &Path) -> Result<(), CgroupError> {
    mkdirat(CWD, dir, Mode::from_raw_mode(0o755)).map_err(|e| CgroupError::errno("mkdir", dir, e))
}

pub(super) fn open_dir(dir: &Path) -> Result<OwnedFd, CgroupError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(dir, flags, Mode::empty()).map_err(|e| CgroupError::errno("open", dir, e))
}

pub(super) fn open_for_writing(file: &Path) -> Result<OwnedFd, CgroupError> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(file, flags, Mode::empty()).map_err(|e| CgroupError::errno("open", file, e))
}

/// Whether `dir` is on a cgroup file system; `None` where it does not exist.
pub(super) fn is_cgroup(dir: &Path) -> Result<Option<bool>, CgroupError> {
    match statfs(dir) {
        Ok(stat) => Ok(Some(cgroup_version(&stat).is_some())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(CgroupError::errno("statfs", dir, errno)),
    }
}

/// The version of the cgroup file system that `dir` is on; `None`: it is on none.
pub fn version(dir: &Path) -> Option<u8> {
    cgroup_version(&statfs(dir).ok()?)
}

fn cgroup_version(stat: &rustix::fs::StatFs) -> Option<u8> {
    const V1: i64 = 0x0027_e0eb;
    const V2: i64 = 0x6367_7270;
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    match stat.f_type as i64 {
        V1 => Some(1),
        V2 => Some(2),
        _ => None,
    }
}

pub(super) fn rmdir(dir: &Path) -> Result<(), Errno> {
    match unlinkat(CWD, dir, rustix::fs::AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// `rmdir`, tried again while the kernel is still busy with the dead processes: a second at most.
pub(super) fn rmdir_patiently(dir: &Path) -> Result<(), CgroupError> {
    let end = Instant::now() + Duration::from_secs(1);
    let mut pause = Duration::from_micros(200);
    loop {
        match rmdir(dir) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < end => std::thread::sleep(pause),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(CgroupError::errno("rmdir", dir, errno)),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
