//! Writes a tree as an ext4 image (Documentation/filesystems/ext4/, fs/ext4/ext4.h): extents, no journal, full of exactly what is
//! in it. Written here for the reasons that `erofs` gives; for guests whose kernel knows nothing better.
//!
//! Blocks are given out in one row, around what each group begins with, so that the image is written from its first byte to
//! its last.

use crate::tree::{ROOT, Tree, What};
use sr_common::Digest;
use std::collections::HashMap;
use std::io::{self, Write};

const BLOCK: u64 = 4096;
/// In a block of bits: so many blocks and inodes can a group have.
const BITS: u64 = 8 * BLOCK;
const INODE: u64 = 256;
const ROOT_INODE: u64 = 2;
/// The first that is no reserved one: where a check puts what it finds.
const LOST: u64 = 11;
/// A target shorter than this is kept in its inode.
const SHORT: usize = 60;
/// Extents in an inode, and in a block of them.
const IN_INODE: usize = 4;
const IN_BLOCK: usize = 340;
/// Links of a directory from which on nobody counts.
const MAX_LINKS: u64 = 65_000;

/// What an inode is and where its content lies.
struct Place {
    /// The tree's number; none of the directory that a check asks for.
    of: Option<usize>,
    parent: u64,
    size: u64,
    runs: Vec<Run>,
    /// A block of extents, where they are too many for the inode.
    leaf: Option<u64>,
}

/// Blocks in a row.
#[derive(Clone, Copy)]
struct Run {
    /// The first, of the content and of the image.
    logical: u64,
    physical: u64,
    length: u64,
}

struct Plan {
    /// By inode, from `LOST` on; the root stands for itself.
    root: Place,
    places: Vec<Place>,
    numbers: HashMap<usize, u64>,
    names: HashMap<usize, u64>,
    shape: Shape,
    /// All, and those before the first that was not given out.
    blocks: u64,
    given: u64,
}

/// What every group is like.
#[derive(Clone, Copy)]
struct Shape {
    /// Blocks of each but the last.
    group: u64,
    groups: u64,
    inodes_per_group: u64,
}

impl Shape {
    fn table(self) -> u64 {
        (self.inodes_per_group * INODE).div_ceil(BLOCK)
    }

    /// Blocks of the groups' descriptors, of 32 bytes each.
    fn descriptors(self) -> u64 {
        (self.groups * 32).div_ceil(BLOCK)
    }

    /// Blocks that a group begins with, for the superblock and the descriptors.
    fn super_blocks(self, group: u64) -> u64 {
        let power = |base: u64| {
            std::iter::successors(Some(base), |n| Some(n * base))
                .take_while(|n| *n <= group)
                .any(|n| n == group)
        };
        let has = group <= 1 || [3, 5, 7].into_iter().any(power);
        if has { 1 + self.descriptors() } else { 0 }
    }

    /// Blocks of a group that hold no content: those, two of bits, the table of inodes.
    fn begin(self, group: u64) -> u64 {
        self.super_blocks(group) + 2 + self.table()
    }
}

/// Gives out blocks in a row.
struct Allocator {
    shape: Shape,
    next: u64,
}

impl Allocator {
    /// Up to `most` blocks in a row; `None` where there are no more groups.
    fn take(&mut self, most: u64) -> Option<(u64, u64)> {
        let blocks = self.shape.group;
        let group = self.next / blocks;
        if group >= self.shape.groups {
            return None;
        }
        let first = self.next.max(group * blocks + self.shape.begin(group));
        let end = (group + 1) * blocks;
        if first >= end {
            self.next = end;
            return self.take(most);
        }
        let length = most.min(end - first);
        self.next = first + length;
        Some((first, length))
    }
}

/// Writes the image of a tree.
pub fn write(tree: &Tree, to: &mut impl Write) -> io::Result<()> {
    write_in(tree, BITS, to)
}

