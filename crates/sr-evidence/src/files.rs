//! The files of a run's evidence: their names and size limits, atomic writing, bounded reading.

use p256::elliptic_curve::rand_core::{OsRng, RngCore};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use sr_common::{Digest, canonical};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub const REPORT: &str = "run_report.json";
pub const EVENTS: &str = "events.jsonl";
pub const POLICY: &str = "policy.json";
pub const BUNDLE: &str = "bundle.json";
/// The manifest of captured changes, where there are any.
pub const CHANGES: &str = "changes.json";
/// What the program was seen to do, where that was asked.
pub const OBSERVED: &str = "observed.json";
/// The chain as it stood at the launch, signed. How it stood at the end is in the attestation.
pub const HEAD_LAUNCH: &str = "head.launch.json";
pub const ATTESTATION: &str = "attestation.sigstore.json";
pub const SIGNER: &str = "signer.pub";
/// Who took over what of the captured changes, once somebody did.
pub const APPROVALS: &str = "approvals.jsonl";

/// What came of the harmless escape corpus, in a run that was made to attest it.
pub const ATTACK: &str = "attack.json";

/// Bytes in one line of `events.jsonl`, its newline included.
pub const MAX_LINE: u64 = 1 << 20;
/// Bytes in `events.jsonl`.
pub const MAX_EVENTS: u64 = 256 << 20;
/// Bytes in `approvals.jsonl`; a line names every path that was taken over.
pub const MAX_APPROVALS: u64 = 128 << 20;
/// Bytes in any other file that is read whole.
pub const MAX_DOCUMENT: u64 = 32 << 20;
/// Bytes in a key file or a signed head.
pub const MAX_SMALL: u64 = 64 << 10;

/// Opens a directory by path; the last component may not be a symbolic link.
pub fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Writes `value` as canonical JSON, without a newline, so that the digest of the document is what `sha256sum` says
/// of the file. Gives that digest: it vouches for the whole document in the event that follows it, so that half of one,
/// after a kill, is nobody's.
pub fn write_document<T: serde::Serialize>(
    dir: impl AsFd,
    name: &str,
    value: &T,
    durable: bool,
) -> std::io::Result<Digest> {
    let dir = dir.as_fd();
    let bytes = canonical::to_bytes(value)?;
    write_file(dir, name, &bytes, OFlags::TRUNC, Mode::RUSR | Mode::WUSR, durable)?;
    if durable {
        rustix::fs::fsync(dir)?;
    }
    Ok(Digest::of(&bytes))
}

/// Writes a whole file: a temporary beside it, then a rename. Nobody ever sees half of it.
pub(crate) fn write_atomic(
    dir: BorrowedFd,
    name: &str,
    bytes: &[u8],
    mode: Mode,
    durable: bool,
) -> rustix::io::Result<()> {
    let temporary = write_temporary(dir, name, bytes, mode, durable)?;
    if let Err(e) = rustix::fs::renameat(dir, temporary.as_str(), dir, name) {
        let _ = rustix::fs::unlinkat(dir, temporary.as_str(), AtFlags::empty());
        return Err(e);
    }
    if durable {
        rustix::fs::fsync(dir)?;
    }
    Ok(())
}

/// Writes a whole file under a new hidden name, and gives that name.
pub(crate) fn write_temporary(
    dir: BorrowedFd,
    name: &str,
    bytes: &[u8],
    mode: Mode,
    durable: bool,
) -> rustix::io::Result<String> {
    let temporary = format!(".{name}.{:016x}", OsRng.next_u64());
    write_file(dir, &temporary, bytes, OFlags::EXCL, mode, durable)?;
    Ok(temporary)
}

/// Removes from `dir` what killed writers left under names of [`write_temporary`]'s, and gives these. Nobody may be writing
/// there.
pub fn sweep(dir: impl AsFd) -> std::io::Result<Vec<String>> {
    let mut removed = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if is_temporary(name) {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            removed.push(name.to_owned());
        }
    }
    Ok(removed)
}

fn is_temporary(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|rest| rest.rsplit_once('.'));
    parts.is_some_and(|(of, random)| {
        !of.is_empty() && random.len() == 16 && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Writes a whole file, or leaves none. `how`: `EXCL` for a name that is new, `TRUNC` to replace what is there.
fn write_file(
    dir: BorrowedFd,
    name: &str,
    bytes: &[u8],
    how: OFlags,
    mode: Mode,
    durable: bool,
) -> rustix::io::Result<()> {
    let flags = how | OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, mode)?;
    let written =
        write_all(file.as_fd(), bytes).and_then(|()| if durable { rustix::fs::fdatasync(&file) } else { Ok(()) });
    if written.is_err() {
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
    }
    written
}

pub(crate) fn write_all(file: BorrowedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Absent,
    Because(String),
}

impl Unreadable {
    pub fn text(&self) -> &str {
        match self {
            Unreadable::Absent => "is missing",
            Unreadable::Because(why) => why,
        }
    }
}

/// All of a regular file of a run's directory, up to [`MAX_EVENTS`] bytes; `None` if it is not there.
pub fn read_document(dir: impl AsFd, name: &str) -> Result<Option<Vec<u8>>, String> {
    match read_regular(dir.as_fd(), name, MAX_EVENTS) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Unreadable::Absent) => Ok(None),
        Err(Unreadable::Because(why)) => Err(format!("{name} {why}")),
    }
}

