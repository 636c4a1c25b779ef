//! Archives and layers of strangers, what becomes of them, and the image of that as another reader finds it.

mod erofs;
mod ext4;

use crate::choices::Choices;
use crate::{Judgement, require};
use sr_artifact::image;
use sr_artifact::tar::{self, Archive, Entry, EntryKind};
use sr_artifact::tree::{Limits, ROOT, Style, Tree, What};
use std::collections::BTreeMap;
use std::io::{self, Read};

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 2000,
};

/// What a tree or an image holds under a path: kind, mode, owner, time, and content, target or nothing.
pub(crate) type Held = BTreeMap<Vec<u8>, (char, u32, u32, u32, u64, Vec<u8>)>;

/// What is read of an archive is read again of what is written of that.
pub fn archive(data: &[u8]) -> Judgement {
    let Ok(entries) = read(data) else {
        return Ok(());
    };
    let entries: Vec<_> = entries
        .into_iter()
        .filter(|(entry, _)| entry.kind != EntryKind::Special)
        .collect();
    // A path that ends with a slash can only be a directory's.
    let plain = |(entry, _): &&(Entry, Vec<u8>)| {
        let text = |bytes: &[u8]| !bytes.is_empty() && !bytes.contains(&0);
        let link = match &entry.kind {
            EntryKind::Symlink(target) | EntryKind::Hardlink(target) => text(target),
            _ => true,
        };
        text(&entry.path) && link
    };
    let entries: Vec<_> = entries.iter().filter(plain).cloned().collect();
    let again = read(&written(&entries)?).map_err(|e| format!("what was written cannot be read: {e}"))?;
    require(again == entries, || format!("{entries:?} is read back as {again:?}"))
}

/// Layers of a stranger's choosing: whatever becomes of them is a tree, and its image and its archive hold the same one.
pub fn layers(data: &[u8]) -> Judgement {
    let mut choices = Choices::new(data);
    let style = if choices.flag() { Style::Layers } else { Style::Packages };
    let mut tree = empty(style)?;
    for _ in 0..=choices.below(3) {
        tree.next_layer();
        let entries = choices.list(24, entry);
        // The first that is refused refuses the layer, and the image; what was there before is a tree still.
        let _ = add(&mut tree, &written(&entries)?);
    }
    let held = held(&tree)?;
    let mut bytes = Vec::new();
    image::archive(&tree, &mut bytes).map_err(|e| format!("its archive: {e}"))?;
    let mut again = empty(style)?;
    // Nothing is a whiteout the second time: their names are not in the tree.
    add(&mut again, &bytes).map_err(|e| format!("its archive is refused: {e}"))?;
    let again = self::held(&again)?;
    require(held == again, || format!("{held:?} is archived as {again:?}"))?;
    let mut image = Vec::new();
    sr_artifact::erofs::write(&tree, &mut image).map_err(|e| format!("its image: {e}"))?;
    let found = erofs::read(&image)?;
    require(held == found, || format!("{held:?} has the erofs image {found:?}"))?;
    image.clear();
    sr_artifact::ext4::write(&tree, &mut image).map_err(|e| format!("its image: {e}"))?;
    let found = ext4::read(&image)?;
    require(held == found, || format!("{held:?} has the ext4 image {found:?}"))
}

fn empty(style: Style) -> Result<Tree, String> {
    let contents = tempfile::tempfile().map_err(|e| e.to_string())?;
    Ok(Tree::new(contents, style, LIMITS))
}

fn add(tree: &mut Tree, bytes: &[u8]) -> io::Result<()> {
    let mut archive = Archive::new(bytes);
    while let Some(entry) = archive.entry()? {
        tree.add(&entry, archive.content())?;
    }
    Ok(())
}

fn read(bytes: &[u8]) -> io::Result<Vec<(Entry, Vec<u8>)>> {
    let mut archive = Archive::new(bytes);
    let mut entries = Vec::new();
    while let Some(mut entry) = archive.entry()? {
        (entry.at, entry.attributes) = (0, false);
        let mut content = Vec::new();
        archive.content().read_to_end(&mut content)?;
        entries.push((entry, content));
    }
    Ok(entries)
}

