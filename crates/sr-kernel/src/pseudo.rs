//! Reading the files of /proc, /sys and control groups. They tell no size, for which std asks first and then reads in
//! steps from 32 bytes up; a run reads dozens of them.

use rustix::fs::{CWD, Mode, OFlags};
use std::io;
use std::path::Path;

/// Larger than almost all of them; /proc gives at most a page at a time anyway.
const CHUNK: usize = 8192;

/// The whole file. Also right for any small regular file; a FIFO reads as empty.
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(CWD, path.as_ref(), flags, Mode::empty())?;
    let mut bytes = Vec::with_capacity(CHUNK);
    loop {
        if bytes.capacity() - bytes.len() < CHUNK / 2 {
            bytes.reserve(CHUNK);
        }
        match rustix::io::read(&file, rustix::buffer::spare_capacity(&mut bytes)) {
            Ok(0) => return Ok(bytes),
            Ok(_) => {}
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
