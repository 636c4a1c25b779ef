//! What the view must not show: Safe-Run's own files, the policy's `hide`, and parts of `/proc`.

use super::{entry_source, tree};
use crate::bundle::{Hidden, LayerMask, ViewEntry, ViewKind};
use crate::compile::Input;
use sr_common::path;
use std::collections::{BTreeMap, BTreeSet};

/// What containers mask too: kernel memory and keys, a reboot by writing, timings and names of the whole host.
pub(crate) const OF_PROC: [&str; 11] = [
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/kallsyms",
];

/// Adds layer masks to captured entries; gives the masked paths of the view, and what the report says is hidden.
pub(crate) fn apply(input: Input<'_>, entries: &mut [ViewEntry]) -> (Vec<String>, Vec<Hidden>) {
    let Input { facts, subject, .. } = input;
    let mut unwanted: BTreeMap<&str, (String, Option<&String>)> = BTreeMap::new();
    for hidden in &subject.hidden {
        let reason = match &hidden.replacement {
            None => format!("matches {:?} of the policy's hide", hidden.pattern),
            Some(_) => format!(
                "matches {:?} of the policy's hide: shown without its credentials",
                hidden.pattern
            ),
        };
        unwanted.insert(&hidden.path, (reason, hidden.replacement.as_ref()));
    }
    for own in std::iter::once(&facts.store).chain(&facts.private) {
        unwanted.insert(own, ("Safe-Run's own".to_owned(), None));
    }
    let mut masked: BTreeSet<String> = OF_PROC.map(str::to_owned).into();
    let mut report = BTreeMap::new();
    for at in 0..entries.len() {
        let Some(source) = entry_source(&entries[at]).map(str::to_owned) else {
            continue;
        };
        for (path, (reason, replacement)) in &unwanted {
            let Some(rest) = path::relative(path, &source) else {
                continue;
            };
            let place = path::join(&entries[at].target, rest);
            // Where another entry lies over it, it is not seen through this one.
            if tree::covering(entries, &place).is_none_or(|nearest| nearest.target != entries[at].target) {
                continue;
            }
            report.insert((*path).to_owned(), reason.clone());
            match &mut entries[at].what {
                ViewKind::Captured { hidden, .. } if !rest.is_empty() => {
                    hidden.push(LayerMask {
                        path: rest.to_owned(),
                        replacement: replacement.cloned(),
                    });
                }
                _ => {
                    masked.insert(place);
                }
            }
        }
    }
    (
        masked.into_iter().collect(),
        report
            .into_iter()
            .map(|(path, reason)| Hidden { path, reason })
            .collect(),
    )
}
