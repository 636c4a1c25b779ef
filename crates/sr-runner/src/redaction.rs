//! What the evidence must not hold: values of environment variables, which are where people put secrets. Their names
//! stay. Nor may it hold a digest over such values without salt: a short secret could be guessed from it.

use serde_json::Value;
use sr_common::Digest;
use sr_compiler::CompileBundle;
use sr_policy::PolicySpec;
use std::borrow::Cow;

const WITHHELD: &str = "(not recorded)";

/// The policy as it is recorded.
pub(crate) fn policy(policy: &PolicySpec) -> Cow<'_, PolicySpec> {
    if policy.runtime.env.is_empty() {
        return Cow::Borrowed(policy);
    }
    let mut recorded = policy.clone();
    recorded
        .runtime
        .env
        .values_mut()
        .for_each(|value| *value = WITHHELD.into());
    Cow::Owned(recorded)
}

/// The bundle as it is recorded; its input digest is that of the recorded policy.
pub(crate) fn bundle<'a>(
    bundle: &'a CompileBundle,
    policy: &PolicySpec,
    recorded_policy: Digest,
) -> Cow<'a, CompileBundle> {
    if policy.runtime.env.is_empty() && bundle.inputs.policy == recorded_policy {
        return Cow::Borrowed(bundle);
    }
    let mut recorded = bundle.clone();
    recorded.inputs.policy = recorded_policy;
    if let Some(wall) = &mut recorded.wall_plan {
        wall.around.inputs.policy = recorded_policy;
    }
    for (name, value) in &mut recorded.process_plan.env {
        if policy.runtime.env.contains_key(name) {
            *value = WITHHELD.into();
        }
    }
    Cow::Owned(recorded)
}

/// The flags as they are digested.
pub(crate) fn overlay(overlay: &Value) -> Value {
    let mut recorded = overlay.clone();
    if let Some(env) = recorded.get_mut("env").and_then(Value::as_object_mut) {
        env.values_mut().for_each(|value| *value = WITHHELD.into());
    }
    recorded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        let mut spec = sr_policy::preset("standard").unwrap();
        spec.runtime.env.insert("TOKEN".into(), "hunter2".into());
        let recorded = serde_json::to_string(&policy(&spec)).unwrap();
        assert!(recorded.contains("TOKEN") && !recorded.contains("hunter2"));
        let flags = overlay(&serde_json::json!({"env": {"TOKEN": "hunter2"}, "cpu": 1}));
        assert_eq!(flags, serde_json::json!({"env": {"TOKEN": WITHHELD}, "cpu": 1}));
    }

    /// A digest over values without salt, of the sandbox around a monitor as of the program's own.
    #[test]
    fn no_digest_over_values_stays_in_a_bundle() {
        let mut spec = sr_policy::preset("standard").unwrap();
        spec.mounts.clear();
        spec.runtime.command = Some("/bin/true".into());
        spec.runtime.env.insert("TOKEN".into(), "hunter2".into());
        let dir = tempfile::tempdir().unwrap();
        let store = crate::Store::open(&dir.path().join("store")).unwrap();
        let caller = crate::request::tests::caller(dir.path());
        let compiled = crate::compile_for_host(&spec, &Default::default(), &caller, &store).unwrap();
        let mut made = compiled.bundle;
        let secret = made.inputs.policy;
        made.wall_plan = Some(sr_compiler::bundle::WallPlan {
            monitor: sr_compiler::bundle::MonitorPlan::Gvisor { argv: Vec::new() },
            root: "/guest".into(),
            images: Vec::new(),
            boot_timeout: sr_common::Millis(1000),
            around: Box::new(made.clone()),
        });
        let recorded = serde_json::to_string(&bundle(&made, &spec, Digest::of(b"recorded"))).unwrap();
        assert!(serde_json::to_string(&made).unwrap().contains(&secret.to_string()));
        assert!(!recorded.contains(&secret.to_string()));
    }
}
