//! A reader of ext4 images that knows nothing of the writer: of those with extents, whose groups hold their own tables.

use super::Held;
use std::collections::BTreeMap;

const BLOCK: usize = 4096;

fn number(image: &[u8], at: usize, length: usize) -> Result<u64, String> {
    let bytes = at.checked_add(length).and_then(|end| image.get(at..end));
    let bytes = bytes.ok_or_else(|| format!("there is nothing at {at}"))?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

struct Image<'a> {
    bytes: &'a [u8],
    inodes_per_group: u64,
    /// Every block that is somebody's content.
    owned: BTreeMap<u64, u64>,
}

struct Inode {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
    links: u64,
    content: Vec<u8>,
}

impl Image<'_> {
    fn inode(&mut self, number_of: u64) -> Result<Inode, String> {
        let (group, place) = (
            (number_of - 1) / self.inodes_per_group,
            (number_of - 1) % self.inodes_per_group,
        );
        // Descriptors of 32 bytes follow the block of the superblock.
        let table = number(self.bytes, BLOCK + index(group) * 32 + 8, 4)?;
        let at = index(table) * BLOCK + index(place) * 256;
        let bytes = self.bytes;
        let field = |offset: usize, length: usize| number(bytes, at + offset, length);
        let size = index(field(4, 4)? | field(108, 4)? << 32);
        let mode = u32::try_from(field(0, 2)?).unwrap_or_default();
        let small = |low: u64, high: u64| u32::try_from(low | high << 16).unwrap_or_default();
        let mut content = Vec::new();
        if mode >> 12 == 0o12 && size < 60 {
            content.extend(bytes.get(at + 40..at + 40 + size).ok_or("a link outside")?);
        } else {
            let mut blocks = vec![0; size.div_ceil(BLOCK)];
            self.extents(at + 40, number_of, &mut blocks)?;
            if blocks.contains(&0) {
                return Err(format!("inode {number_of} has a hole"));
            }
            for block in blocks {
                let start = index(block) * BLOCK;
                content.extend(bytes.get(start..start + BLOCK).ok_or("content outside")?);
            }
            content.truncate(size);
        }
        let low = field(16, 4)?;
        let seconds = i64::from(u32::try_from(low).unwrap_or_default().cast_signed());
        let more = i64::try_from(field(136, 4)? & 3).unwrap_or_default();
        Ok(Inode {
            mode,
            uid: small(field(2, 2)?, field(120, 2)?),
            gid: small(field(24, 2)?, field(122, 2)?),
            mtime: u64::try_from(seconds + (more << 32)).map_err(|_| "a time before 1970")?,
            links: field(26, 2)?,
            content,
        })
    }

    fn extents(&mut self, at: usize, owner: u64, blocks: &mut [u64]) -> Result<(), String> {
        let bytes = self.bytes;
        let field = |offset: usize, length: usize| number(bytes, at + offset, length);
        if field(0, 2)? != 0xf30a || field(2, 2)? > field(4, 2)? {
            return Err("no extents".into());
        }
        for n in 1..=index(field(2, 2)?) {
            let entry = n * 12;
            if field(6, 2)? > 0 {
                self.extents(index(field(entry + 4, 4)?) * BLOCK, owner, blocks)?;
                continue;
            }
            let (logical, length, physical) = (field(entry, 4)?, field(entry + 4, 2)?, field(entry + 8, 4)?);
            for n in 0..length {
                let block = blocks.get_mut(index(logical + n)).ok_or("an extent beyond the end")?;
                *block = physical + n;
                if self
                    .owned
                    .insert(physical + n, owner)
                    .is_some_and(|other| other != owner)
                {
                    return Err(format!("block {} is two inodes'", physical + n));
                }
            }
        }
        Ok(())
    }
}

/// The entries of a directory, each of which begins where the one before ends.
fn names(content: &[u8]) -> Result<Vec<(Vec<u8>, u64, u8)>, String> {
    let mut all = Vec::new();
    for block in content.chunks(BLOCK) {
        let mut at = 0;
        while at < block.len() {
            let length = index(number(block, at + 4, 2)?);
            let name = index(number(block, at + 6, 1)?);
            if length < 8 + name || !length.is_multiple_of(4) || at + length > block.len() {
                return Err(format!("an entry of {length} bytes at {at}"));
            }
            let kind = u8::try_from(number(block, at + 7, 1)?).unwrap_or_default();
            all.push((block[at + 8..at + 8 + name].to_vec(), number(block, at, 4)?, kind));
            at += length;
        }
    }
    Ok(all)
}

/// All that an image holds, without the empty directory that a check asks for.
pub fn read(bytes: &[u8]) -> Result<Held, String> {
    let field = |at: usize, length: usize| number(bytes, 1024 + at, length);
    if field(56, 2)? != 0xef53 || field(24, 4)? != 2 || field(4, 4)? * BLOCK as u64 != bytes.len() as u64 {
        return Err("no superblock of this form".into());
    }
    let mut image = Image {
        bytes,
        inodes_per_group: field(40, 4)?,
        owned: BTreeMap::new(),
    };
    let mut held = Held::new();
    let mut seen: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut todo = vec![(Vec::new(), 2, 2, 2u8)];
    while let Some((path, own, parent, kind)) = todo.pop() {
        let inode = image.inode(own)?;
        let (letter, told) = match inode.mode >> 12 {
            0o04 => ('d', 2),
            0o10 => ('f', 1),
            0o12 => ('l', 7),
            other => return Err(format!("an inode of type {other:o}")),
        };
        if told != kind {
            return Err(format!("{path:?} is called {kind} and is {told}"));
        }
        seen.entry(own).or_insert((0, inode.links)).0 += 1;
        let mut content = inode.content;
        if letter == 'd' {
            let names = names(&content)?;
            let first: Vec<(&[u8], u64)> = names
                .iter()
                .take(2)
                .map(|(name, nid, _)| (name.as_slice(), *nid))
                .collect();
            if first != [(&b"."[..], own), (b"..", parent)] {
                return Err(format!("{path:?} leads elsewhere by `.` or `..`"));
            }
            let below = names.iter().filter(|(_, _, kind)| *kind == 2).count() as u64;
            if inode.links != below {
                return Err(format!("{path:?} has {} links and {below} directories", inode.links));
            }
            for (name, inode, kind) in names.into_iter().skip(2) {
                todo.push(([path.as_slice(), b"/", &name].concat(), inode, own, kind));
            }
            content = Vec::new();
        }
        if path != b"/lost+found" {
            held.insert(
                path,
                (letter, inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime, content),
            );
        }
        if held.len() > 10_000 {
            return Err("an image that does not end".into());
        }
    }
    for (number, (names, links)) in seen {
        let inode = image.inode(number)?;
        if inode.mode >> 12 != 0o04 && names != links {
            return Err(format!("inode {number} has {names} names and says {links}"));
        }
    }
    Ok(held)
}
