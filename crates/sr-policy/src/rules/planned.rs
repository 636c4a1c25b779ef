//! What parses and is refused, because this build has nothing that could enforce it.

use super::Rule;
use crate::document::{PolicyDocument, RootSource};
use crate::planned::{AuditChoice, NetworkChoice};
use sr_common::Fault;

const NOT_AVAILABLE: Rule = Rule::new(
    "SR-RULE-not-available",
    "What this build cannot enforce is refused, never ignored.",
);

pub(super) const RULES: &[Rule] = &[NOT_AVAILABLE];

/// The fault for a field or value that nothing here can enforce.
fn not_available(path: &str, what: &str) -> Fault {
    NOT_AVAILABLE.fault(
        path,
        format!("{what} is not available in this build"),
        "remove it, or use a build that has it",
    )
}

pub(super) fn check(document: &PolicyDocument, faults: &mut Vec<Fault>) {
    let mut refuse = |asked: bool, path: &str, what: &str| {
        if asked {
            faults.push(not_available(path, what));
        }
    };
    fn filled<T>(list: Option<&Vec<T>>) -> bool {
        list.is_some_and(|l| !l.is_empty())
    }
    let root = document.rootfs.as_ref().and_then(|r| r.source);
    refuse(
        root == Some(RootSource::Image),
        "rootfs.source",
        "the root source `image`",
    );
    refuse(
        root == Some(RootSource::Disk),
        "rootfs.source",
        "the root source `disk`",
    );
    if let Some(network) = &document.network {
        refuse(
            network.mode == Some(NetworkChoice::Allowlist),
            "network.mode",
            "the network mode `allowlist`",
        );
        refuse(filled(network.allow.as_ref()), "network.allow", "a network allow-list");
        refuse(
            network.audit.is_some_and(|a| a != AuditChoice::None),
            "network.audit",
            "the audit of connections",
        );
        refuse(
            network.on_denied.is_some(),
            "network.onDenied",
            "a choice for denied connections",
        );
        refuse(
            filled(network.include.as_ref()),
            "network.include",
            "a named set of hosts",
        );
        refuse(filled(network.publish.as_ref()), "network.publish", "publishing a port");
    }
    refuse(filled(document.secrets.as_ref()), "secrets", "a secret");
    refuse(filled(document.devices.as_ref()), "devices", "a device");
    refuse(document.detection.is_some(), "detection", "anomaly detection");
}