/// Opens a regular file of `dir` for reading: no symbolic link, no waiting on a FIFO, no more than `limit` bytes.
pub(crate) fn open_regular(dir: BorrowedFd, name: &str, limit: u64) -> Result<std::fs::File, Unreadable> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => checked(fd, limit),
        Err(Errno::NOENT) => Err(Unreadable::Absent),
        Err(Errno::LOOP) => Err(Unreadable::Because("is a symbolic link, which is not followed".into())),
        Err(e) => Err(Unreadable::Because(format!("cannot be opened: {e}"))),
    }
}

/// Like [`open_regular`], for a path that a person gave: symbolic links are followed.
pub(crate) fn open_given(path: &Path, limit: u64) -> Result<std::fs::File, Unreadable> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => checked(fd, limit),
        Err(Errno::NOENT) => Err(Unreadable::Absent),
        Err(e) => Err(Unreadable::Because(format!("cannot be opened: {e}"))),
    }
}

fn checked(fd: OwnedFd, limit: u64) -> Result<std::fs::File, Unreadable> {
    let stat = rustix::fs::fstat(&fd).map_err(|e| Unreadable::Because(format!("cannot be examined: {e}")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Unreadable::Because("is not a regular file".into()));
    }
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > limit {
        return Err(Unreadable::Because(format!(
            "has {} bytes, more than the {limit} that are read",
            stat.st_size
        )));
    }
    Ok(std::fs::File::from(fd))
}

/// All of a file, which may grow while it is read but not beyond `limit`.
pub(crate) fn read_all(file: std::fs::File, limit: u64) -> Result<Vec<u8>, Unreadable> {
    // Room for all of it at once: few reads, and a secret leaves no copies behind in buffers that were outgrown.
    let size = file.metadata().map_or(0, |m| m.len()).min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default() + 64);
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Unreadable::Because(format!("cannot be read: {e}")))?;
    if bytes.len() as u64 > limit {
        return Err(Unreadable::Because(format!(
            "has more than the {limit} bytes that are read"
        )));
    }
    Ok(bytes)
}

/// All of a regular file of `dir`.
pub(crate) fn read_regular(dir: BorrowedFd, name: &str, limit: u64) -> Result<Vec<u8>, Unreadable> {
    read_all(open_regular(dir, name, limit)?, limit)
}

/// Whether `name` names a file in a directory and nothing else: no path, nothing hidden.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_document_is_that_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        let digest = write_document(&fd, POLICY, &serde_json::json!({"b": 1, "a": [2]}), true).unwrap();
        let bytes = std::fs::read(dir.path().join(POLICY)).unwrap();
        assert_eq!(bytes, br#"{"a":[2],"b":1}"#);
        assert_eq!(digest, Digest::of(&bytes));
        // Written again, it is the new one and no more.
        write_document(&fd, POLICY, &1, false).unwrap();
        assert_eq!(std::fs::read(dir.path().join(POLICY)).unwrap(), b"1");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        assert!(write_document(&fd, "d", &1, false).is_err());
        assert!(write_atomic(fd.as_fd(), "d", b"1", Mode::RUSR, false).is_err());
        assert_eq!(
            std::fs::read_dir(dir.path()).unwrap().count(),
            1,
            "the temporary is gone after a failure"
        );
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir(dir.path()).unwrap();
        std::fs::write(dir.path().join("f"), b"12345").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        rustix::fs::mknodat(&fd, "p", FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let why = |name: &str, limit| read_regular(fd.as_fd(), name, limit).unwrap_err().text().to_owned();
        assert_eq!(read_regular(fd.as_fd(), "f", 5), Ok(b"12345".to_vec()));
        assert_eq!(why("f", 4), "has 5 bytes, more than the 4 that are read");
        assert_eq!(why("l", 5), "is a symbolic link, which is not followed");
        assert_eq!(why("p", 5), "is not a regular file");
        assert_eq!(why("none", 5), "is missing");
    }

    #[test]
    fn plain_names() {
        assert!(is_plain_name(ATTESTATION));
        for bad in ["", ".", "..", "a/b", ".hidden", "a\nb", "/etc/passwd"] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
    }
}
