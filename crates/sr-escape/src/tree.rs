//! A directory's state before and after: what is new in it, gone or other.

use crate::trip::{Canary, Trip, Words, found, place};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: char,
    pub mode: u32,
    /// Owners, device, links, inode, size, and the times of the last writes.
    pub facts: [i64; 10],
    pub content: Vec<u8>,
}

pub type Files = BTreeMap<PathBuf, Entry>;

/// All below `dir`, by path.
pub fn snapshot(dir: &Path) -> Files {
    fn walk(top: &Path, path: &Path, files: &mut Files) {
        let Ok(meta) = fs::symlink_metadata(path) else {
            return;
        };
        let kind = match meta.mode() & 0o170_000 {
            0o040_000 => 'd',
            0o100_000 => 'f',
            0o120_000 => 'l',
            0o020_000 => 'c',
            0o060_000 => 'b',
            0o010_000 => 'p',
            _ => 's',
        };
        let content = match kind {
            'f' if meta.size() < 64 << 10 => fs::read(path).unwrap_or_default(),
            'l' => fs::read_link(path).map_or_else(|_| Vec::new(), |to| to.into_os_string().into_encoded_bytes()),
            _ => Vec::new(),
        };
        let number = |n: u64| i64::try_from(n).unwrap_or(-1);
        let entry = Entry {
            kind,
            mode: meta.mode() & 0o7777,
            facts: [
                i64::from(meta.uid()),
                i64::from(meta.gid()),
                number(meta.rdev()),
                number(meta.nlink()),
                number(meta.ino()),
                number(meta.size()),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec(),
            ],
            content,
        };
        files.insert(path.strip_prefix(top).unwrap_or(path).to_owned(), entry);
        if kind == 'd' {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                walk(top, &entry.path(), files);
            }
        }
    }
    let mut files = Files::new();
    walk(dir, dir, &mut files);
    files
}

/// Paths at which something is new, gone or other.
fn differences<'a>(before: &'a Files, after: &'a Files) -> Vec<&'a Path> {
    let gone_or_other = before.iter().filter(|(path, entry)| after.get(*path) != Some(entry));
    let new = after.iter().filter(|(path, _)| !before.contains_key(*path));
    let mut paths: Vec<&Path> = gone_or_other.chain(new).map(|(path, _)| path.as_path()).collect();
    paths.sort();
    paths
}

/// What was tripped below a directory, where what happened to a path `counts`: given the path, whether it was there, and what is
/// there now.
pub fn trips(
    before: &Files,
    after: &Files,
    words: &Words,
    counts: impl Fn(&Path, bool, Option<&Entry>) -> bool,
) -> Vec<Trip> {
    let mut trips = Vec::new();
    for path in differences(before, after) {
        if !counts(path, before.contains_key(path), after.get(path)) {
            continue;
        }
        trips.push(Trip::new(Canary::Change, format!("DIR/{}", path.display())));
        // What was copied into a file of the ground was read; what it held before was not.
        let held = |files: &Files| files.get(path).map(|e| found(&e.content, words)).unwrap_or_default();
        let was = held(before);
        let new = held(after).into_iter().filter(|word| !was.contains(word));
        trips.extend(new.map(|word| Trip::new(Canary::Read, place(word))));
    }
    trips
}

/// The content of every regular file at `path` and below.
pub fn for_each_file(path: &Path, seen: &mut impl FnMut(&[u8])) {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return;
    };
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            for_each_file(&entry.path(), seen);
        }
    } else if meta.is_file() && meta.len() < 64 << 20 {
        // What cannot be read shows nothing.
        seen(&fs::read(path).unwrap_or_default());
    }
}

/// The files of a ground: canaries, what a case may try to change, and a project to work in.
pub fn plant(dir: &Path, secret: &str, public: &str) -> std::io::Result<()> {
    let write = |name: &str, text: &str, mode: u32| {
        let path = dir.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    for sub in [
        "targets",
        "project/.git/hooks",
        "project/.git/objects",
        "project/.git/refs",
    ] {
        fs::create_dir_all(dir.join(sub))?;
    }
    for (sub, mode) in [("targets", 0o777), ("project", 0o755)] {
        fs::set_permissions(dir.join(sub), fs::Permissions::from_mode(mode))?;
    }
    write("secret", &format!("{secret}\n"), 0o600)?;
    write("public", &format!("{public}\n"), 0o644)?;
    write("target", "untouched\n", 0o666)?;
    write("project/kept", "kept\n", 0o644)?;
    write("project/.git/HEAD", "ref: refs/heads/main\n", 0o644)?;
    write("project/.git/config", "[core]\n\tbare = false\n", 0o644)
}
