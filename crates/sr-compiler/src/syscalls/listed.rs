//! A profile that is a list of names, around a program of our own choosing: what it calls, and no more.

use super::{Arch, disagreement, render, table};
use crate::bundle::{ConditionalRule, DeniedAction, SyscallsPlan};
use sr_common::{Code, Fault};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// `names` without those that `rules` are about, and the rules. Nobody is told of what it denies.
pub(super) fn plan<'a>(
    profile: &str,
    names: impl Iterator<Item = &'a str> + Clone,
    rules: BTreeMap<String, ConditionalRule>,
    arch: Arch,
    faults: &mut Vec<Fault>,
) -> Option<SyscallsPlan> {
    let rows = table::TABLE.iter().filter(|row| {
        arch.number(row).is_some() && !rules.contains_key(row.0) && names.clone().any(|name| name == row.0)
    });
    let mut plan = SyscallsPlan {
        profile: profile.to_owned(),
        arch: arch.name().to_owned(),
        on_denied: DeniedAction::Errno,
        told: false,
        observed: false,
        denied: Vec::new(),
        allowed: rows.map(|row| Cow::Borrowed(row.0)).collect(),
        paths: Vec::new(),
        conditional: rules.into_values().collect(),
        program: Vec::new(),
    };
    plan.program = render(&plan, arch);
    match disagreement(&plan, arch) {
        None => Some(plan),
        Some(text) => {
            let remedy = "this is a defect of Safe-Run: please report it";
            faults.push(Fault::new(Code::Cmp002, "runtime.backend", text, remedy));
            None
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::profiles::words;
    use super::*;

    /// Whether every name is a system call, of what is named for.
    pub(in crate::syscalls) fn are_calls(named: &[(&str, &str)]) {
        for (what, names) in named {
            for name in words(names) {
                assert!(table::known_syscall(name), "{name}, for {what}");
            }
        }
    }
}
