//! Seccomp profiles of other tools (the OCI runtime specification's, Docker's, Kubernetes'), read as a policy's system calls.

use serde::Deserialize;
use sr_policy::never_allowed;
use sr_policy::spec::{OnDenied, SyscallProfile, Syscalls};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    /// Before Docker 1.13.
    name: Option<String>,
    action: String,
    args: Option<Vec<Argument>>,
    includes: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

impl Argument {
    /// The one value that it may have, on its low half: what is selected by is an `int`.
    fn only(&self) -> Option<u32> {
        match self.op.as_str() {
            "SCMP_CMP_EQ" => Some(self.value as u32),
            "SCMP_CMP_MASKED_EQ" if self.value as u32 == u32::MAX => Some(self.value_two as u32),
            _ => None,
        }
    }
}

/// What a profile allows, and what of it a policy cannot say, a sentence each.
///
/// # Errors
/// What is wrong with it, in words: it is no such profile, or it allows by default, so that it names no smallest set.
pub fn import(text: &str, selector: impl Fn(&str) -> Option<u8>) -> Result<(Syscalls, Vec<String>), String> {
    let document: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    // The whole configuration of a container, or its part.
    let part = document.pointer("/linux/seccomp").unwrap_or(&document);
    let profile = Profile::deserialize(part).map_err(|e| format!("not a seccomp profile: {e}"))?;
    let on_denied = match profile.default_action.as_str() {
        "SCMP_ACT_ERRNO" | "SCMP_ACT_NOTIFY" => OnDenied::Errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_PROCESS" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_TRAP" => OnDenied::Kill,
        "SCMP_ACT_LOG" => OnDenied::Log,
        other => {
            return Err(format!(
                "its default is {other}: only a profile that names what it allows can be read"
            ));
        }
    };
    let mut notes = Vec::new();
    let mut allow = BTreeSet::new();
    let mut arguments: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    let mut whole = BTreeSet::new();
    for entry in profile.syscalls {
        let names: Vec<String> = entry.names.into_iter().chain(entry.name).collect();
        // What holds with a capability, or on another architecture, is not given: there is none here.
        if let Some(condition) = entry.includes.filter(|includes| !includes.is_empty()) {
            let of: Vec<&str> = condition.keys().map(String::as_str).collect();
            notes.push(format!("left out, for {} alone: {}", of.join(", "), names.join(" ")));
            continue;
        }
        // What is not named is denied anyway.
        if entry.action != "SCMP_ACT_ALLOW" {
            continue;
        }
        for name in names {
            if never_allowed(&name) {
                notes.push(format!("left out, part of the wall: {name}"));
                continue;
            }
            match entry.args.as_deref().unwrap_or_default() {
                [] => drop(whole.insert(name.clone())),
                [one] if selector(&name) == Some(one.index) && one.only().is_some() => {
                    arguments.entry(name.clone()).or_default().extend(one.only());
                }
                _ => notes.push(format!("its conditions are Safe-Run's own here: {name}")),
            }
            allow.insert(name);
        }
    }
    arguments.retain(|name, _| !whole.contains(name));
    notes.sort();
    notes.dedup();
    let syscalls = Syscalls {
        profile: SyscallProfile::Named,
        allow: allow.into_iter().collect(),
        deny: Vec::new(),
        on_denied,
        arguments: arguments
            .into_iter()
            .map(|(name, values)| (name, values.into_iter().collect()))
            .collect(),
    };
    Ok((syscalls, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(name: &str) -> Option<u8> {
        (name == "ioctl").then_some(1)
    }

    #[test]
    fn a_profile_becomes_a_policy_and_what_it_cannot_say_is_said() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "write", "mount"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 21505, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
        let (calls, notes) = import(text, selector).unwrap();
        assert_eq!(calls.allow, ["ioctl", "personality", "read", "write"]);
        assert_eq!(calls.arguments["ioctl"], [21505]);
        assert_eq!(
            notes,
            [
                "its conditions are Safe-Run's own here: personality",
                "left out, for caps alone: bpf",
                "left out, part of the wall: mount",
            ]
        );
        let whole = format!("{{\"linux\": {{\"seccomp\": {text}}}}}");
        assert_eq!(import(&whole, selector).unwrap().0, calls);
    }

    #[test]
    fn what_is_no_list_of_what_is_allowed_is_refused() {
        for text in ["", "[]", "{}", r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#] {
            assert!(import(text, selector).is_err(), "{text}");
        }
    }
}
