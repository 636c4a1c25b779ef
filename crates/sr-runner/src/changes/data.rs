//! The bytes of files: copied with their holes kept, and hashed.

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, seek};
use rustix::io::{Errno, pread, pwrite};
use sr_common::Digest;
use sr_common::digest::Hasher;
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Holes beyond this are not worth hashing: a file of nothing can be of any size.
const MOST_HOLES: u64 = 1 << 30;

/// Copies the first `size` bytes; what is a hole stays one. Gives the bytes that were really copied.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> Result<u64, Errno> {
    let (mut at, mut copied) = (0, 0);
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e),
        };
        let end = match seek(from, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => size,
            Err(e) => return Err(e),
        };
        if start >= end {
            break;
        }
        copy_range(from, to, start, end)?;
        copied += end - start;
        at = end;
    }
    ftruncate(to, size)?;
    Ok(copied)
}

fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
    let (mut read_at, mut write_at) = (start, start);
    while write_at < end {
        let wanted = usize::try_from(end - write_at).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), wanted) {
            Ok(0) => return Err(Errno::IO),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_by_hand(from, to, write_at, end);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn copy_by_hand(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
    let mut buffer = vec![0u8; 256 * 1024];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = match pread(from, &mut buffer[..wanted], at) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => n,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e),
        };
        let mut done = 0;
        while done < got {
            match pwrite(to, &buffer[done..got], at + done as u64) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        at += got as u64;
    }
    Ok(())
}

/// What a file holds, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// SHA-256 of the whole file.
    Whole(Digest),
    /// Of a file that is mostly a huge hole: [`extents`].
    Extents(Digest),
}

pub(super) fn content(fd: OwnedFd) -> Result<Content, Errno> {
    let stat = rustix::fs::fstat(&fd)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let stored = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if size.saturating_sub(stored) > MOST_HOLES {
        return extents(fd).map(Content::Extents);
    }
    whole(fd).map(Content::Whole)
}

pub(super) fn whole(fd: OwnedFd) -> Result<Digest, Errno> {
    let (digest, _) = Digest::of_reader(File::from(fd)).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(digest)
}

/// Digest of the size, and of every block that is not all zero with its number: the same wherever a file system keeps
/// its holes.
pub(super) fn extents(fd: OwnedFd) -> Result<Digest, Errno> {
    const BLOCK: u64 = 4096;
    let size = u64::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or(0);
    let mut hasher = Hasher::default();
    hasher.update(&size.to_be_bytes());
    let mut buffer = [0u8; BLOCK as usize];
    let mut at = 0;
    while at < size {
        let start = match seek(&fd, SeekFrom::Data(at)) {
            Ok(start) => start / BLOCK * BLOCK,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e),
        };
        let mut filled = 0;
        while filled < buffer.len() {
            match pread(&fd, &mut buffer[filled..], start + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        let block = &buffer[..filled];
        if block.iter().any(|byte| *byte != 0) {
            hasher.update(&(start / BLOCK).to_be_bytes());
            hasher.update(block);
        }
        at = start + BLOCK;
    }
    Ok(hasher.finish())
}
