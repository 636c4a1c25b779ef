//! Writes a tree as an erofs image (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h): read-only, uncompressed. Written
//! here, and not by a program, so that owners need no root, no name of the tree is ever a path of the host's, and the same
//! tree gives the same bytes whatever is installed.
//!
//! First comes the superblock, then the inodes, each with the end of its content behind it if both fit a block, then
//! what fills whole blocks.

use crate::tree::{ROOT, Tree, What};
use std::collections::HashMap;
use std::io::{self, Write};

const BLOCK: u64 = 4096;
/// Inodes are numbered by their place, in units of this.
const SLOT: u64 = 32;
/// The longer form of an inode: all owners, all times.
const INODE: u64 = 64;
const DIRENT: u64 = 12;
/// Where the superblock is, and where it ends.
const SUPER: usize = 1024;
const SUPER_END: u64 = 1152;
const PLAIN: u16 = 0;
const INLINE: u16 = 2;

/// Where an inode and its content come to lie.
struct Place {
    /// The tree's number.
    inode: usize,
    parent: usize,
    /// From the image's beginning.
    at: u64,
    size: u64,
    layout: u16,
    /// The first block that is its own.
    block: u64,
}

impl Place {
    fn number(&self) -> u64 {
        self.at / SLOT
    }

    /// Bytes behind the inode.
    fn inline(&self) -> u64 {
        if self.layout == INLINE { self.size % BLOCK } else { 0 }
    }

    /// Blocks of its own.
    fn blocks(&self) -> u64 {
        (self.size - self.inline()).div_ceil(BLOCK)
    }
}

struct Plan {
    /// In the order in which they are written: the root first.
    places: Vec<Place>,
    /// Index into `places` by the tree's number.
    by_inode: HashMap<usize, usize>,
    /// Names of each.
    links: HashMap<usize, u32>,
    /// Where the image ends.
    end: u64,
}

/// Writes the image of a tree.
pub fn write(tree: &Tree, to: &mut impl Write) -> io::Result<()> {
    let plan = plan(tree)?;
    let mut out = Out { to, at: 0 };
    out.put(&superblock(&plan)?)?;
    for place in &plan.places {
        out.fill(place.at)?;
        out.put(&inode(tree, &plan, place)?)?;
        content(tree, &plan, place, place.size - place.inline(), place.size, &mut out)?;
    }
    for place in plan.places.iter().filter(|place| place.blocks() > 0) {
        out.fill(place.block * BLOCK)?;
        content(tree, &plan, place, 0, place.size - place.inline(), &mut out)?;
    }
    out.fill(plan.end)
}

fn plan(tree: &Tree) -> io::Result<Plan> {
    let mut plan = Plan {
        places: Vec::new(),
        by_inode: HashMap::new(),
        links: HashMap::new(),
        end: 0,
    };
    // A directory before what is in it, so the root's number is small: the superblock has two bytes for it.
    let mut todo = vec![(ROOT, ROOT)];
    // And none has the number 0, which readers take for no inode at all.
    let mut at = SUPER_END;
    while let Some((inode, parent)) = todo.pop() {
        *plan.links.entry(inode).or_default() += 1;
        if plan.by_inode.contains_key(&inode) {
            continue;
        }
        let size = match &tree.inode(inode).what {
            What::Directory(_) => directory_size(tree, inode),
            What::File(_, length) => *length,
            What::Symlink(target) => target.len() as u64,
        };
        let tail = size % BLOCK;
        let inline = tail > 0 && INODE + tail <= BLOCK;
        let length = INODE + if inline { tail } else { 0 };
        // Neither an inode nor what is behind it crosses a block's end.
        if at % BLOCK + length > BLOCK {
            at = at.next_multiple_of(BLOCK);
        }
        plan.by_inode.insert(inode, plan.places.len());
        plan.places.push(Place {
            inode,
            parent,
            at,
            size,
            layout: if inline { INLINE } else { PLAIN },
            block: 0,
        });
        at = (at + length).next_multiple_of(SLOT);
        let below: Vec<usize> = tree.names(inode).map(|(_, number)| number).collect();
        todo.extend(below.into_iter().rev().map(|number| (number, inode)));
    }
    let mut block = at.div_ceil(BLOCK);
    for place in &mut plan.places {
        if place.blocks() > 0 {
            place.block = block;
            block += place.blocks();
        }
    }
    plan.end = block * BLOCK;
    // Fields for blocks have four bytes.
    match u32::try_from(block) {
        Ok(_) => Ok(plan),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "more than an erofs image can hold",
        )),
    }
}

/// The names of a directory in the order in which they are looked for: `.` and `..` among them.
fn sorted(tree: &Tree, inode: usize, parent: usize) -> Vec<(&[u8], usize)> {
    let mut names: Vec<(&[u8], usize)> = tree.names(inode).collect();
    names.extend([(&b"."[..], inode), (&b".."[..], parent)]);
    names.sort();
    names
}

/// How many of these names a block takes, and their bytes.
fn fit(names: &[(&[u8], usize)]) -> (usize, u64) {
    let mut bytes = 0;
    for (n, (name, _)) in names.iter().enumerate() {
        let more = bytes + DIRENT + name.len() as u64;
        if more > BLOCK {
            return (n, bytes);
        }
        bytes = more;
    }
    (names.len(), bytes)
}

fn directory_size(tree: &Tree, inode: usize) -> u64 {
    // Whatever the parent's number is: it takes no room of its own.
    let names = sorted(tree, inode, ROOT);
    let (mut rest, mut size) = (names.as_slice(), 0);
    while !rest.is_empty() {
        let (n, bytes) = fit(rest);
        rest = &rest[n..];
        size += if rest.is_empty() { bytes } else { BLOCK };
    }
    size
}

