//! The view while it is being put together: one thing a place, parents before children.

use crate::bundle::{ViewEntry, ViewKind};
use sr_common::path;
use std::collections::BTreeMap;

/// Entries by [`key`], so that a parent sorts before its children, and both before what else begins with its name.
#[derive(Default)]
pub(crate) struct Tree(BTreeMap<String, ViewKind>);

/// What the nearest entry above a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cover {
    /// The root skeleton itself.
    Nothing,
    /// A directory that Safe-Run makes: names can be added to it.
    Skeleton,
    /// A tree of the host's: its names are what they are.
    Bind,
    /// A link, a file, or a file system of the kernel's own: nothing can be placed below it.
    Closed,
}

impl Tree {
    pub fn set(&mut self, target: &str, what: ViewKind) {
        self.0.insert(key(target), what);
    }

    pub fn has(&self, target: &str) -> bool {
        self.0.contains_key(&key(target))
    }

    pub fn get(&self, target: &str) -> Option<&ViewKind> {
        self.0.get(&key(target))
    }

    /// Takes out `target` and all below it.
    pub fn remove_below(&mut self, target: &str) {
        let key = key(target);
        let below = |path: &String| {
            path.strip_prefix(&key)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
        };
        self.0.retain(|path, _| !below(path));
    }

    /// What the nearest entry strictly above `target` is.
    pub fn cover(&self, target: &str) -> Cover {
        let above = above(&key(target)).filter_map(|path| self.0.get(path)).last();
        above.map_or(Cover::Nothing, cover_of)
    }

    /// Whether the way to `target` leads through a link, a file or a file system of the kernel's own.
    pub fn passes_through(&self, target: &str) -> bool {
        above(&key(target))
            .filter_map(|path| self.0.get(path))
            .any(|what| cover_of(what) == Cover::Closed)
    }

    /// Makes the directories that lead to entries and that no tree of the host's holds.
    pub fn add_parents(&mut self) {
        let mut missing: Vec<String> = Vec::new();
        for target in self.0.keys() {
            let mut cover = Cover::Nothing;
            for path in above(target) {
                match self.0.get(path) {
                    Some(what) => cover = cover_of(what),
                    None if cover == Cover::Bind || path.is_empty() => {}
                    None => {
                        missing.push(path.to_owned());
                        cover = Cover::Skeleton;
                    }
                }
            }
        }
        let directories = missing
            .into_iter()
            .map(|path| (path, ViewKind::Directory { mode: 0o755 }));
        self.0.extend(directories);
    }

    pub fn into_entries(self) -> Vec<ViewEntry> {
        let place = |path: String| {
            if path.is_empty() {
                "/".to_owned()
            } else {
                path.replace(SEPARATOR, "/")
            }
        };
        let entries = self.0.into_iter();
        entries
            .map(|(path, what)| ViewEntry {
                target: place(path),
                what,
            })
            .collect()
    }
}

/// In place of `/`: it sorts before every character that a name can have.
const SEPARATOR: char = '\0';

/// The path with each name behind a [`SEPARATOR`]; the root is empty.
fn key(target: &str) -> String {
    let mut key = String::with_capacity(target.len());
    for name in target.split('/').filter(|name| !name.is_empty()) {
        key.push(SEPARATOR);
        key.push_str(name);
    }
    key
}

/// The keys strictly above `key`, the root's first.
fn above(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices(SEPARATOR).map(|(at, _)| &key[..at])
}

fn cover_of(what: &ViewKind) -> Cover {
    match what {
        ViewKind::ReadOnly { directory: true, .. }
        | ViewKind::Writable { directory: true, .. }
        | ViewKind::Captured { .. } => Cover::Bind,
        ViewKind::Scratch { .. } | ViewKind::Directory { .. } => Cover::Skeleton,
        _ => Cover::Closed,
    }
}

/// The entry that shows `path`: at it, or the nearest above.
pub(crate) fn covering<'a>(entries: &'a [ViewEntry], path: &str) -> Option<&'a ViewEntry> {
    entries
        .iter()
        .filter(|entry| path::within(path, &entry.target))
        .max_by_key(|entry| entry.target.len())
}
