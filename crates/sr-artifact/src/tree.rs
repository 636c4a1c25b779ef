//! A root file system as it is put together: names and what they are in memory, contents in one file. Nothing of it is a
//! file of the host's: whatever an archive calls its entries, they are names in here.

use crate::tar::{Entry, EntryKind};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// The root's number.
pub const ROOT: usize = 0;
/// Symbolic links on the way to an entry.
const MAX_LINKS: usize = 40;
/// As the kernel has them (NAME_MAX, PATH_MAX).
const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;
/// Directories within each other: a path through links can be longer than any that is written down.
const MAX_DEPTH: usize = 512;

/// What a tree may become.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all contents together.
    pub bytes: u64,
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            bytes: 32 << 30,
            entries: 2_000_000,
        }
    }
}

/// Whose archives make it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// An image's layers: a directory takes the place of a link, `.wh.` takes things away.
    Layers,
    /// Packages: a directory is what a link of that name leads to (a merged /usr).
    Packages,
}

#[derive(Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    contents: File,
    /// Bytes in `contents`.
    bytes: u64,
    limits: Limits,
    style: Style,
    /// The archive that is being added.
    layer: u32,
    /// What has no place in an image, by what it is.
    pub left_out: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone)]
pub struct Inode {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    Directory(BTreeMap<Vec<u8>, Name>),
    /// Where in the contents, and how long.
    File(u64, u64),
    Symlink(Vec<u8>),
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    pub inode: usize,
    layer: u32,
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

impl Tree {
    /// An empty one; `contents` is a new file.
    pub fn new(contents: File, style: Style, limits: Limits) -> Tree {
        let root = Inode {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
            what: What::Directory(BTreeMap::new()),
        };
        Tree {
            inodes: vec![root],
            contents,
            bytes: 0,
            limits,
            style,
            layer: 0,
            left_out: BTreeMap::new(),
        }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What is added from now on is another archive's.
    pub fn next_layer(&mut self) {
        self.layer += 1;
    }

    pub fn inode(&self, number: usize) -> &Inode {
        &self.inodes[number]
    }

    /// The latest time in it.
    pub fn newest(&self) -> u64 {
        self.inodes.iter().map(|inode| inode.mtime).max().unwrap_or_default()
    }

    /// The names in a directory, in order; of anything else none.
    pub fn names(&self, number: usize) -> impl Iterator<Item = (&[u8], usize)> {
        let names = match &self.inodes[number].what {
            What::Directory(names) => Some(names),
            _ => None,
        };
        names
            .into_iter()
            .flatten()
            .map(|(name, entry)| (name.as_slice(), entry.inode))
    }

    /// The content of a file, written out.
    pub fn copy(&self, offset: u64, length: u64, to: &mut impl Write) -> io::Result<()> {
        let mut buffer = vec![0; 128 * 1024];
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
            self.contents.read_exact_at(&mut buffer[..wanted], at)?;
            to.write_all(&buffer[..wanted])?;
            at += wanted as u64;
        }
        Ok(())
    }

    /// The inode that a path leads to, links followed.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.walk(path, true).ok().flatten()
    }

