//! A tree as the image of a file system, and images by their first bytes.

use crate::erofs;
use crate::ext4;
use crate::fault::{fault, on};
use crate::store::{Artifacts, Draft};
use crate::tar::{self, Entry, EntryKind};
use crate::tool;
use crate::tree::{ROOT, Tree, What};
use sr_common::Fault;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::Stdio;

const STAGE: &str = "build.image";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Erofs,
    Squashfs,
    Ext4,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Erofs => "erofs",
            Format::Squashfs => "squashfs",
            Format::Ext4 => "ext4",
        }
    }

    /// By the beginning of a file, two KiB of it.
    pub fn of(beginning: &[u8]) -> Option<Format> {
        let at = |place: usize, magic: &[u8]| beginning.get(place..place + magic.len()) == Some(magic);
        match () {
            () if at(1024, &0xe0f5_e1e2u32.to_le_bytes()) => Some(Format::Erofs),
            () if at(0, b"hsqs") => Some(Format::Squashfs),
            () if at(1024 + 56, &0xef53u16.to_le_bytes()) => Some(Format::Ext4),
            () => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The image of a tree, not yet kept.
pub fn write(artifacts: &Artifacts, tree: &Tree, format: Format) -> Result<Draft, Fault> {
    match format {
        Format::Erofs => written(artifacts, |out| erofs::write(tree, out)),
        Format::Ext4 => written(artifacts, |out| ext4::write(tree, out)),
        Format::Squashfs => squashfs(artifacts, tree),
    }
}

/// What is written here, straight into the store.
fn written(
    artifacts: &Artifacts,
    write: impl FnOnce(&mut BufWriter<&mut Draft>) -> io::Result<()>,
) -> Result<Draft, Fault> {
    let mut draft = artifacts.draft()?;
    let mut out = BufWriter::with_capacity(1 << 20, &mut draft);
    let done = write(&mut out).and_then(|()| out.flush());
    drop(out);
    done.map_err(|e| wrong(&e))?;
    Ok(draft)
}

fn wrong(error: &io::Error) -> Fault {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room in the run store",
        _ => "see what it says",
    };
    fault(STAGE, format!("the image cannot be written: {error}"), remedy)
}

/// By mksquashfs, which is given an archive: no name of the tree becomes a path of the host's.
fn squashfs(artifacts: &Artifacts, tree: &Tree) -> Result<Draft, Fault> {
    let scratch = artifacts.scratch()?;
    let path = scratch.path().join("image");
    let mut command = tool::command("mksquashfs");
    command
        .arg("-")
        .arg(&path)
        .args(["-tar", "-quiet", "-no-progress", "-noappend", "-no-xattrs"]);
    command.args(["-reproducible", "-processors", "1", "-comp", "zstd"]);
    // Nothing in the image is younger than its youngest file. It takes the root's own time from the clock.
    let newest = tree.newest().min(u64::from(u32::MAX));
    command.env("SOURCE_DATE_EPOCH", newest.to_string());
    // What the archive says of the root itself it passes over.
    let root = tree.inode(ROOT);
    let options = [
        ("-root-mode", format!("{:o}", root.mode)),
        ("-root-uid", root.uid.to_string()),
        ("-root-gid", root.gid.to_string()),
    ];
    for (option, value) in options {
        command.args([option, &value]);
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn();
    let mut child = child.map_err(|e| tool::missing(STAGE, "mksquashfs", "squashfs-tools", &e))?;
    let written = match child.stdin.take() {
        Some(input) => {
            let mut input = BufWriter::with_capacity(1 << 20, input);
            archive(tree, &mut input).and_then(|()| input.flush())
        }
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(on(&path))?;
    if !output.status.success() {
        return Err(tool::failed(
            STAGE,
            "mksquashfs",
            &output.status.to_string(),
            &output.stderr,
        ));
    }
    // Had it stopped reading, it would have said why.
    written.map_err(|e| wrong(&e))?;
    let mut draft = artifacts.draft()?;
    let mut image = File::open(&path).map_err(on(&path))?;
    io::copy(&mut image, &mut draft).map_err(|e| wrong(&e))?;
    Ok(draft)
}

/// The tree as an archive, in the order of its names.
pub fn archive(tree: &Tree, to: &mut impl Write) -> io::Result<()> {
    let mut first: HashMap<usize, Vec<u8>> = HashMap::new();
    let mut todo: Vec<(Vec<u8>, usize)> = vec![(Vec::new(), ROOT)];
    while let Some((path, number)) = todo.pop() {
        let inode = tree.inode(number);
        let (kind, content) = match (&inode.what, first.get(&number)) {
            (What::Directory(_), _) => (EntryKind::Directory, None),
            (_, Some(other)) => (EntryKind::Hardlink(other.clone()), None),
            (What::Symlink(target), None) => (EntryKind::Symlink(target.clone()), None),
            (What::File(offset, length), None) => (EntryKind::File, Some((*offset, *length))),
        };
        let mut entry = Entry {
            path: path.clone(),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            size: content.map_or(0, |(_, length)| length),
            at: 0,
            attributes: false,
            kind,
        };
        if entry.kind == EntryKind::Directory {
            entry.path.push(b'/');
        }
        if number == ROOT {
            entry.path = b"./".to_vec();
        }
        tar::write_header(to, &entry)?;
        if let Some((offset, length)) = content {
            tree.copy(offset, length, to)?;
            tar::pad(to, length)?;
        }
        let below: Vec<(Vec<u8>, usize)> = tree
            .names(number)
            .map(|(name, below)| {
                let parent: &[u8] = if number == ROOT { b"" } else { &entry.path };
                ([parent, name].concat(), below)
            })
            .collect();
        todo.extend(below.into_iter().rev());
        first.entry(number).or_insert(path);
    }
    tar::end(to)
}
