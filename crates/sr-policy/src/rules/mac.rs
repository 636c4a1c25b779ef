//! Rules about mandatory access control: one profile or one context, by a name that can be one.

use super::Rule;
use crate::document::PolicyDocument;
use crate::spec::{Mac, PolicySpec};
use crate::text::printable;
use sr_common::Fault;

const ONE: Rule = Rule::new(
    "SR-RULE-mac-one",
    "`mac` names an AppArmor profile or an SELinux context: one of the two.",
);
const APPARMOR: Rule = Rule::new(
    "SR-RULE-mac-apparmor-form",
    "A profile's name is 1 to 255 visible ASCII characters without `&`, `:` and quotes, and not `unconfined`.",
);
const SELINUX: Rule = Rule::new(
    "SR-RULE-mac-selinux-form",
    "A context is `user:role:type` or `user:role:type:range`, at most 255 visible ASCII characters.",
);

pub(super) const RULES: &[Rule] = &[ONE, APPARMOR, SELINUX];

/// Longer than any in use, and short enough for every interface of the kernel's.
const LONGEST: usize = 255;

pub(super) fn check_document(document: &PolicyDocument, faults: &mut Vec<Fault>) {
    let Some(mac) = &document.mac else { return };
    let found = match (&mac.apparmor, &mac.selinux) {
        (Some(_), Some(_)) => "both a profile and a context",
        (None, None) => "neither a profile nor a context",
        _ => return,
    };
    let remedy = "write mac: {apparmor: PROFILE} or mac: {selinux: CONTEXT}, or leave it out";
    faults.push(ONE.fault("mac", found, remedy));
}

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    match &spec.mac {
        Some(Mac::Apparmor(profile)) if !is_profile(profile) => faults.push(APPARMOR.fault(
            "mac.apparmor",
            format!("\"{}\"", printable(profile)),
            "write the name of one profile, as /sys/kernel/security/apparmor/profiles lists it",
        )),
        Some(Mac::Selinux(context)) if !is_context(context) => faults.push(SELINUX.fault(
            "mac.selinux",
            format!("\"{}\"", printable(context)),
            "write a whole context, such as user_u:user_r:sandbox_t:s0",
        )),
        _ => {}
    }
}

fn is_plain(name: &str) -> bool {
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// `&` would be a stack of profiles, `:` a namespace of them.
fn is_profile(name: &str) -> bool {
    is_plain(name) && !name.contains(['&', ':', '"', '\'']) && name != "unconfined"
}

fn is_context(context: &str) -> bool {
    let parts: Vec<&str> = context.splitn(4, ':').collect();
    is_plain(context) && parts.len() >= 3 && parts.iter().all(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_read_otherwise_are_refused() {
        for name in ["p", "/usr/bin/x", "a//b", "docker-default", "snap.x.y", "/opt/{a,b}/*"] {
            assert!(is_profile(name), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "",
            "unconfined",
            "a b",
            "a//&b",
            "&a",
            ":ns:a",
            "a\nb",
            "\"a\"",
            "é",
            &long,
        ] {
            assert!(!is_profile(name), "{name}");
        }
        for context in ["u:r:t", "u:r:t:s0", "u:r:t:s0-s0:c0.c1023"] {
            assert!(is_context(context), "{context}");
        }
        for context in ["", "t", "u:r", "u::t", "u:r:t:", "u:r:t s0", &long] {
            assert!(!is_context(context), "{context}");
        }
    }
}
