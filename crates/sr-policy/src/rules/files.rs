//! Rules about what of the view may be opened.

use super::Rule;
use crate::spec::PolicySpec;
use crate::text::{is_hostile, printable};
use sr_common::path::is_normal;
use sr_common::{Control, Fault};

const FORM: Rule = Rule::new(
    "SR-RULE-files-form",
    "A path of `files` is absolute and has no `.`, `..`, `//` or trailing `/`.",
);
const MANY: Rule = Rule::new(
    "SR-RULE-files-many",
    "A list of `files` has at most 512 paths: a directory stands for all below it.",
);
const LANDLOCK: Rule = Rule::new(
    "SR-RULE-files-landlock",
    "`files` is held by Landlock, so the policy may not degrade that.",
);

pub(super) const RULES: &[Rule] = &[FORM, MANY, LANDLOCK];

/// So many paths a list of `files` has at most: more would be a list that nobody reads.
pub const MOST: usize = 512;

/// Whether a policy can name the file: its path is in normal form, and shows as what it is.
pub fn can_be_named(path: &str) -> bool {
    is_normal(path) && !path.chars().any(is_hostile)
}

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let Some(files) = &spec.files else { return };
    for (name, paths) in [("read", &files.read), ("write", &files.write)] {
        if paths.len() > MOST {
            let found = format!("{} paths", paths.len());
            faults.push(MANY.fault(format!("files.{name}"), found, "name directories instead of files"));
        }
        for (i, path) in paths.iter().enumerate() {
            if !can_be_named(path) {
                let found = format!("\"{}\"", printable(path));
                let remedy = "write the place of a file or directory in the view, such as /usr/lib";
                faults.push(FORM.fault(format!("files.{name}[{i}]"), found, remedy));
            }
        }
    }
    if spec.degrade.contains(&Control::Landlock) {
        let remedy = "take landlock out of degrade, or leave files out";
        faults.push(LANDLOCK.fault("degrade", "landlock, which alone holds `files`", remedy));
    }
}
