//! The view while it is being put together: one thing a place, parents before children.

use crate::bundle::{ViewEntry, ViewKind};
use crate::paths;
use std::collections::BTreeMap;

/// Entries by the components of their path, so that a parent sorts before its children.
#[derive(Default)]
pub(crate) struct Tree(BTreeMap<Vec<String>, ViewKind>);

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
        self.0.retain(|path, _| !path.starts_with(&key));
    }

    /// What the nearest entry strictly above `target` is.
    pub fn cover(&self, target: &str) -> Cover {
        let key = key(target);
        (0..key.len())
            .rev()
            .find_map(|n| self.0.get(&key[..n]))
            .map_or(Cover::Nothing, cover_of)
    }

    /// Whether the way to `target` leads through a link, a file or a file system of the kernel's own.
    pub fn passes_through(&self, target: &str) -> bool {
        let key = key(target);
        (0..key.len())
            .filter_map(|n| self.0.get(&key[..n]))
            .any(|what| cover_of(what) == Cover::Closed)
    }

    /// Makes the directories that lead to entries and that no tree of the host's holds.
    pub fn add_parents(&mut self) {
        let targets: Vec<Vec<String>> = self.0.keys().cloned().collect();
        for target in targets {
            let mut cover = self.0.get(&Vec::new()).map_or(Cover::Nothing, cover_of);
            for n in 1..target.len() {
                match self.0.get(&target[..n]) {
                    Some(what) => cover = cover_of(what),
                    None if cover == Cover::Bind => {}
                    None => {
                        self.0.insert(target[..n].to_vec(), ViewKind::Directory { mode: 0o755 });
                        cover = Cover::Skeleton;
                    }
                }
            }
        }
    }

    pub fn into_entries(self) -> Vec<ViewEntry> {
        let place = |path: Vec<String>| {
            if path.is_empty() {
                "/".to_owned()
            } else {
                format!("/{}", path.join("/"))
            }
        };
        self.0
            .into_iter()
            .map(|(path, what)| ViewEntry {
                target: place(path),
                what,
            })
            .collect()
    }
}

fn key(target: &str) -> Vec<String> {
    target
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
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
        .filter(|entry| paths::within(path, &entry.target))
        .max_by_key(|entry| entry.target.len())
}
