//! A reader of erofs images that knows nothing of the writer: by the layout that the kernel's documentation gives.

use super::Held;

const BLOCK: usize = 4096;

fn number(image: &[u8], at: usize, length: usize) -> Result<u64, String> {
    let bytes = image
        .get(at..at + length)
        .ok_or_else(|| format!("the image ends before {at}"))?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// An inode of the longer form, and its content.
struct Inode {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
    links: u64,
    content: Vec<u8>,
}

fn inode(image: &[u8], nid: u64) -> Result<Inode, String> {
    let meta = number(image, 1024 + 40, 4)?;
    let at = index(meta * BLOCK as u64 + nid * 32);
    let field = |offset: usize, length: usize| number(image, at + offset, length);
    let format = field(0, 2)?;
    if format & 1 != 1 || field(2, 2)? != 0 {
        return Err(format!("inode {nid} has another form"));
    }
    let size = index(field(8, 8)?);
    let own = index(field(16, 4)?) * BLOCK;
    // What is behind the inode, and does not cross a block.
    let tail = match format >> 1 & 7 {
        0 => 0,
        2 => size % BLOCK,
        other => return Err(format!("inode {nid} has layout {other}")),
    };
    if (at + 64) / BLOCK != at / BLOCK && !(at + 64).is_multiple_of(BLOCK) || at % BLOCK + 64 + tail > BLOCK {
        return Err(format!("inode {nid} crosses a block"));
    }
    let part = |start: usize, length: usize| {
        let bytes = image.get(start..start + length);
        bytes.ok_or_else(|| format!("the content of inode {nid} lies outside"))
    };
    let content = [part(own, size - tail)?, part(at + 64, tail)?].concat();
    let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(Inode {
        mode: small(field(4, 2)?),
        uid: small(field(24, 4)?),
        gid: small(field(28, 4)?),
        mtime: field(32, 8)?,
        links: field(44, 4)?,
        content,
    })
}

/// The names of a directory, which are in order, with what they lead to and of what kind that is.
fn names(content: &[u8]) -> Result<Vec<(Vec<u8>, u64, u8)>, String> {
    let mut all: Vec<(Vec<u8>, u64, u8)> = Vec::new();
    for block in content.chunks(BLOCK) {
        let first = index(number(block, 8, 2)?);
        if first == 0 || !first.is_multiple_of(12) {
            return Err(format!("a directory's names begin at {first}"));
        }
        for n in 0..first / 12 {
            let start = index(number(block, n * 12 + 8, 2)?);
            let end = match n + 1 < first / 12 {
                true => index(number(block, (n + 1) * 12 + 8, 2)?),
                false => block.len(),
            };
            let name = block
                .get(start..end)
                .ok_or_else(|| format!("a name from {start} to {end}"))?;
            // The last one of a block ends before what fills the block.
            let name = name.split(|b| *b == 0).next().unwrap_or_default().to_vec();
            let kind = u8::try_from(number(block, n * 12 + 10, 1)?).unwrap_or_default();
            all.push((name, number(block, n * 12, 8)?, kind));
        }
    }
    match all.is_sorted_by(|a, b| a.0 < b.0) {
        true => Ok(all),
        false => Err("a directory's names are in no order".into()),
    }
}

/// All that an image holds.
pub fn read(image: &[u8]) -> Result<Held, String> {
    let super_block = |at: usize, length: usize| number(image, 1024 + at, length);
    if super_block(0, 4)? != 0xe0f5_e1e2 || super_block(12, 1)? != 12 || super_block(80, 4)? != 0 {
        return Err("no superblock of this form".into());
    }
    if super_block(36, 4)? * BLOCK as u64 != image.len() as u64 {
        return Err("another length than the superblock says".into());
    }
    let root = super_block(14, 2)?;
    let mut held = Held::new();
    let mut seen: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    let mut todo = vec![(Vec::new(), root, root, 2u8)];
    while let Some((path, nid, parent, kind)) = todo.pop() {
        let inode = inode(image, nid)?;
        *seen.entry(nid).or_default() += 1;
        let (letter, told) = match inode.mode >> 12 {
            0o04 => ('d', 2),
            0o10 => ('f', 1),
            0o12 => ('l', 7),
            other => return Err(format!("an inode of type {other:o}")),
        };
        if told != kind {
            return Err(format!("{path:?} is called {kind} and is {told}"));
        }
        let mut content = inode.content;
        if letter == 'd' {
            let names = names(&content)?;
            let of = |name: &[u8]| names.iter().find(|(own, _, _)| own == name).map(|(_, nid, _)| *nid);
            if (of(b"."), of(b"..")) != (Some(nid), Some(parent)) {
                return Err(format!("{path:?} leads elsewhere by `.` or `..`"));
            }
            let below = names
                .iter()
                .filter(|(name, _, kind)| *kind == 2 && name != b"." && name != b"..")
                .count();
            if inode.links != below as u64 + 2 {
                return Err(format!("{path:?} has {} links and {below} directories", inode.links));
            }
            for (name, number, kind) in names.into_iter().filter(|(name, _, _)| name != b"." && name != b"..") {
                todo.push(([path.as_slice(), b"/", &name].concat(), number, nid, kind));
            }
            content = Vec::new();
        }
        held.insert(
            path,
            (letter, inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime, content),
        );
        if held.len() > 10_000 {
            return Err("an image that does not end".into());
        }
    }
    for (nid, names) in &seen {
        let inode = inode(image, *nid)?;
        if inode.mode >> 12 != 0o04 && inode.links != *names {
            return Err(format!("inode {nid} has {names} names and says {}", inode.links));
        }
    }
    let inodes = super_block(16, 8)?;
    match inodes == seen.len() as u64 {
        true => Ok(held),
        false => Err(format!("{} inodes, and the superblock says {inodes}", seen.len())),
    }
}
