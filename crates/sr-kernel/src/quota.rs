//! Project quotas: how much the files of one number may hold on a file system (quotactl(2)), and which number the files of
//! a directory have (ioctl_xfs_fssetxattr(2)). Everything by descriptors: no path is looked up.

use rustix::io::Errno;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a project holds, and the most that it may; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub bytes: u64,
    pub inodes: u64,
    pub most_bytes: u64,
    pub most_inodes: u64,
}

/// The kernel counts limits in these.
pub const BLOCK: u64 = 1024;
const PROJECTS: u32 = 2;
const GET_FORMAT: u32 = 0x80_0004;
const GET: u32 = 0x80_0007;
const SET: u32 = 0x80_0008;
const HARD_LIMITS: u32 = 1 | 1 << 2;

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Debug, Default)]
struct Block {
    most_blocks: u64,
    soft_blocks: u64,
    bytes: u64,
    most_inodes: u64,
    soft_inodes: u64,
    inodes: u64,
    block_grace: u64,
    inode_grace: u64,
    valid: u32,
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const INHERITED: u32 = 0x200;
const GET_ATTRIBUTES: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
const SET_ATTRIBUTES: libc::Ioctl = 0x401c_5820;

/// `what` must be what the kernel reads or writes for `command`.
fn quotactl<T>(at: BorrowedFd<'_>, command: u32, project: u32, what: &mut T) -> io::Result<()> {
    const QUOTACTL_FD: libc::c_long = 443;
    let command = command << 8 | PROJECTS;
    // SAFETY: both commands with a structure take a live struct if_dqblk, GET_FORMAT a number of 32 bits; see the callers.
    match unsafe { libc::syscall(QUOTACTL_FD, at.as_raw_fd(), command, project, std::ptr::from_mut(what)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the file system of `at` holds projects to their limits. Anybody may ask.
pub fn has_projects(at: BorrowedFd<'_>) -> bool {
    let mut format = 0u32;
    quotactl(at, GET_FORMAT, 0, &mut format).is_ok()
}

/// For who has `CAP_SYS_ADMIN`, as is the rest.
pub fn read(at: BorrowedFd<'_>, project: u32) -> io::Result<Held> {
    let mut block = Block::default();
    match quotactl(at, GET, project, &mut block) {
        Ok(()) => {}
        // Nothing was ever counted for it.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    Ok(Held {
        bytes: block.bytes,
        inodes: block.inodes,
        most_bytes: block.most_blocks.saturating_mul(BLOCK),
        most_inodes: block.most_inodes,
    })
}

/// Sets the limits of a project, in whole blocks, and reads them back; 0 takes them away.
pub fn limit(at: BorrowedFd<'_>, project: u32, bytes: u64, inodes: u64) -> io::Result<()> {
    let mut block = Block {
        most_blocks: bytes / BLOCK,
        most_inodes: inodes,
        valid: HARD_LIMITS,
        ..Block::default()
    };
    quotactl(at, SET, project, &mut block)?;
    let held = read(at, project)?;
    match (held.most_bytes, held.most_inodes) == (bytes - bytes % BLOCK, inodes) {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "the kernel holds other limits than were set: {held:?}"
        ))),
    }
}

fn attributes(of: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes a live struct fsxattr.
    match unsafe { libc::ioctl(of.as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) } {
        0 => Ok(attributes),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The project of a directory, and whether what is made in it is of that project too. For anybody who has it open.
pub fn project(dir: BorrowedFd<'_>) -> io::Result<(u32, bool)> {
    let attributes = attributes(dir)?;
    Ok((attributes.project, attributes.flags & INHERITED != 0))
}

/// Gives a directory a project, for what will be made in it too. For its owner.
pub fn assign(dir: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = attributes(dir)?;
    attributes.project = project;
    attributes.flags |= INHERITED;
    // SAFETY: the kernel reads a live struct fsxattr.
    match unsafe { libc::ioctl(dir.as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_system_without_quotas_says_so() {
        assert_eq!((size_of::<Block>(), size_of::<Attributes>()), (72, 28));
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!has_projects(proc.as_fd()));
        assert!(read(proc.as_fd(), 7).is_err() && limit(proc.as_fd(), 7, 1 << 20, 9).is_err());
        assert!(project(proc.as_fd()).is_err() && assign(proc.as_fd(), 7).is_err());
    }
}
