//! Rules about names and keys, wherever a policy came from: a file, `extends`, or flags.

use super::Rule;
use crate::spec::PolicySpec;
use crate::text::{is_hostile, printable};
use sr_common::Fault;

pub(crate) const EXTENDS_CYCLE: Rule = Rule::new(
    "SR-RULE-extends-cycle",
    "A file may not extend itself, directly or through others.",
);
pub(crate) const EXTENDS_DEPTH: Rule = Rule::new(
    "SR-RULE-extends-depth",
    "A chain of `extends` may not be longer than 8 files.",
);
const NAME: Rule = Rule::new(
    "SR-RULE-name-form",
    "A policy's name has 1 to 128 characters, none of them control or direction-changing.",
);
const COMMAND: Rule = Rule::new(
    "SR-RULE-command-form",
    "Commands, arguments, paths and values hold no NUL character; a command or source is not empty.",
);
const ENV_KEY: Rule = Rule::new(
    "SR-RULE-env-key-form",
    "An environment key is letters, digits and `_`, and begins with no digit.",
);
const ENV_RESERVED: Rule = Rule::new(
    "SR-RULE-env-reserved",
    "Environment keys that begin with `SAFE_RUN_` are Safe-Run's own.",
);
const SESSION: Rule = Rule::new(
    "SR-RULE-session-form",
    "A session's name is 1 to 64 of a-z, 0-9, `.`, `_`, `-`, and begins with no dot.",
);
const SIGN: Rule = Rule::new(
    "SR-RULE-sign-form",
    "A key's name is 1 to 64 letters, digits, `.`, `_`, `-`, and begins with no dot.",
);
const HIDE: Rule = Rule::new(
    "SR-RULE-hide-form",
    "A pattern of `hide` is a file name, or `.git/config`.",
);

pub(super) const RULES: &[Rule] = &[
    EXTENDS_CYCLE,
    EXTENDS_DEPTH,
    NAME,
    COMMAND,
    ENV_KEY,
    ENV_RESERVED,
    SESSION,
    SIGN,
    HIDE,
];

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let name = &spec.metadata.name;
    if name.is_empty() || name.chars().count() > 128 || name.chars().any(is_hostile) {
        faults.push(NAME.fault(
            "metadata.name",
            format!("\"{}\"", printable(name)),
            "choose a shorter, plain name",
        ));
    }
    command(spec, faults);
    for key in spec.runtime.env.keys() {
        let path = format!("runtime.env.{}", printable(key));
        let letters = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if key.is_empty() || !letters || key.starts_with(|c: char| c.is_ascii_digit()) {
            faults.push(ENV_KEY.fault(
                path,
                format!("the key \"{}\"", printable(key)),
                "use letters, digits and `_`",
            ));
        } else if key.starts_with("SAFE_RUN_") {
            faults.push(ENV_RESERVED.fault(path, format!("the reserved key {key}"), "choose another name"));
        }
    }
    if let Some(session) = &spec.session {
        let lower = session
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
        // `none` switches a preset's session off in a document, so it cannot name one.
        if !lower || !plain_name(session) || session == "none" {
            let remedy = "write `auto`, or a name of a-z, 0-9, `.`, `_` and `-`";
            faults.push(SESSION.fault("session", format!("\"{}\"", printable(session)), remedy));
        }
    }
    if !plain_name(&spec.evidence.sign) {
        let remedy = "write `default`, `none`, or the name of a key";
        faults.push(SIGN.fault(
            "evidence.sign",
            format!("\"{}\"", printable(&spec.evidence.sign)),
            remedy,
        ));
    }
    for (i, pattern) in spec.hide.iter().enumerate() {
        let name = !pattern.contains('/') && !matches!(pattern.as_str(), "" | "." | "..");
        if !(name || pattern == ".git/config") || pattern.chars().any(is_hostile) {
            let remedy = "write a file name such as `.env*`; it is hidden in every directory";
            faults.push(HIDE.fault(format!("hide[{i}]"), format!("\"{}\"", printable(pattern)), remedy));
        }
    }
}

fn command(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let runtime = &spec.runtime;
    let mut texts: Vec<(String, &str)> = Vec::new();
    texts.extend(runtime.command.as_deref().map(|c| ("runtime.command".into(), c)));
    texts.extend(
        runtime
            .args
            .iter()
            .enumerate()
            .map(|(i, arg)| (format!("runtime.args[{i}]"), arg.as_str())),
    );
    texts.extend(
        runtime
            .env
            .iter()
            .map(|(key, value)| (format!("runtime.env.{}", printable(key)), value.as_str())),
    );
    texts.extend(
        spec.mounts
            .iter()
            .enumerate()
            .map(|(i, m)| (format!("mounts[{i}].source"), m.source.as_str())),
    );
    texts.extend(spec.rootfs.path.as_deref().map(|p| ("rootfs.path".into(), p)));
    for (path, text) in texts {
        if text.contains('\0') {
            faults.push(COMMAND.fault(path, "a NUL character", "remove it: no system call can carry it"));
        } else if text.is_empty() && path.ends_with("source") {
            faults.push(COMMAND.fault(path, "an empty source", "name a file or directory of the host"));
        }
    }
    if runtime.command.as_deref().is_some_and(|c| c.trim().is_empty()) {
        faults.push(COMMAND.fault(
            "runtime.command",
            "an empty command",
            "name a program, or leave the field out",
        ));
    }
}

fn plain_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}
