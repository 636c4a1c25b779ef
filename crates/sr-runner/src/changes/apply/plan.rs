//! Which changes are to be written, which wait, which are refused. Writes nothing.

use super::{Applied, ApplyOptions, Note};
use crate::changes::scan::Entry;
use crate::changes::{Kind, What, danger, tree, unescape};
use sr_common::{Code, Fault};
use std::collections::HashSet;

pub(super) struct Plan {
    pub todo: Vec<Entry>,
    pub outcome: Applied,
}

impl Plan {
    pub fn make(entries: Vec<Entry>, options: &ApplyOptions) -> Result<Plan, Vec<Fault>> {
        let (only, approve, force) = (
            Names::new(&options.only),
            Names::new(&options.approve),
            Names::new(&options.force),
        );
        let mut outcome = Applied::default();
        for names in [&only, &approve, &force] {
            outcome.unmatched.extend(names.without_match(&entries));
        }
        outcome.unmatched.sort();
        outcome.unmatched.dedup();

        let mut faults = Vec::new();
        let mut todo = Vec::new();
        let mut waiting: HashSet<Vec<u8>> = HashSet::new();
        let needed = needed_directories(&entries, &only);
        for entry in entries {
            let change = &entry.change;
            let wanted = only.is_empty() || only.cover(&entry.path) || needed.contains(&entry.path);
            if change.kind == Kind::Opaque || !wanted {
                continue;
            }
            let note = |reason: &str| Note {
                path: change.path.clone(),
                reason: reason.to_owned(),
            };
            if let Some(reason) = &change.danger
                && !only.approve(&entry.path)
                && !approve.approve(&entry.path)
            {
                waiting.insert(entry.path.clone());
                outcome.pending.push(note(reason));
                continue;
            }
            // Everything below a thing that waits is listed after it, so that its parent tells.
            if waiting.contains(tree::split(&entry.path).0) {
                waiting.insert(entry.path.clone());
                outcome
                    .pending
                    .push(note("it lies in something that waits to be named"));
                continue;
            }
            if let Some(reason) = &change.skipped {
                outcome.skipped.push(note(reason));
            }
            if nothing_to_write(&entry) {
                continue;
            }
            if let Some(reason) = &change.conflict
                && !force.cover(&entry.path)
            {
                let remedy = "look at both versions; naming it takes the run's";
                faults.push(Fault::new(
                    Code::Run001,
                    change.path.clone(),
                    format!("conflict: {reason}"),
                    remedy,
                ));
                continue;
            }
            todo.push(entry);
        }
        if faults.is_empty() {
            Ok(Plan { todo, outcome })
        } else {
            Err(faults)
        }
    }
}

/// Special files, and a mode that differs only in bits that are never applied.
fn nothing_to_write(entry: &Entry) -> bool {
    let Some(after) = &entry.change.after else { return false };
    match after.what {
        What::File | What::Directory | What::Symlink => {}
        _ => return true,
    }
    let Some(before) = &entry.change.before else {
        return false;
    };
    entry.change.kind == Kind::ModeChanged
        && applied_mode(after.mode, after.what) == applied_mode(before.mode, before.what)
}

/// The permission bits that are applied: no setuid, no setgid; the sticky bit for directories only.
pub(super) fn applied_mode(mode: u32, what: What) -> u32 {
    mode & if what == What::Directory { 0o1777 } else { 0o777 }
}

/// New directories that hold something that is wanted.
fn needed_directories(entries: &[Entry], only: &Names) -> HashSet<Vec<u8>> {
    if only.is_empty() {
        return HashSet::new();
    }
    let wanted = entries
        .iter()
        .filter(|e| e.change.after.is_some() && only.cover(&e.path));
    let mut above: HashSet<&[u8]> = HashSet::new();
    for entry in wanted {
        // Above what is there already, all is.
        let _ = ancestors(&entry.path).find(|dir| !above.insert(dir));
    }
    entries
        .iter()
        .filter(|e| above.contains(e.path.as_slice()) && matches!(e.change.kind, Kind::Added | Kind::TypeChanged))
        .map(|e| e.path.clone())
        .collect()
}

/// The directories above a path, nearest first.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = &rest[..rest.iter().rposition(|c| *c == b'/')?];
        Some(rest)
    })
}

/// Paths that a person wrote: as they are listed, or as they are.
struct Names(Vec<(String, HashSet<Vec<u8>>)>);

impl Names {
    fn new(texts: &[String]) -> Names {
        let form = |bytes: &[u8]| {
            let parts: Vec<&[u8]> = bytes
                .split(|c| *c == b'/')
                .filter(|p| !p.is_empty() && *p != b".")
                .collect();
            parts.join(&b'/')
        };
        let forms = |text: &String| {
            let listed = unescape(text).map(|bytes| form(&bytes));
            (
                text.clone(),
                [Some(form(text.as_bytes())), listed].into_iter().flatten().collect(),
            )
        };
        Names(texts.iter().map(forms).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the path or a directory above it is named; the empty name is the whole tree.
    fn cover(&self, path: &[u8]) -> bool {
        self.0.iter().any(|(_, forms)| covers(forms, path))
    }

    /// Whether a name stands for what is dangerous about the path: the path itself, or a dangerous directory above it.
    fn approve(&self, path: &[u8]) -> bool {
        let named = |p: &[u8]| self.0.iter().any(|(_, forms)| forms.contains(p));
        !self.is_empty()
            && (named(path) || ancestors(path).any(|above| named(above) && danger::by_path(above).is_some()))
    }

    fn without_match(&self, entries: &[Entry]) -> Vec<String> {
        let unmatched = self
            .0
            .iter()
            .filter(|(_, forms)| !entries.iter().any(|e| covers(forms, &e.path)));
        unmatched.map(|(text, _)| text.clone()).collect()
    }
}

fn covers(forms: &HashSet<Vec<u8>>, path: &[u8]) -> bool {
    forms.iter().any(|form| {
        form.is_empty()
            || path
                .strip_prefix(form.as_slice())
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    })
}
