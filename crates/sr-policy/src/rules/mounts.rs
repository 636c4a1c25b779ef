//! Rules about mounts: their targets in the view and, as far as letters tell, their sources.

use super::Rule;
use super::paths::{LIVE, RESERVED_TARGETS, SYSTEM, within_any};
use crate::spec::{Mount, PolicySpec};
use crate::text::{is_hostile, printable};
use sr_common::Fault;
use sr_common::path::{is_normal, lexical};
use std::collections::BTreeMap;

const BOTH: Rule = Rule::new(
    "SR-RULE-mount-readonly-captured",
    "A mount is read-only or captured, not both.",
);
const TWICE: Rule = Rule::new(
    "SR-RULE-mount-target-twice",
    "Two mounts may not have the same place in the view.",
);
const TARGET_FORM: Rule = Rule::new(
    "SR-RULE-mount-target-form",
    "A target is absolute and has no `.`, `..`, `//` or trailing `/`.",
);
const RESERVED: Rule = Rule::new(
    "SR-RULE-mount-target-reserved",
    "A mount may not cover `/` or lie in a system directory of the view.",
);
const WRITABLE_SYSTEM: Rule = Rule::new(
    "SR-RULE-mount-writable-system",
    "A system directory of the host is never mounted writable.",
);
const ROOT: Rule = Rule::new(
    "SR-RULE-mount-source-root",
    "The host's `/` is never mounted, not even read-only.",
);
const LIVE_SOURCE: Rule = Rule::new(
    "SR-RULE-mount-source-live",
    "/proc, /sys, /dev and /run of the host are never mounted: they hold sockets and devices.",
);

pub(super) const RULES: &[Rule] = &[BOTH, TWICE, TARGET_FORM, RESERVED, WRITABLE_SYSTEM, ROOT, LIVE_SOURCE];

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let mut places = BTreeMap::new();
    for (i, mount) in spec.mounts.iter().enumerate() {
        if mount.read_only && mount.captured {
            let remedy = "keep one: `readOnly: true` to show it, `captured: true` to keep the program's writes apart";
            faults.push(BOTH.fault(format!("mounts[{i}]"), "readOnly and captured are both true", remedy));
        }
        target(i, mount, faults);
        source(i, &lexical(&mount.source), mount, faults);
        let place = mount.target.clone().unwrap_or_else(|| lexical(&mount.source));
        if let Some(first) = places.insert(place.clone(), i) {
            let found = format!("{} is the place of mounts[{first}] already", printable(&place));
            let field = if mount.target.is_some() { "target" } else { "source" };
            faults.push(TWICE.fault(
                format!("mounts[{i}].{field}"),
                found,
                "give each mount a target of its own",
            ));
        }
    }
}

fn target(i: usize, mount: &Mount, faults: &mut Vec<Fault>) {
    let implied = lexical(&mount.source);
    let (field, place) = match &mount.target {
        Some(target) => {
            if !is_normal(target) || target.chars().any(is_hostile) {
                let remedy = "write an absolute path such as /work";
                faults.push(TARGET_FORM.fault(
                    format!("mounts[{i}].target"),
                    format!("\"{}\"", printable(target)),
                    remedy,
                ));
                return;
            }
            ("target", target.as_str())
        }
        // A relative source's place is known on the host only.
        None if implied.starts_with('/') => ("source", implied.as_str()),
        None => return,
    };
    place_in_view(i, field, place, faults);
}

/// Judges a place in the view, given by `mounts[i].<field>`.
pub(super) fn place_in_view(i: usize, field: &str, place: &str, faults: &mut Vec<Fault>) {
    // The root as a source is another rule's.
    let root = place == "/" && field == "target";
    if let Some(dir) = within_any(place, &RESERVED_TARGETS).or(root.then_some("/")) {
        let how = if field == "target" { "" } else { " without a target" };
        let found = format!("{}{how} would cover {dir} of the view", printable(place));
        let remedy = "give a target elsewhere, such as /work; the system directories are in the view already";
        faults.push(RESERVED.fault(format!("mounts[{i}].{field}"), found, remedy));
    }
}

/// Judges a source by `path`, its written or its canonical form.
pub(super) fn source(i: usize, path: &str, mount: &Mount, faults: &mut Vec<Fault>) {
    let at = format!("mounts[{i}].source");
    if path == "/" {
        faults.push(ROOT.fault(
            at,
            "the root of the host",
            "mount the directories that the program needs",
        ));
    } else if let Some(dir) = within_any(path, &LIVE) {
        let found = format!("{} lies in {dir} of the host", printable(path));
        faults.push(LIVE_SOURCE.fault(at, found, "leave it out; the view has a /proc and /dev of its own"));
    } else if let Some(dir) = within_any(path, &SYSTEM).filter(|_| !mount.read_only && !mount.captured) {
        let found = format!("a writable mount of {}, in the system directory {dir}", printable(path));
        faults.push(WRITABLE_SYSTEM.fault(at, found, "mount it with `readOnly: true`, or a directory of your own"));
    }
}
