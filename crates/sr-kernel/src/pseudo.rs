//! Reading the files of /proc, /sys and control groups. They tell no size, for which std asks first and then reads in
//! steps from 32 bytes up; a run reads dozens of them.

use rustix::fs::{CWD, Mode, OFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::Path;

/// Larger than almost all of them.
const CHUNK: usize = 8192;

/// The whole file. Also right for any small regular file; a FIFO reads as empty.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read_at(CWD, path)
}

/// The same of a path below a directory.
pub fn read_at(dir: impl AsFd, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(dir, path.as_ref(), flags, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); CHUNK];
    let mut bytes = Vec::new();
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(([], _)) => return Ok(bytes),
            Ok((more, _)) => bytes.extend_from_slice(more),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// The whole file as text.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_that_std_reads() {
        for path in ["/proc/filesystems", "/proc/self/mountinfo", "/proc/self/environ"] {
            assert_eq!(read(path).unwrap(), std::fs::read(path).unwrap(), "{path}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for size in [0, 1, CHUNK / 2, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK] {
            let content = vec![b'x'; size];
            std::fs::write(file.path(), &content).unwrap();
            assert_eq!(read(file.path()).unwrap(), content);
        }
        assert!(read("/proc/none").is_err());
        assert!(text("/proc/self/status").unwrap().starts_with("Name:"));
    }
}
