//! Rules about the root of the view, the working directory and the user.

use super::Rule;
use super::paths::{SYSTEM, within_any};
use crate::spec::{PolicySpec, RootfsSource};
use crate::text::{is_hostile, printable};
use sr_common::Fault;
use sr_common::path::{is_normal, lexical};

const DIR_PATH: Rule = Rule::new(
    "SR-RULE-rootfs-dir-path",
    "`rootfs.path` belongs to `source: dir`, and `source: dir` needs it.",
);
const DIR_HOST: Rule = Rule::new(
    "SR-RULE-rootfs-dir-host",
    "The root of the view is not the host's `/` or one of its system directories.",
);
const WORKDIR: Rule = Rule::new(
    "SR-RULE-workdir-form",
    "The working directory is absolute and has no `.`, `..`, `//` or trailing `/`.",
);
const USER: Rule = Rule::new(
    "SR-RULE-user-range",
    "The program is never uid 0; `runtime.user` is 1 to 65533.",
);

pub(super) const RULES: &[Rule] = &[DIR_PATH, DIR_HOST, WORKDIR, USER];

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    match (spec.rootfs.source, spec.rootfs.path.as_deref()) {
        (RootfsSource::Dir, None) => {
            faults.push(DIR_PATH.fault("rootfs", "source: dir without a path", "add `path:` with the directory"));
        }
        (RootfsSource::Host, Some(path)) => {
            let found = format!("the path {} with source: host", printable(path));
            faults.push(DIR_PATH.fault("rootfs.path", found, "write `source: dir`, or remove the path"));
        }
        (RootfsSource::Dir, Some(path)) => root_directory(&lexical(path), faults),
        (RootfsSource::Host, None) => {}
    }
    if let Some(dir) = spec
        .runtime
        .workdir
        .as_deref()
        .filter(|dir| !is_normal(dir) || dir.chars().any(is_hostile))
    {
        let remedy = "write an absolute path in the view, such as /work";
        faults.push(WORKDIR.fault("runtime.workdir", format!("\"{}\"", printable(dir)), remedy));
    }
    if !(1..=65533).contains(&spec.runtime.user) {
        let found = match spec.runtime.user {
            0 => "the program is never uid 0".into(),
            uid => format!("uid {uid} is outside 1 to 65533"),
        };
        faults.push(USER.fault("runtime.user", found, "write a uid such as 1000"));
    }
}

/// Judges `rootfs.path` in its written or canonical form.
pub(super) fn root_directory(path: &str, faults: &mut Vec<Fault>) {
    if path == "/" || within_any(path, &SYSTEM).is_some_and(|dir| dir != "/var" || path == "/var") {
        let found = format!("{} is the host's own", printable(path));
        faults.push(DIR_HOST.fault(
            "rootfs.path",
            found,
            "name a directory that holds a root file system, or `source: host`",
        ));
    }
}
