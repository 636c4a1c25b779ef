//! A directory of the host's as a root file system. Owners and times are left behind: the same names, modes and contents give
//! the same image, whoever has copied them.

use crate::provenance::{Input, Provenance};
use crate::tar::{Entry, EntryKind};
use crate::tree::Tree;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Without setuid and setgid: they would be another owner's.
const MODE: u32 = 0o1777;

pub fn add(path: &Path, tree: &mut Tree) -> io::Result<Provenance> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&root)?;
    tree.add(
        &entry(b"./".to_vec(), stat.st_mode, 0, EntryKind::Directory),
        io::empty(),
    )?;
    below(&root, &[], tree)?;
    Ok(Provenance {
        how: "import directory".to_owned(),
        inputs: vec![Input {
            name: super::file_name(path),
            version: None,
            digest: None,
        }],
        notes: vec![
            "owners are root, times are none; setuid and setgid bits and extended attributes are left out".to_owned(),
        ],
        ..Provenance::default()
    })
}

/// A tree bounds how deep this goes.
fn below(dir: &OwnedFd, path: &[u8], tree: &mut Tree) -> io::Result<()> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for found in Dir::read_from(dir)? {
        let name = found?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let path = [path, &name].concat();
        add_one(dir, &name, path.clone(), tree).map_err(|e| {
            let path = String::from_utf8_lossy(&path).escape_debug().to_string();
            io::Error::new(e.kind(), format!("{path}: {e}"))
        })?;
    }
    Ok(())
}

fn add_one(dir: &OwnedFd, name: &[u8], path: Vec<u8>, tree: &mut Tree) -> io::Result<()> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let open = |flags: OFlags| {
        let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(dir, name, flags, Mode::empty())
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let inner = open(OFlags::DIRECTORY)?;
            tree.add(&entry(path.clone(), stat.st_mode, 0, EntryKind::Directory), io::empty())?;
            below(&inner, &[&path[..], b"/"].concat(), tree)
        }
        FileType::RegularFile => {
            let file = File::from(open(OFlags::empty())?);
            let stat = file.metadata()?;
            if !stat.is_file() {
                return Err(io::Error::other("it was another thing a moment ago"));
            }
            let entry = entry(
                path,
                std::os::unix::fs::MetadataExt::mode(&stat),
                stat.len(),
                EntryKind::File,
            );
            tree.add(&entry, file)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes();
            tree.add(&entry(path, 0o777, 0, EntryKind::Symlink(target)), io::empty())
        }
        _ => tree.add(&entry(path, 0, 0, EntryKind::Special), io::empty()),
    }
}

fn entry(path: Vec<u8>, mode: u32, size: u64, kind: EntryKind) -> Entry {
    Entry {
        path,
        mode: mode & MODE,
        uid: 0,
        gid: 0,
        mtime: 0,
        size,
        at: 0,
        attributes: false,
        kind,
    }
}