/// In groups of so many blocks.
fn write_in(tree: &Tree, group: u64, to: &mut impl Write) -> io::Result<()> {
    let plan = plan(tree, group)?;
    // In the order of their blocks, which is that in which they were given out.
    let all = || std::iter::once(&plan.root).chain(&plan.places);
    let mut contents: Vec<(u64, &Place, Option<Run>)> = Vec::new();
    for place in all() {
        contents.extend(place.runs.iter().map(|run| (run.physical, place, Some(*run))));
        contents.extend(place.leaf.map(|leaf| (leaf, place, None)));
    }
    contents.sort_by_key(|(block, _, _)| *block);
    let mut contents = contents.into_iter().peekable();
    let mut out = Out { to, at: 0 };
    for group in 0..plan.shape.groups {
        begin(tree, &plan, group, &mut out)?;
        let end = ((group + 1) * plan.shape.group).min(plan.blocks);
        while let Some((block, place, run)) = contents.next_if(|(block, _, _)| *block < end) {
            out.fill(block * BLOCK)?;
            match run {
                Some(run) => content(tree, &plan, place, run, &mut out)?,
                None => out.write_all(&extents(&place.runs, IN_BLOCK))?,
            }
        }
        out.fill(end * BLOCK)?;
    }
    Ok(())
}

fn plan(tree: &Tree, group: u64) -> io::Result<Plan> {
    let place = |of, parent, size| Place {
        of,
        parent,
        size,
        runs: Vec::new(),
        leaf: None,
    };
    let mut plan = Plan {
        root: place(Some(ROOT), ROOT_INODE, 0),
        places: vec![place(None, ROOT_INODE, BLOCK)],
        numbers: HashMap::from([(ROOT, ROOT_INODE)]),
        names: HashMap::new(),
        shape: Shape {
            group,
            groups: 0,
            inodes_per_group: 0,
        },
        blocks: 0,
        given: 0,
    };
    plan.root.size = directory_size(tree, ROOT)?;
    let mut todo: Vec<(usize, u64)> = vec![(ROOT, ROOT_INODE)];
    while let Some((directory, number)) = todo.pop() {
        let mut below = Vec::new();
        for (_, inode) in tree.names(directory) {
            *plan.names.entry(inode).or_default() += 1;
            if plan.numbers.contains_key(&inode) {
                continue;
            }
            let own = LOST + plan.places.len() as u64;
            let size = match &tree.inode(inode).what {
                What::Directory(_) => {
                    below.push((inode, own));
                    directory_size(tree, inode)?
                }
                What::File(_, length) => *length,
                What::Symlink(target) => target.len() as u64,
            };
            plan.numbers.insert(inode, own);
            plan.places.push(place(Some(inode), number, size));
        }
        todo.extend(below.into_iter().rev());
    }
    let inodes = LOST - 1 + plan.places.len() as u64;
    let wanted: u64 = plan
        .places
        .iter()
        .chain([&plan.root])
        .map(|place| blocks(tree, place))
        .sum();
    // As few groups as hold it all.
    let mut groups = wanted.div_ceil(group).max(inodes.div_ceil(BITS)).max(1);
    while !place_in(tree, &mut plan, groups, inodes) {
        groups += 1;
    }
    match u32::try_from(plan.blocks) {
        Ok(_) => Ok(plan),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "more than such an ext4 image can hold",
        )),
    }
}

/// Blocks of its content.
fn blocks(tree: &Tree, place: &Place) -> u64 {
    let short = |number: usize| matches!(&tree.inode(number).what, What::Symlink(target) if target.len() < SHORT);
    match place.of {
        Some(number) if short(number) => 0,
        _ => place.size.div_ceil(BLOCK),
    }
}

