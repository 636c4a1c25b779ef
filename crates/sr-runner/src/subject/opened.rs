//! What the kernel itself opens to execute a file: the interpreter of its `#!` line, the loader that its ELF header names.

use super::shebang;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As deep as the kernel follows interpreters that are scripts.
const MOST: usize = 5;

/// Absolute paths of the view, as they are written. `host`: where the host has what the view has at a path. What cannot be
/// read names nothing.
pub fn to_execute(path: &str, host: impl Fn(&str) -> PathBuf) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut at = path.to_owned();
    for _ in 0..MOST {
        let next = match shebang::read(&host(&at)) {
            Ok(Some(Ok(line))) => Some(line.interpreter),
            Ok(None) => loader(&host(&at)),
            _ => None,
        };
        let Some(next) = next.and_then(|path| path.into_os_string().into_string().ok()) else {
            break;
        };
        if !next.starts_with('/') || !found.insert(next.clone()) {
            break;
        }
        at = next;
    }
    found
}

/// `PT_INTERP` of an ELF file of 64 bits, as both architectures have it (elf(5)).
pub(crate) fn loader(host: &Path) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    const LONGEST: u64 = 4096;
    let mut file = File::open(host).ok()?;
    let mut header = [0; 64];
    file.read_exact(&mut header).ok()?;
    let half = |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let long = |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (long(&header, 32)?, half(&header, 54)?, half(&header, 56)?);
    for i in 0..u64::from(count) {
        let mut entry = [0; 56];
        let at = table.checked_add(i * u64::from(size))?;
        file.read_exact_at(&mut entry, at).ok()?;
        if u32::from_le_bytes(entry[..4].try_into().ok()?) != PT_INTERP {
            continue;
        }
        let (at, length) = (long(&entry, 8)?, long(&entry, 32)?);
        let mut name = vec![0; usize::try_from(length.min(LONGEST)).ok()?];
        file.read_exact_at(&mut name, at).ok()?;
        name.truncate(name.iter().position(|byte| *byte == 0)?);
        return Some(PathBuf::from(std::ffi::OsString::from_vec(name)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_and_loaders() {
        let dir = tempfile::tempdir().unwrap();
        let host = |path: &str| match path.strip_prefix("/view/") {
            Some(name) => dir.path().join(name),
            None => PathBuf::from(path),
        };
        std::fs::write(dir.path().join("script"), "#!/bin/sh -e\n").unwrap();
        std::fs::write(dir.path().join("around"), "#!/view/around\n").unwrap();
        std::fs::write(dir.path().join("elf"), b"\x7fELF\x02\x01 and no more").unwrap();
        let shell = to_execute("/view/script", host);
        assert!(shell.contains("/bin/sh") && shell.len() == 2, "{shell:?}");
        let loader = shell.iter().find(|path| path.contains("/ld-")).unwrap();
        assert!(Path::new(loader).exists());
        assert_eq!(to_execute("/view/around", host).len(), 1);
        for nothing in ["/view/elf", "/view/none", "/etc/passwd"] {
            assert!(to_execute(nothing, host).is_empty(), "{nothing}");
        }
    }
}
