//! Places that a policy's `files` name and that are not there when the run starts: they give nothing, even if they come later.

use sr_common::path::{join, relative, within};
use sr_compiler::bundle::{FilesystemPlan, LandlockLinks, ViewKind};
use std::fs;

/// A line for each, as far as the host tells.
pub fn notes(view: &FilesystemPlan) -> Vec<String> {
    let rules = view.landlock.iter().flat_map(|landlock| &landlock.rules);
    let named = rules.filter(|rule| rule.links == LandlockLinks::Refused);
    let mut notes: Vec<String> = named
        .filter(|rule| is_absent(view, &rule.path))
        .map(|rule| format!("files: nothing is at {} when the run starts", rule.path))
        .collect();
    notes.dedup();
    notes
}

fn is_absent(view: &FilesystemPlan, path: &str) -> bool {
    let covering = view.entries.iter().filter(|entry| within(path, &entry.target));
    let Some(entry) = covering.max_by_key(|entry| entry.target.len()) else {
        return path != "/";
    };
    let Some(rest) = relative(path, &entry.target).filter(|rest| !rest.is_empty()) else {
        return false;
    };
    let source = match &entry.what {
        ViewKind::ReadOnly { source, .. } => source,
        ViewKind::Writable { source, .. } => source.as_str(),
        // An earlier run of the session may have made it.
        ViewKind::Captured { .. } if view.session.is_some() => return false,
        ViewKind::Captured { source, .. } => source,
        // On the way to what is shown.
        ViewKind::Directory { .. } => return !view.entries.iter().any(|other| within(&other.target, path)),
        ViewKind::Scratch { .. } => return true,
        _ => return false,
    };
    fs::symlink_metadata(join(source, rest)).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}
