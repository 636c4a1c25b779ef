//! The host's own settings, which no case may change: its names, what is below /proc/sys/kernel and /proc/sys/vm, its mounts.

use std::collections::BTreeMap;
use std::fs;

pub type Settings = BTreeMap<String, String>;

/// Files that change by themselves.
const RESTLESS: [&str; 4] = ["ns_last_pid", "sched_domain", "stat_refresh", "compact_memory"];

pub fn settings() -> Settings {
    let mut settings = Settings::new();
    for group in ["kernel", "vm"] {
        let dir = format!("/proc/sys/{group}");
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if RESTLESS.contains(&name.as_str()) || !entry.file_type().is_ok_and(|t| t.is_file()) {
                continue;
            }
            // What cannot be read cannot be compared: some are for writing only.
            if let Ok(value) = fs::read_to_string(entry.path()) {
                settings.insert(format!("{group}.{name}"), value);
            }
        }
    }
    settings.insert(
        "mounts".into(),
        fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
    );
    settings
}

/// The settings that are other than `before`. They are put back where that can be done.
pub fn differences(before: &Settings) -> Vec<String> {
    let now = settings();
    let mut names = Vec::new();
    for (name, value) in before {
        if now.get(name) == Some(value) {
            continue;
        }
        names.push(format!("{name} is other"));
        if let Some((group, file)) = name.split_once('.') {
            // Only root can, and not always; what is not put back shows in every case after this one.
            let _ = fs::write(format!("/proc/sys/{group}/{file}"), value);
        }
    }
    names
}