/// Gives each content its blocks; `false` where so many groups are too few.
fn place_in(tree: &Tree, plan: &mut Plan, groups: u64, inodes: u64) -> bool {
    // A table of inodes fills its blocks.
    let inodes_per_group = inodes.div_ceil(groups).next_multiple_of(BLOCK / INODE);
    let shape = Shape {
        group: plan.shape.group,
        groups,
        inodes_per_group,
    };
    if inodes_per_group > BITS || shape.begin(0) >= shape.group {
        return false;
    }
    let mut allocator = Allocator { shape, next: 0 };
    for place in std::iter::once(&mut plan.root).chain(&mut plan.places) {
        (place.runs, place.leaf) = (Vec::new(), None);
        let (mut logical, all) = (0, blocks(tree, place));
        while logical < all {
            let Some((physical, length)) = allocator.take(all - logical) else {
                return false;
            };
            place.runs.push(Run {
                logical,
                physical,
                length,
            });
            logical += length;
        }
        if place.runs.len() > IN_INODE {
            let Some((leaf, _)) = allocator.take(1) else {
                return false;
            };
            place.leaf = Some(leaf);
        }
        if place.runs.len() > IN_BLOCK {
            return false;
        }
    }
    plan.shape = shape;
    plan.given = allocator.next;
    // Also a last group without content has its beginning.
    let last = (groups - 1) * shape.group + shape.begin(groups - 1);
    plan.blocks = allocator.next.max(last);
    true
}

/// A name as it stands in a directory: its length with what fills it up.
fn length(name: &[u8]) -> u64 {
    (8 + name.len() as u64).next_multiple_of(4)
}

/// A directory's names: `.` and `..` first.
fn names<'a>(tree: &'a Tree, inode: usize) -> Vec<&'a [u8]> {
    let lost: &[&'a [u8]] = if adds_lost(tree, inode) { &[b"lost+found"] } else { &[] };
    let own = tree.names(inode).map(|(name, _)| name);
    [&b"."[..], b".."]
        .into_iter()
        .chain(lost.iter().copied())
        .chain(own)
        .collect()
}

/// The root gets the directory that a check asks for, unless the tree has what is called so.
fn adds_lost(tree: &Tree, inode: usize) -> bool {
    inode == ROOT && tree.names(ROOT).all(|(name, _)| name != b"lost+found")
}

fn directory_size(tree: &Tree, inode: usize) -> io::Result<u64> {
    let (mut blocks, mut used) = (1, 0);
    for name in names(tree, inode) {
        if used + length(name) > BLOCK {
            (blocks, used) = (blocks + 1, 0);
        }
        used += length(name);
    }
    Ok(blocks * BLOCK)
}

fn directory(tree: &Tree, plan: &Plan, place: &Place) -> Vec<u8> {
    let own = place.of.and_then(|of| plan.numbers.get(&of)).copied().unwrap_or(LOST);
    let mut entries: Vec<(&[u8], u64, u8)> = vec![(b".", own, 2), (b"..", place.parent, 2)];
    if let Some(of) = place.of {
        if adds_lost(tree, of) {
            entries.push((b"lost+found", LOST, 2));
        }
        for (name, inode) in tree.names(of) {
            let kind = match tree.inode(inode).what {
                What::File(..) => 1,
                What::Directory(_) => 2,
                What::Symlink(_) => 7,
            };
            entries.push((name, plan.numbers.get(&inode).copied().unwrap_or_default(), kind));
        }
    }
    let mut bytes: Vec<u8> = Vec::new();
    let mut last = 0;
    // What is left of a block belongs to its last entry.
    let stretch = |bytes: &mut Vec<u8>, last: usize| {
        let end = bytes.len().next_multiple_of(BLOCK as usize);
        bytes.resize(end, 0);
        let whole = u16::try_from(end - last).unwrap_or_default();
        bytes[last + 4..last + 6].copy_from_slice(&whole.to_le_bytes());
    };
    for (name, inode, kind) in entries {
        let used = bytes.len() as u64 % BLOCK;
        if used > 0 && used + length(name) > BLOCK {
            stretch(&mut bytes, last);
        }
        last = bytes.len();
        let length = length(name);
        bytes.extend(u32::try_from(inode).unwrap_or_default().to_le_bytes());
        bytes.extend(u16::try_from(length).unwrap_or_default().to_le_bytes());
        bytes.extend([u8::try_from(name.len()).unwrap_or_default(), kind]);
        bytes.extend(name);
        bytes.resize(last + length as usize, 0);
    }
    stretch(&mut bytes, last);
    bytes
}