/// Blocks of fixed entries, the names of which follow in the same block.
fn directory(tree: &Tree, plan: &Plan, place: &Place) -> Vec<u8> {
    let names = sorted(tree, place.inode, place.parent);
    let mut rest = names.as_slice();
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let start = bytes.len();
        let (n, _) = fit(rest);
        let mut offset = DIRENT as usize * n;
        for (name, inode) in &rest[..n] {
            let number = plan.by_inode.get(inode).map_or(0, |index| plan.places[*index].number());
            let kind = match tree.inode(*inode).what {
                What::File(..) => 1,
                What::Directory(_) => 2,
                What::Symlink(_) => 7,
            };
            bytes.extend(number.to_le_bytes());
            bytes.extend(u16::try_from(offset).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend([kind, 0]);
            offset += name.len();
        }
        rest[..n].iter().for_each(|(name, _)| bytes.extend(*name));
        rest = &rest[n..];
        if !rest.is_empty() {
            bytes.resize(start + BLOCK as usize, 0);
        }
    }
    bytes
}

fn superblock(plan: &Plan) -> io::Result<Vec<u8>> {
    let mut block = vec![0; SUPER_END as usize];
    let mut put = |at: usize, bytes: &[u8]| block[SUPER + at..SUPER + at + bytes.len()].copy_from_slice(bytes);
    let number = |value: u64| u32::try_from(value).map_err(io::Error::other);
    put(0, &0xe0f5_e1e2u32.to_le_bytes());
    // Times are those of the last change of the content.
    put(8, &2u32.to_le_bytes());
    // The block's size is 2 to this power.
    put(12, &[12]);
    put(
        14,
        &u16::try_from(plan.places[0].number())
            .map_err(io::Error::other)?
            .to_le_bytes(),
    );
    put(16, &(plan.places.len() as u64).to_le_bytes());
    put(36, &number(plan.end / BLOCK)?.to_le_bytes());
    // Inodes are counted from block 0, as the zeroes say.
    Ok(block)
}

fn inode(tree: &Tree, plan: &Plan, place: &Place) -> io::Result<[u8; INODE as usize]> {
    let of = tree.inode(place.inode);
    let (kind, links) = match of.what {
        What::File(..) => (0o100_000, plan.links.get(&place.inode).copied().unwrap_or(1)),
        What::Symlink(_) => (0o120_000, plan.links.get(&place.inode).copied().unwrap_or(1)),
        What::Directory(_) => {
            let is_directory = |(_, number): &(&[u8], usize)| matches!(tree.inode(*number).what, What::Directory(_));
            let below = tree.names(place.inode).filter(is_directory).count();
            (0o040_000, u32::try_from(below + 2).map_err(io::Error::other)?)
        }
    };
    let mut bytes = [0; INODE as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let mode = u16::try_from(kind | (of.mode & 0o7777)).map_err(io::Error::other)?;
    let block = u32::try_from(place.block).map_err(io::Error::other)?;
    let serial = plan.by_inode.get(&place.inode).map_or(0, |index| index + 1);
    put(0, &(1 | place.layout << 1).to_le_bytes());
    put(4, &mode.to_le_bytes());
    put(8, &place.size.to_le_bytes());
    put(16, &block.to_le_bytes());
    put(20, &u32::try_from(serial).map_err(io::Error::other)?.to_le_bytes());
    put(24, &of.uid.to_le_bytes());
    put(28, &of.gid.to_le_bytes());
    put(32, &of.mtime.to_le_bytes());
    put(44, &links.to_le_bytes());
    Ok(bytes)
}

/// Bytes `from` to `to` of what is in it.
fn content(tree: &Tree, plan: &Plan, place: &Place, from: u64, to: u64, out: &mut Out<impl Write>) -> io::Result<()> {
    if from == to {
        return Ok(());
    }
    let index = |n: u64| usize::try_from(n).map_err(io::Error::other);
    match &tree.inode(place.inode).what {
        What::File(offset, _) => {
            tree.copy(offset + from, to - from, out)?;
            Ok(())
        }
        What::Symlink(target) => out.put(&target[index(from)?..index(to)?]),
        What::Directory(_) => out.put(&directory(tree, plan, place)[index(from)?..index(to)?]),
    }
}

struct Out<'a, W> {
    to: &'a mut W,
    at: u64,
}

impl<W: Write> Out<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    /// Zeroes up to a place.
    fn fill(&mut self, to: u64) -> io::Result<()> {
        while self.at < to {
            let n = usize::try_from((to - self.at).min(BLOCK)).unwrap_or_default();
            self.put(&[0; BLOCK as usize][..n])?;
        }
        Ok(())
    }
}

impl<W: Write> Write for Out<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.at += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Limits, Style};

    #[test]
    fn the_root_was_not_listed_in_itself_where_its_number_was_zero() {
        let mut tree = Tree::new(tempfile::tempfile().unwrap(), Style::Layers, Limits::default());
        tree.make_file("f", 0o644, b"content").unwrap();
        let mut image = Vec::new();
        write(&tree, &mut image).unwrap();
        assert_eq!(image.len(), BLOCK as usize);
        let root = usize::from(u16::from_le_bytes([image[SUPER + 14], image[SUPER + 15]]));
        assert_eq!(root, 36, "the first place behind the superblock");
        // Behind the root's inode: `.`, `..` and the file, by number, place of the name, kind.
        let entries = &image[root * SLOT as usize + INODE as usize..];
        let entries: Vec<_> = entries[..36]
            .chunks(12)
            .map(|entry| (entry[0], entry[8], entry[10]))
            .collect();
        assert_eq!(entries, [(36, 36, 2), (36, 37, 2), (40, 39, 1)]);
    }
}