    /// A file's content, if it is not longer than `most`.
    pub fn read(&self, path: &[u8], most: u64) -> Option<Vec<u8>> {
        let What::File(offset, length) = self.inodes[self.find(path)?].what else {
            return None;
        };
        let mut bytes = Vec::new();
        (length <= most).then_some(())?;
        self.copy(offset, length, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Adds an archive's entry.
    pub fn add(&mut self, entry: &Entry, content: impl Read) -> io::Result<()> {
        let parts = parts(&entry.path)?;
        let Some((name, parents)) = parts.split_last() else {
            // The root itself.
            if entry.kind == EntryKind::Directory {
                let root = &mut self.inodes[ROOT];
                (root.mode, root.uid, root.gid, root.mtime) = (entry.mode, entry.uid, entry.gid, entry.mtime);
            }
            return Ok(());
        };
        if self.style == Style::Layers {
            if let Some(name) = name.strip_prefix(b".wh.") {
                return self.whiteout(parents, name);
            }
            // What the file system that whiteouts are from keeps for itself.
            if parents.iter().any(|parent| parent.starts_with(b".wh..wh.")) {
                return Ok(());
            }
        }
        if entry.attributes {
            *self
                .left_out
                .entry("extended attributes, file capabilities among them")
                .or_default() += 1;
        }
        let inode = |what| Inode {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            what,
        };
        match &entry.kind {
            EntryKind::Directory => self.directory(parents, name, inode(What::Directory(BTreeMap::new()))),
            EntryKind::File => {
                if entry.size > self.limits.bytes.saturating_sub(self.bytes) {
                    return Err(bad(format!(
                        "{} has {} bytes: with it there are more than the {} that are taken",
                        shown(&entry.path),
                        entry.size,
                        self.limits.bytes
                    )));
                }
                let offset = self.bytes;
                self.contents.seek(SeekFrom::Start(offset))?;
                let length = io::copy(&mut content.take(entry.size), &mut self.contents)?;
                self.bytes += length;
                let directory = self.parent(parents)?;
                self.put(directory, name, inode(What::File(offset, length)))
            }
            EntryKind::Symlink(target) => {
                if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
                    return Err(bad(format!("{} is a link to what is no path", shown(&entry.path))));
                }
                let mut link = inode(What::Symlink(target.clone()));
                link.mode = 0o777;
                let directory = self.parent(parents)?;
                self.put(directory, name, link)
            }
            EntryKind::Hardlink(target) => {
                let found = self.walk(target, false)?;
                let found = found.filter(|number| !matches!(self.inodes[*number].what, What::Directory(_)));
                let number = found.ok_or_else(|| {
                    let (path, target) = (shown(&entry.path), shown(target));
                    bad(format!(
                        "{path} is another name of {target}, which is no file of the archive's"
                    ))
                })?;
                let directory = self.parent(parents)?;
                self.name(directory, name, number)
            }
            EntryKind::Special => {
                *self.left_out.entry("devices, FIFOs and sockets").or_default() += 1;
                Ok(())
            }
        }
    }

    /// Adds a file of one's own making.
    pub fn make_file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.make(path, mode, content.len() as u64, EntryKind::File, content)
    }