fn written(entries: &[(Entry, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut write = || -> io::Result<()> {
        for (entry, content) in entries {
            tar::write_header(&mut bytes, entry)?;
            bytes.extend(content);
            tar::pad(&mut bytes, content.len() as u64)?;
        }
        tar::end(&mut bytes)
    };
    write().map_err(|e| format!("what was read cannot be written: {e}"))?;
    Ok(bytes)
}

fn entry(choices: &mut Choices<'_>) -> (Entry, Vec<u8>) {
    let path = path(choices);
    let kind = match choices.below(8) {
        0..=2 => EntryKind::File,
        3 | 4 => EntryKind::Directory,
        5 | 6 => EntryKind::Symlink(self::path(choices)),
        _ => EntryKind::Hardlink(self::path(choices)),
    };
    let length = match kind {
        EntryKind::File => choices.pick(&[0, 1, 4031, 4032, 4033, 4096, 9000]).unwrap_or_default(),
        _ => 0,
    };
    let content = vec![choices.byte(); length];
    let entry = Entry {
        path,
        mode: choices.number() & 0o7777,
        uid: choices.number(),
        gid: u32::from(choices.byte()),
        mtime: u64::from(choices.number()),
        size: content.len() as u64,
        at: 0,
        attributes: false,
        kind,
    };
    (entry, content)
}

/// Few names, so that entries meet: also such as lead out, are whiteouts, or are long.
fn path(choices: &mut Choices<'_>) -> Vec<u8> {
    let words = [
        "a",
        "b",
        "c",
        "a",
        "b",
        ".",
        "..",
        ".wh.a",
        ".wh..wh..opq",
        "!",
        "é",
        "",
    ];
    let parts = choices.list(4, |choices| match choices.below(40) {
        0 => "n".repeat(250 + choices.below(10)),
        _ => choices.word(&words).to_owned(),
    });
    let path = parts.join("/").into_bytes();
    if path.is_empty() { b"./".to_vec() } else { path }
}

/// All of a tree; every name in it is one.
fn held(tree: &Tree) -> Result<Held, String> {
    let mut held = Held::new();
    let mut todo = vec![(Vec::new(), ROOT)];
    while let Some((path, number)) = todo.pop() {
        let inode = tree.inode(number);
        let (kind, content) = match &inode.what {
            What::Directory(_) => ('d', Vec::new()),
            What::Symlink(target) => ('l', target.clone()),
            What::File(offset, length) => {
                let mut content = Vec::new();
                tree.copy(*offset, *length, &mut content).map_err(|e| e.to_string())?;
                ('f', content)
            }
        };
        for (name, below) in tree.names(number) {
            let odd = name.is_empty() || name.len() > 255 || matches!(name, b"." | b"..");
            require(!odd && !name.contains(&b'/') && !name.contains(&0), || {
                format!("{name:?} is no name")
            })?;
            todo.push(([path.as_slice(), b"/", name].concat(), below));
        }
        let what = (kind, inode.mode, inode.uid, inode.gid, inode.mtime, content);
        held.insert(path, what);
        require(held.len() as u64 <= LIMITS.entries * 2, || {
            "a tree that does not end".to_owned()
        })?;
    }
    Ok(held)
}

pub fn seeds() -> Vec<Vec<u8>> {
    let entry = |path: &[u8], kind: EntryKind, content: &[u8]| {
        let entry = Entry {
            path: path.to_vec(),
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            mtime: 1,
            size: content.len() as u64,
            at: 0,
            attributes: false,
            kind,
        };
        (entry, content.to_vec())
    };
    let entries = [
        entry(b"dir/", EntryKind::Directory, b""),
        entry(b"dir/file", EntryKind::File, b"content"),
        entry(b"link", EntryKind::Symlink(b"dir/file".into()), b""),
        entry(&b"long/".repeat(40), EntryKind::Directory, b""),
    ];
    written(&entries).into_iter().collect()
}