/// The blocks of a run.
fn content(tree: &Tree, plan: &Plan, place: &Place, run: Run, out: &mut Out<impl Write>) -> io::Result<()> {
    let (from, to) = (
        run.logical * BLOCK,
        ((run.logical + run.length) * BLOCK).min(place.size),
    );
    let index = |n: u64| usize::try_from(n).map_err(io::Error::other);
    match place.of.map(|of| &tree.inode(of).what) {
        Some(What::File(offset, _)) => tree.copy(offset + from, to - from, out),
        Some(What::Symlink(target)) => out.write_all(target),
        Some(What::Directory(_)) | None => out.write_all(&directory(tree, plan, place)[index(from)?..index(to)?]),
    }
}

/// What a group begins with.
fn begin(tree: &Tree, plan: &Plan, group: u64, out: &mut Out<impl Write>) -> io::Result<()> {
    let shape = plan.shape;
    if shape.super_blocks(group) > 0 {
        let mut block = vec![0; BLOCK as usize];
        let at = if group == 0 { 1024 } else { 0 };
        block[at..at + 1024].copy_from_slice(&superblock(plan, group));
        out.write_all(&block)?;
        let mut table = Vec::new();
        for group in 0..shape.groups {
            table.extend(descriptor(tree, plan, group));
        }
        out.write_all(&table)?;
        out.fill((group * shape.group + shape.super_blocks(group)) * BLOCK)?;
    }
    let (blocks, inodes) = (used_blocks(plan, group), used_inodes(plan, group));
    out.write_all(&bits(blocks, blocks_of(plan, group)))?;
    out.write_all(&bits(inodes, shape.inodes_per_group))?;
    let first = group * shape.inodes_per_group + 1;
    let mut empty = Vec::with_capacity(INODE as usize);
    for number in first..first + shape.inodes_per_group {
        let place = match number {
            ROOT_INODE => Some(&plan.root),
            number => number
                .checked_sub(LOST)
                .and_then(|n| plan.places.get(usize::try_from(n).ok()?)),
        };
        empty.clear();
        match place {
            Some(place) => out.write_all(&inode(tree, plan, place)?)?,
            None => {
                empty.resize(INODE as usize, 0);
                out.write_all(&empty)?;
            }
        }
    }
    out.fill((group * shape.group + shape.begin(group)) * BLOCK)
}

/// Blocks of a group that are in use: its first ones, since they are given out in a row.
fn used_blocks(plan: &Plan, group: u64) -> u64 {
    let given = plan.given.saturating_sub(group * plan.shape.group);
    given
        .clamp(plan.shape.begin(group), plan.shape.group)
        .min(blocks_of(plan, group))
}

/// Blocks that a group has.
fn blocks_of(plan: &Plan, group: u64) -> u64 {
    (plan.blocks - group * plan.shape.group).min(plan.shape.group)
}

fn used_inodes(plan: &Plan, group: u64) -> u64 {
    let all = LOST - 1 + plan.places.len() as u64;
    all.saturating_sub(group * plan.shape.inodes_per_group)
        .min(plan.shape.inodes_per_group)
}

/// A block of bits: `used` are in use, and what is beyond `there` does not exist, which looks the same.
fn bits(used: u64, there: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK as usize];
    for bit in (0..used).chain(there..BITS) {
        block[(bit / 8) as usize] |= 1 << (bit % 8);
    }
    block
}

fn descriptor(tree: &Tree, plan: &Plan, group: u64) -> [u8; 32] {
    let shape = plan.shape;
    let base = group * shape.group + shape.super_blocks(group);
    let first = group * shape.inodes_per_group + 1;
    let is_directory = |number: u64| match number {
        ROOT_INODE | LOST => true,
        number => {
            let place = number
                .checked_sub(LOST)
                .and_then(|n| plan.places.get(usize::try_from(n).ok()?));
            let of = place.and_then(|place| place.of);
            of.is_some_and(|of| matches!(tree.inode(of).what, What::Directory(_)))
        }
    };
    let directories = (first..first + shape.inodes_per_group)
        .filter(|number| is_directory(*number))
        .count();
    let mut bytes = [0; 32];
    let mut put =
        |at: usize, value: u64, length: usize| bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    put(0, base, 4);
    put(4, base + 1, 4);
    put(8, base + 2, 4);
    put(12, blocks_of(plan, group) - used_blocks(plan, group), 2);
    put(14, shape.inodes_per_group - used_inodes(plan, group), 2);
    put(16, directories as u64, 2);
    bytes
}

