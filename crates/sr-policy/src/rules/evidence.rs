//! Rules about evidence: its interval, and what cannot go with keeping none.

use super::Rule;
use crate::spec::{Durability, ObserveScope, PolicySpec, RootWritable};
use sr_common::{Fault, Millis};

const INTERVAL: Rule = Rule::new("SR-RULE-sample-interval-range", "`sampleInterval` is 10ms to 1h.");
const NOT_KEPT: Rule = Rule::new(
    "SR-RULE-evidence-none",
    "With `durability: none`, nothing is signed or observed, no write is captured and there is no session.",
);

pub(super) const RULES: &[Rule] = &[INTERVAL, NOT_KEPT];

const HOUR: u64 = 3_600_000;

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let evidence = &spec.evidence;
    if !(Millis(10)..=Millis(HOUR)).contains(&evidence.sample_interval) {
        faults.push(INTERVAL.fault(
            "evidence.sampleInterval",
            evidence.sample_interval.to_string(),
            "write 10ms to 1h",
        ));
    }
    if evidence.durability != Durability::None {
        return;
    }
    let mut refuse = |path: String, found: &str, remedy: &str| {
        let found = format!("{found}, where `evidence.durability: none` keeps nothing");
        let remedy = format!("{remedy}, or keep evidence: durability: process");
        faults.push(NOT_KEPT.fault(path, found, remedy));
    };
    if evidence.sign != "none" {
        refuse("evidence.sign".into(), "a signature", "write sign: none");
    }
    for (i, _) in spec.mounts.iter().enumerate().filter(|(_, mount)| mount.captured) {
        let path = format!("mounts[{i}].captured");
        refuse(path, "captured writes", "write captured: false");
    }
    if spec.rootfs.writable == RootWritable::Overlay {
        refuse("rootfs.writable".into(), "captured writes", "write writable: readOnly");
    }
    if spec.evidence.observe != ObserveScope::None {
        refuse(
            "evidence.observe".into(),
            "what the program does is to be recorded",
            "write observe: none",
        );
    }
    if spec.session.is_some() {
        refuse("session".into(), "a session", "write session: none");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn what_would_have_to_be_kept_is_refused_where_nothing_is() {
        let mut spec = preset("agent").unwrap();
        spec.rootfs.writable = RootWritable::Overlay;
        spec.evidence.observe = ObserveScope::Calls;
        let paths = |spec: &PolicySpec| {
            let mut faults = Vec::new();
            check(spec, &mut faults);
            faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
        };
        assert!(paths(&spec).is_empty());
        spec.evidence.durability = Durability::None;
        let all = [
            "evidence.sign",
            "mounts[0].captured",
            "rootfs.writable",
            "evidence.observe",
            "session",
        ];
        assert_eq!(paths(&spec), all);
    }
}
