//! Landlock (landlock(7)): the ABI, rulesets, entering a domain. Raw system calls rather than the `landlock` crate,
//! because rules are made in the new process, which does not allocate.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

// Rights of linux/landlock.h.
const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const FILE_RIGHTS: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// Rights on files and directories that `abi` knows.
fn all_rights(abi: u32) -> u64 {
    match abi {
        0 => 0,
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        _ => (1 << 16) - 1,
    }
}

/// What a rule allows below its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read directories.
    List,
    /// Read files and directories, execute.
    Read,
    /// Everything but making device nodes and device ioctls.
    Write,
    /// Read, write, truncate and ioctl what exists.
    Device,
    /// Read files and directories.
    Look,
    /// Everything but executing and making block devices.
    Keep,
    /// Remove empty directories.
    RemoveDirectories,
}

const SCOPE_ABSTRACT_SOCKETS: u64 = 1;
const SCOPE_SIGNALS: u64 = 2;

/// What of the world outside its domain a process still reaches by other ways than files (ABI 6 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// It may signal processes outside, and connect to no abstract socket of theirs.
    Signals,
    Nothing,
}

impl Scope {
    fn bits(self) -> u64 {
        match self {
            Scope::Everything => 0,
            Scope::Signals => SCOPE_ABSTRACT_SOCKETS,
            Scope::Nothing => SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS,
        }
    }
}

/// What is allowed at a path and below it.
#[derive(Debug)]
pub struct Rule {
    /// Absolute, of the view where it is a sandbox's.
    pub path: CString,
    pub access: Access,
    /// Nothing but a regular file is allowed.
    pub file: bool,
}

impl Rule {
    /// Links are followed.
    pub fn new(path: CString, access: Access) -> Rule {
        Rule {
            path,
            access,
            file: false,
        }
    }
}

/// A ruleset, complete before the clone.
#[derive(Debug)]
pub struct Ruleset {
    pub abi: u32,
    pub deny_tcp: bool,
    pub scope: Scope,
    pub rules: Vec<Rule>,
}

/// The kernel's Landlock ABI; 0 where there is none.
pub fn abi() -> u32 {
    // SAFETY: with a null attribute, size 0 and this flag the call only answers the ABI version.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}

impl Ruleset {
    /// Makes the ruleset in the kernel. Does not allocate.
    pub(crate) fn create(&self) -> io::Result<OwnedFd> {
        let attr = RulesetAttr {
            handled_access_fs: all_rights(self.abi),
            handled_access_net: if self.deny_tcp && self.abi >= 4 { 3 } else { 0 },
            scoped: if self.abi >= 6 { self.scope.bits() } else { 0 },
        };
        // Older kernels refuse a longer attribute only if the surplus is not zero; the right size is always taken.
        let size = match self.abi {
            0..=3 => 8usize,
            4 | 5 => 16,
            _ => 24,
        };
        // SAFETY: `attr` is a live struct landlock_ruleset_attr of at least `size` bytes.
        let fd = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0u32) };
        let ruleset = owned(fd)?;
        for rule in &self.rules {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let Some(target) = present(openat(CWD, rule.path.as_c_str(), flags, Mode::empty()))? else {
                continue;
            };
            if !rule.file || is_file(target.as_fd())? {
                allow(ruleset.as_fd(), self.abi, target.as_fd(), rule.access)?;
            }
        }
        Ok(ruleset)
    }
}

fn rights(abi: u32, access: Access) -> u64 {
    all_rights(abi)
        & match access {
            Access::List => READ_DIR,
            Access::Read => EXECUTE | READ_FILE | READ_DIR,
            Access::Write => !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV),
            Access::Device => READ_FILE | WRITE_FILE | READ_DIR | TRUNCATE | IOCTL_DEV,
            Access::Look => READ_FILE | READ_DIR,
            Access::Keep => !(EXECUTE | MAKE_BLOCK | IOCTL_DEV),
            Access::RemoveDirectories => REMOVE_DIR,
        }
}

/// `None` for a part of the view that this host lacks, or that nobody inside may reach: it needs no rule, and what has none is
/// denied.
fn present(opened: rustix::io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn is_file(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mode = rustix::fs::fstat(fd)?.st_mode;
    Ok(rustix::fs::FileType::from_raw_mode(mode).is_file())
}

/// Adds a rule for what is at `path`, to which no symbolic link may lead. Does not allocate.
pub(crate) fn allow_place(ruleset: BorrowedFd<'_>, abi: u32, path: &CStr, access: Access) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    match present(opened)? {
        Some(target) => allow(ruleset, abi, target.as_fd(), access),
        None => Ok(()),
    }
}

/// Adds a rule for what is open at `target`. Does not allocate.
pub(crate) fn allow(ruleset: BorrowedFd<'_>, abi: u32, target: BorrowedFd<'_>, access: Access) -> io::Result<()> {
    let mut rights = rights(abi, access);
    let stat = rustix::fs::fstat(target)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        rights &= FILE_RIGHTS;
    }
    let rule = PathBeneathAttr {
        allowed_access: rights,
        parent_fd: target.as_raw_fd(),
    };
    // SAFETY: `rule` is a live struct landlock_path_beneath_attr whose descriptor is open during the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0u32,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Enters the domain of `ruleset`, for ever. Needs no_new_privs.
pub(crate) fn restrict_self(ruleset: RawFd) -> io::Result<()> {
    // SAFETY: the call takes a descriptor and flags and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0u32) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn owned(answer: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the kernel just returned this descriptor; nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