fn superblock(plan: &Plan, group: u64) -> [u8; 1024] {
    let shape = plan.shape;
    let all = shape.groups * shape.inodes_per_group;
    let used: u64 = (0..shape.groups).map(|group| used_inodes(plan, group)).sum();
    let given: u64 = (0..shape.groups).map(|group| used_blocks(plan, group)).sum();
    let mut bytes = [0; 1024];
    let mut put =
        |at: usize, value: u64, length: usize| bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    put(0, all, 4);
    put(4, plan.blocks, 4);
    put(12, plan.blocks - given, 4);
    put(16, all - used, 4);
    // Blocks of 1024 times 2 to this power, and clusters alike.
    put(24, 2, 4);
    put(28, 2, 4);
    put(32, shape.group, 4);
    put(36, shape.group, 4);
    put(40, shape.inodes_per_group, 4);
    // Never checked for its age.
    put(54, 0xffff, 2);
    put(56, 0xef53, 2);
    // Clean, and errors do not stop anything.
    put(58, 1, 2);
    put(60, 1, 2);
    // Inodes of any size.
    put(76, 1, 4);
    put(84, LOST, 4);
    put(88, INODE, 2);
    put(90, group, 2);
    // Kinds in directories; extents.
    put(96, 0x2 | 0x40, 4);
    // Few superblocks; large files; directories with many links; inodes with more than 128 bytes.
    put(100, 0x1 | 0x2 | 0x20 | 0x40, 4);
    put(348, 32, 2);
    put(350, 32, 2);
    // The same for all: images are told apart by their digests.
    bytes[104..120].copy_from_slice(&Digest::of(b"safe-run ext4").as_bytes()[..16]);
    bytes
}

fn inode(tree: &Tree, plan: &Plan, place: &Place) -> io::Result<[u8; INODE as usize]> {
    let of = place.of.map(|of| tree.inode(of));
    let (mode, uid, gid, mtime) = of.map_or((0o700, 0, 0, 0), |of| (of.mode & 0o7777, of.uid, of.gid, of.mtime));
    let named = place.of.and_then(|of| plan.names.get(&of)).copied().unwrap_or(1);
    let (kind, links) = match of.map(|of| &of.what) {
        Some(What::File(..)) => (0o100_000, named),
        Some(What::Symlink(_)) => (0o120_000, named),
        Some(What::Directory(_)) | None => {
            let is_directory = |(_, number): &(&[u8], usize)| matches!(tree.inode(*number).what, What::Directory(_));
            let below = place
                .of
                .map_or(0, |of| tree.names(of).filter(is_directory).count() as u64);
            let lost = u64::from(place.of.is_some_and(|of| adds_lost(tree, of)));
            let all = below + lost + 2;
            (0o040_000, if all > MAX_LINKS { 1 } else { all })
        }
    };
    if links > MAX_LINKS {
        return Err(io::Error::other("a file has more names than ext4 counts"));
    }
    // Seconds that fit 32 bits with their sign, and two bits more.
    let time = mtime.min((1 << 31) + (3 << 32) - 1);
    let low = time & 0xffff_ffff;
    let more = (time + (1 << 31)) >> 32;
    let mut bytes = [0; INODE as usize];
    let mut put =
        |at: usize, value: u64, length: usize| bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    put(0, u64::from(kind | mode), 2);
    put(2, u64::from(uid) & 0xffff, 2);
    put(4, place.size & 0xffff_ffff, 4);
    for (at, extra) in [(8, 140), (12, 132), (16, 136), (144, 148)] {
        put(at, low, 4);
        put(extra, more, 4);
    }
    put(24, u64::from(gid) & 0xffff, 2);
    put(26, links, 2);
    let blocks: u64 = place.runs.iter().map(|run| run.length).sum::<u64>() + u64::from(place.leaf.is_some());
    let sectors = blocks * (BLOCK / 512);
    put(28, sectors & 0xffff_ffff, 4);
    put(116, sectors >> 32, 2);
    put(108, place.size >> 32, 4);
    put(120, u64::from(uid) >> 16, 2);
    put(122, u64::from(gid) >> 16, 2);
    put(128, 32, 2);
    match of.map(|of| &of.what) {
        Some(What::Symlink(target)) if target.len() < SHORT => bytes[40..40 + target.len()].copy_from_slice(target),
        _ => {
            put(32, 0x8_0000, 4);
            let root = match place.leaf {
                None => extents(&place.runs, IN_INODE),
                Some(leaf) => index(leaf),
            };
            bytes[40..40 + root.len()].copy_from_slice(&root);
        }
    }
    Ok(bytes)
}