    pub fn make_directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.make(path, mode, 0, EntryKind::Directory, &[])
    }

    pub fn make_symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.make(path, 0o777, 0, EntryKind::Symlink(target.into()), &[])
    }

    fn make(&mut self, path: &str, mode: u32, size: u64, kind: EntryKind, content: &[u8]) -> io::Result<()> {
        let entry = Entry {
            path: path.into(),
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            size,
            at: 0,
            attributes: false,
            kind,
        };
        self.add(&entry, content)
    }

    fn directory(&mut self, parents: &[&[u8]], name: &[u8], inode: Inode) -> io::Result<()> {
        let directory = self.parent(parents)?;
        let there = self.child(directory, name);
        let (layer, style) = (self.layer, self.style);
        match there.map(|number| (number, &mut self.inodes[number])) {
            Some((_, old)) if matches!(old.what, What::Directory(_)) => {
                (old.mode, old.uid, old.gid, old.mtime) = (inode.mode, inode.uid, inode.gid, inode.mtime);
            }
            Some((_, old)) if style == Style::Packages && matches!(old.what, What::Symlink(_)) => {
                let path = [parents, &[name]].concat().join(&b'/');
                let leads = self.find(&path).map(|number| &self.inodes[number].what);
                return match leads {
                    Some(What::Directory(_)) => Ok(()),
                    _ => self.put(directory, name, inode),
                };
            }
            _ => return self.put(directory, name, inode),
        }
        if let What::Directory(names) = &mut self.inodes[directory].what
            && let Some(entry) = names.get_mut(name)
        {
            entry.layer = layer;
        }
        Ok(())
    }

    /// Takes away what lower layers have: of `.wh.NAME` the name, of `.wh..wh..opq` all that is in the directory.
    fn whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> io::Result<()> {
        let directory = match self.walk_parts(parents, true)? {
            Some(number) if matches!(self.inodes[number].what, What::Directory(_)) => number,
            // There is nothing to take away.
            _ => return Ok(()),
        };
        match name {
            b".wh..opq" => {
                self.keep_own(directory, None);
                Ok(())
            }
            // Another mark of that file system's.
            _ if name.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => Err(bad("a whiteout of what is no name")),
            _ => {
                self.keep_own(directory, Some(name));
                Ok(())
            }
        }
    }

    /// Of a directory's names (or of that one) only what this layer itself has put there. Depth is bounded by that of paths.
    fn keep_own(&mut self, directory: usize, only: Option<&[u8]>) -> bool {
        let What::Directory(names) = &self.inodes[directory].what else {
            return false;
        };
        let all: Vec<(Vec<u8>, Name)> = names
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == name.as_slice()))
            .map(|(name, entry)| (name.clone(), *entry))
            .collect();
        for (name, entry) in all {
            let is_directory = matches!(self.inodes[entry.inode].what, What::Directory(_));
            // Below a directory that a lower layer has too, something may be this layer's.
            let holds = is_directory && self.keep_own(entry.inode, None);
            if entry.layer != self.layer
                && !holds
                && let What::Directory(names) = &mut self.inodes[directory].what
            {
                names.remove(&name);
            }
        }
        matches!(&self.inodes[directory].what, What::Directory(names) if !names.is_empty())
    }

    /// The directory at the end of `parents`, made as far as it is missing.
    fn parent(&mut self, parents: &[&[u8]]) -> io::Result<usize> {
        for n in 0..=parents.len() {
            match self.walk_parts(&parents[..n], true)? {
                Some(number) if matches!(self.inodes[number].what, What::Directory(_)) => {}
                Some(_) => return Err(bad(format!("{} is no directory", shown(&parents[..n].join(&b'/'))))),
                None => {
                    let directory = self.parent(&parents[..n - 1])?;
                    if self.child(directory, parents[n - 1]).is_some() {
                        let path = shown(&parents[..n].join(&b'/'));
                        return Err(bad(format!("{path} is a link that leads nowhere")));
                    }
                    let made = Inode {
                        mode: 0o755,
                        uid: 0,
                        gid: 0,
                        mtime: 0,
                        what: What::Directory(BTreeMap::new()),
                    };
                    self.put(directory, parents[n - 1], made)?;
                }
            }
        }
        self.walk_parts(parents, true)?
            .ok_or_else(|| bad("a directory is gone"))
    }

    fn put(&mut self, directory: usize, name: &[u8], inode: Inode) -> io::Result<()> {
        if self.inodes.len() as u64 >= self.limits.entries {
            return Err(bad(format!(
                "there are more than the {} entries that are taken",
                self.limits.entries
            )));
        }
        self.inodes.push(inode);
        self.name(directory, name, self.inodes.len() - 1)
    }

    fn name(&mut self, directory: usize, name: &[u8], inode: usize) -> io::Result<()> {
        let layer = self.layer;
        match &mut self.inodes[directory].what {
            What::Directory(names) => {
                names.insert(name.to_owned(), Name { inode, layer });
                Ok(())
            }
            _ => Err(bad(format!("{} is in what is no directory", shown(name)))),
        }
    }

    fn child(&self, directory: usize, name: &[u8]) -> Option<usize> {
        match &self.inodes[directory].what {
            What::Directory(names) => names.get(name).map(|entry| entry.inode),
            _ => None,
        }
    }

    fn walk(&self, path: &[u8], follow: bool) -> io::Result<Option<usize>> {
        self.walk_parts(&parts(path)?, follow)
    }

    /// What stands at the end of a path, if anything; `follow`: what it leads to, if it is a link. Links lead to other places in
    /// here, as they do for whoever has the tree as its root.
    fn walk_parts(&self, parts: &[&[u8]], follow: bool) -> io::Result<Option<usize>> {
        let mut stack = vec![ROOT];
        let mut todo: Vec<&[u8]> = parts.iter().rev().copied().collect();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let here = *stack.last().unwrap_or(&ROOT);
            match part {
                b"" | b"." => continue,
                b".." => {
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let Some(next) = self.child(here, part) else {
                return Ok(None);
            };
            let What::Symlink(target) = &self.inodes[next].what else {
                if stack.len() > MAX_DEPTH {
                    return Err(bad(format!("{} lies too deep", shown(&parts.join(&b'/')))));
                }
                stack.push(next);
                continue;
            };
            if todo.is_empty() && !follow {
                return Ok(Some(next));
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(bad(format!(
                    "{} leads through too many links",
                    shown(&parts.join(&b'/'))
                )));
            }
            if target.starts_with(b"/") {
                stack.truncate(1);
            }
            todo.extend(target.split(|b| *b == b'/').rev());
        }
        Ok(stack.last().copied())
    }
}

/// The names in an entry's path. What leads upwards is refused: nobody means it well.
fn parts(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    if path.len() >= MAX_PATH || path.contains(&0) {
        return Err(bad(format!("an entry's path has {} bytes, or a NUL", path.len())));
    }
    let parts: Vec<&[u8]> = path
        .split(|b| *b == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    match parts.iter().find(|part| **part == b".." || part.len() > MAX_NAME) {
        Some(_) => Err(bad(format!(
            "an entry leads out of its archive, or has too long a name: {}",
            shown(path)
        ))),
        None => Ok(parts),
    }
}

#[cfg(test)]
mod tests;
