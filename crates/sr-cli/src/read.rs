//! Reads a small document that somebody named: a regular file of at most 1 MiB, never anything that could block,
//! trigger a device or grow without end.

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sr_common::{Code, Fault};
use std::io::Read;
use std::path::Path;

/// Larger documents are refused.
pub const MAX_BYTES: u64 = 1 << 20;

/// A document's bytes and the metadata of the file that they were read from.
pub struct Document {
    pub bytes: Vec<u8>,
    pub stat: Stat,
}

/// Reads `path`. Every failure is `SR-POL-002` at `field`.
pub fn document(path: &Path, field: &str) -> Result<Document, Fault> {
    let shown = path.display();
    let fail = |found: String, remedy: &str| Fault::new(Code::Pol002, field, found, remedy);
    let errno = |e: Errno| match e {
        Errno::NOENT => fail(
            format!("{shown} does not exist"),
            "name an existing file; a preset is written without `.` and `/`",
        ),
        Errno::ACCESS => fail(
            format!("{shown} may not be read: {e}"),
            "make it readable for the user who runs safe-run",
        ),
        e => fail(format!("{shown} cannot be read: {e}"), "name a regular file"),
    };
    // Looked at before it is opened: opening some devices does something.
    regular(&rustix::fs::stat(path).map_err(errno)?)
        .map_err(|kind| fail(format!("{shown} is {kind}"), "name a regular file"))?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(errno)?;
    let stat = rustix::fs::fstat(&fd).map_err(errno)?;
    regular(&stat).map_err(|kind| fail(format!("{shown} is {kind}"), "name a regular file"))?;
    let too_large = || {
        fail(
            format!("{shown} holds more than 1 MiB"),
            "a policy is a small text: name the right file, or split it",
        )
    };
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > MAX_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(fd)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| fail(format!("{shown} cannot be read: {e}"), "name a regular file"))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large());
    }
    Ok(Document { bytes, stat })
}

fn regular(stat: &Stat) -> Result<(), &'static str> {
    Err(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no regular file",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &Path) -> String {
        match document(path, "policy") {
            Ok(_) => panic!("{} was read", path.display()),
            Err(fault) => {
                assert_eq!(fault.code, Code::Pol002);
                fault.found
            }
        }
    }

    #[test]
    fn only_small_regular_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("ok"), "x").unwrap();
        assert_eq!(document(&at("ok"), "policy").unwrap().bytes, b"x");
        assert!(refused(&at("none")).contains("does not exist"));
        assert!(refused(dir.path()).contains("is a directory"));
        assert!(refused(Path::new("/dev/null")).contains("is a device"));
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(refused(&at("fifo")).contains("is a FIFO"));
        std::fs::File::create(at("sparse"))
            .unwrap()
            .set_len(100_000_000)
            .unwrap();
        assert!(refused(&at("sparse")).contains("more than 1 MiB"));
        // Files that say they are empty and are not.
        assert!(document(Path::new("/proc/self/status"), "policy").is_ok());
    }
}