/// Where `most` extents have room: these.
fn extents(runs: &[Run], most: usize) -> Vec<u8> {
    let mut bytes = header(runs.len(), most, 0);
    for run in runs {
        bytes.extend(u32::try_from(run.logical).unwrap_or_default().to_le_bytes());
        bytes.extend(u16::try_from(run.length).unwrap_or_default().to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(u32::try_from(run.physical).unwrap_or_default().to_le_bytes());
    }
    bytes.resize(12 * (most + 1), 0);
    bytes
}

/// In an inode: they are all in that block.
fn index(leaf: u64) -> Vec<u8> {
    let mut bytes = header(1, IN_INODE, 1);
    bytes.extend([0; 4]);
    bytes.extend(u32::try_from(leaf).unwrap_or_default().to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn header(entries: usize, most: usize, depth: u16) -> Vec<u8> {
    let number = |n: usize| u16::try_from(n).unwrap_or_default();
    let fields = [0xf30a, number(entries), number(most), depth, 0, 0];
    fields.into_iter().flat_map(u16::to_le_bytes).collect()
}

struct Out<'a, W> {
    to: &'a mut W,
    at: u64,
}

impl<W: Write> Out<'_, W> {
    /// Zeroes up to a place.
    fn fill(&mut self, to: u64) -> io::Result<()> {
        while self.at < to {
            let n = usize::try_from((to - self.at).min(BLOCK)).unwrap_or_default();
            self.write_all(&[0; BLOCK as usize][..n])?;
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
    use std::path::Path;
    use std::process::Command;

    fn checked(image: &Path) {
        let output = Command::new("/usr/sbin/e2fsck").arg("-fn").arg(image).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn contents_that_lie_in_many_groups_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(tempfile::tempfile().unwrap(), Style::Layers, Limits::default());
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        tree.make_file("many-groups", 0o644, &content).unwrap();
        tree.make_file("four-groups", 0o644, &content[..3_400_000]).unwrap();
        for n in 0..3000 {
            tree.make_symlink(&format!("links/{n}"), "short").unwrap();
        }
        let mut image = Vec::new();
        write_in(&tree, 256, &mut image).unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, &image).unwrap();
        checked(&path);
        for (name, length) in [("many-groups", content.len()), ("four-groups", 3_400_000)] {
            let to = dir.path().join(name);
            let ask = format!("dump /{name} {}", to.display());
            assert!(
                Command::new("/usr/sbin/debugfs")
                    .args(["-R", &ask])
                    .arg(&path)
                    .output()
                    .unwrap()
                    .status
                    .success()
            );
            assert!(std::fs::read(&to).unwrap() == content[..length], "{name}");
        }
    }

    #[test]
    fn more_inodes_than_a_group_can_have_make_groups() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(tempfile::tempfile().unwrap(), Style::Layers, Limits::default());
        for n in 0..33_000 {
            tree.make_symlink(&format!("{}/{n}", n % 100), "short").unwrap();
        }
        let mut image = Vec::new();
        write(&tree, &mut image).unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, &image).unwrap();
        checked(&path);
    }

    #[test]
    fn a_tree_with_nothing_in_it_is_an_image() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(tempfile::tempfile().unwrap(), Style::Layers, Limits::default());
        for lost in [false, true] {
            if lost {
                tree.make_file("lost+found", 0o644, b"its own").unwrap();
            }
            let mut image = Vec::new();
            write(&tree, &mut image).unwrap();
            let path = dir.path().join("image");
            std::fs::write(&path, &image).unwrap();
            if !lost {
                checked(&path);
            }
        }
    }
}
