//! The combination rules: what a policy of good form may still not say. Each has a stable id, one line, a valid and an
//! invalid case under `tests/policy_valid_cases` and `tests/policy_invalid_cases`.

pub(crate) mod calls;
mod evidence;
pub(crate) mod files;
mod form;
pub(crate) mod host;
mod limits;
mod mac;
mod microvm;
mod mounts;
mod network;
mod paths;
mod planned;
mod view;
mod wasm;

use crate::document::PolicyDocument;
use crate::spec::PolicySpec;
use sr_common::{Code, Fault};

pub(crate) use form::{EXTENDS_CYCLE, EXTENDS_DEPTH};
pub(crate) use sr_common::path::lexical;

/// A combination rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Stable: `SR-RULE-…`.
    pub id: &'static str,
    /// One line.
    pub description: &'static str,
}

impl Rule {
    pub(crate) const fn new(id: &'static str, description: &'static str) -> Rule {
        Rule { id, description }
    }

    pub(crate) fn fault(&self, path: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault::new(Code::Pol003, path, found, remedy).with_rule(self.id)
    }
}

/// Every rule, in the order in which they are checked.
pub fn all() -> Vec<Rule> {
    [
        form::RULES,
        mounts::RULES,
        view::RULES,
        files::RULES,
        limits::RULES,
        evidence::RULES,
        calls::RULES,
        network::RULES,
        mac::RULES,
        microvm::RULES,
        wasm::RULES,
        planned::RULES,
        host::RULES,
    ]
    .concat()
}

/// Judges a complete policy by every rule that needs no host. Empty: nothing is wrong.
pub fn check(spec: &PolicySpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    form::check(spec, &mut faults);
    mounts::check(spec, &mut faults);
    view::check(spec, &mut faults);
    files::check(spec, &mut faults);
    limits::check(spec, &mut faults);
    evidence::check(spec, &mut faults);
    calls::check(spec, &mut faults);
    mac::check(spec, &mut faults);
    microvm::check(spec, &mut faults);
    wasm::check(spec, &mut faults);
    faults
}

/// Judges what a document says beyond what a complete policy of this build can hold.
pub(crate) fn check_document(document: &PolicyDocument) -> Vec<Fault> {
    let mut faults = Vec::new();
    network::check(document, &mut faults);
    mac::check_document(document, &mut faults);
    wasm::check_document(document, &mut faults);
    planned::check(document, &mut faults);
    faults
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_unique_and_well_formed() {
        let rules = super::all();
        let ids: std::collections::BTreeSet<_> = rules.iter().map(|r| r.id).collect();
        assert_eq!(ids.len(), rules.len());
        assert!(
            rules
                .iter()
                .all(|r| r.id.starts_with("SR-RULE-") && !r.description.contains('\n'))
        );
    }
}
