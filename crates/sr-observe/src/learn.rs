//! What a program was seen to do, and the smallest policy that lets it: its capability closure.

use crate::places::{self, Shown};
use serde::{Deserialize, Serialize};
use sr_common::{ByteSize, Control, Millis, Usage, path};
use sr_policy::PolicySpec;
use sr_policy::spec::{Mount, ObserveScope, OnDenied, SyscallProfile};
use std::collections::{BTreeMap, BTreeSet};

/// What was seen of one run, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observation {
    /// System calls by name; with those that an argument selects the use of, its values.
    pub calls: BTreeMap<String, BTreeSet<u32>>,
    /// Files and directories by their place in the view, and the most that was done with each.
    pub files: BTreeMap<String, Use>,
    /// Things that were seen and not kept: there were too many, or they could not be read.
    pub lost: u64,
}

/// What was done with a file, the least first: what is allowed for a later one allows the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Use {
    /// It was looked at, or its names were.
    Listed,
    Read,
    Executed,
    /// Its attributes were changed.
    Marked,
    /// What is in it was changed.
    Changed,
    /// Names in this directory were made, replaced or taken away.
    Filled,
}

/// So many files are kept.
const MOST_FILES: usize = 50_000;
/// So many values of a call's selecting argument are kept; a policy holds as many.
const MOST_VALUES: usize = 256;

impl Observation {
    pub fn call(&mut self, name: &str, selector: Option<u32>) {
        if !self.calls.contains_key(name) {
            self.calls.insert(name.to_owned(), BTreeSet::new());
        }
        if let (Some(values), Some(value)) = (self.calls.get_mut(name), selector) {
            match values.len() < MOST_VALUES || values.contains(&value) {
                true => drop(values.insert(value)),
                false => self.lost += 1,
            }
        }
    }

    pub fn file(&mut self, path: String, used: Use) {
        let room = self.files.len() < MOST_FILES;
        match self.files.get_mut(&path) {
            Some(known) => *known = used.max(*known),
            None if room => drop(self.files.insert(path, used)),
            None => self.lost += 1,
        }
    }

    /// This one and another together.
    pub fn merge(&mut self, other: Observation) {
        for (name, values) in other.calls {
            self.call(&name, None);
            for value in values {
                self.call(&name, Some(value));
            }
        }
        for (path, used) in other.files {
            self.file(path, used);
        }
        self.lost += other.lost;
    }
}

/// Calls that a program makes or not as its processes come to meet: another run of the same may need them. Each with what
/// stands for it.
const COMPANIONS: [(&str, &[&str]); 5] = [
    ("clone", &["wait4", "futex", "set_robust_list", "rseq"]),
    ("fork", &["wait4"]),
    ("vfork", &["wait4"]),
    ("rt_sigaction", &["rt_sigprocmask"]),
    ("nanosleep", &["clock_nanosleep"]),
];

/// The size of a closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Size {
    /// System calls that the policy allows, those of every start and end included.
    pub calls: usize,
    /// Of them, how many with named arguments only.
    pub by_argument: usize,
    /// Files of the view that were read, and the places that the policy names for them.
    pub read: (usize, usize),
    /// The same of files that were changed, and of directories in which names were.
    pub changed: (usize, usize),
}

/// The smallest policy under `base` that lets happen what was seen. `floor`: the calls that every policy has. `used`: what
/// the run used at most; `time` how long it took. `shown`: the view; `besides`: what of it the kernel itself opened.
pub fn policy(
    base: &PolicySpec,
    seen: &Observation,
    floor: &[&str],
    (used, time): (&Usage, Millis),
    (shown, besides): (&Shown, &BTreeSet<String>),
) -> (PolicySpec, Size) {
    let mut spec = base.clone();
    spec.metadata.name = "learned".into();
    let mut calls: BTreeSet<&str> = seen.calls.keys().map(String::as_str).collect();
    for (name, with) in COMPANIONS {
        if calls.contains(name) {
            calls.extend(with);
        }
    }
    calls.retain(|name| !floor.contains(name) && !base.syscalls.deny.iter().any(|denied| denied == name));
    spec.syscalls.profile = SyscallProfile::Named;
    spec.syscalls.allow = calls.iter().map(|name| (*name).to_owned()).collect();
    spec.syscalls.deny = Vec::new();
    if spec.syscalls.on_denied == OnDenied::Log {
        spec.syscalls.on_denied = OnDenied::Errno;
    }
    let selected = seen
        .calls
        .iter()
        .filter(|(name, values)| !values.is_empty() && calls.contains(name.as_str()));
    spec.syscalls.arguments = selected
        .map(|(name, values)| (name.clone(), values.iter().copied().collect()))
        .collect();
    spec.mounts = base
        .mounts
        .iter()
        .zip(&shown.mounts)
        .map(|(mount, target)| mounted(mount, target, seen))
        .collect();
    let files = places::files(seen, shown, besides, base.files.as_ref());
    limits(&mut spec, used, time);
    spec.evidence.observe = ObserveScope::None;
    spec.evidence.denied = base.evidence.denied;
    let own = |path: &str| ["/proc/", "/dev/"].iter().any(|own| path.starts_with(own));
    let count = |is: fn(Use) -> bool| {
        let files = seen.files.iter().filter(|(path, _)| !own(path));
        files.filter(|(_, used)| is(**used)).count()
    };
    let size = Size {
        calls: calls.len() + floor.len(),
        by_argument: spec.syscalls.arguments.len(),
        read: (
            count(|used| (Use::Read..Use::Changed).contains(&used)),
            files.read.len(),
        ),
        changed: (count(|used| used >= Use::Changed), files.write.len()),
    };
    // Where it may be missing it cannot hold them.
    spec.files = (!base.degrade.contains(&Control::Landlock)).then_some(files);
    (spec, size)
}

/// What the program may change in place, and only read, is shown read-only. A captured directory stays one: no write of it
/// reaches the host, and its files seem to be the program's own, which git for one insists on.
fn mounted(mount: &Mount, target: &str, seen: &Observation) -> Mount {
    let changed = seen
        .files
        .iter()
        .any(|(path, used)| *used >= Use::Marked && path::within(path, target));
    Mount {
        read_only: mount.read_only || !(changed || mount.captured),
        ..mount.clone()
    }
}

/// Twice what was used, in steps that are wide enough to be the same for two runs of the same program, and never more than
/// `base` grants.
fn limits(spec: &mut PolicySpec, used: &Usage, time: Millis) {
    let steps = |used: u64, least: u64| used.saturating_mul(2).max(least).next_power_of_two();
    let limits = &mut spec.resources;
    let lower = |step: u64, base: Option<u64>| base.map_or(step, |base| base.min(step));
    let memory = lower(
        steps(used.memory_bytes.unwrap_or(0), 128 << 20),
        limits.memory.map(|size| size.0),
    );
    limits.memory = Some(ByteSize(memory));
    let pids = lower(steps(used.pids.unwrap_or(0), 16), limits.pids.map(u64::from));
    limits.pids = u32::try_from(pids).ok().or(limits.pids);
    limits.disk = ByteSize(limits.disk.0.min(steps(used.disk_bytes.unwrap_or(0), 64 << 20)));
    // Whole minutes, and room for a machine that is busy.
    const MINUTE: u64 = 60_000;
    let wall = (time.0.saturating_mul(8).div_ceil(MINUTE)).next_power_of_two() * MINUTE;
    limits.wall_time = Millis(limits.wall_time.0.min(wall));
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_policy::preset;

    fn seen() -> Observation {
        let mut seen = Observation::default();
        for name in ["read", "openat", "clone", "exit_group"] {
            seen.call(name, None);
        }
        seen.call("ioctl", Some(0x5401));
        seen.call("ioctl", Some(0x5413));
        seen.file("/work/a".into(), Use::Read);
        seen.file("/work/a".into(), Use::Listed);
        seen
    }

    #[test]
    fn a_closure_holds_what_was_seen_and_its_companions() {
        let mut base = preset("standard").unwrap();
        base.mounts[0].captured = false;
        let used = Usage {
            memory_bytes: Some(100 << 20),
            pids: Some(3),
            ..Usage::default()
        };
        let shown = Shown {
            mounts: vec!["/work".into()],
            writable: vec!["/work".into(), "/tmp".into()],
            ..Shown::default()
        };
        let nothing = BTreeSet::new();
        let of = |seen: &Observation| policy(&base, seen, &["exit_group"], (&used, Millis(300)), (&shown, &nothing));
        let (spec, size) = of(&seen());
        let calls = [
            "clone",
            "futex",
            "ioctl",
            "openat",
            "read",
            "rseq",
            "set_robust_list",
            "wait4",
        ];
        assert_eq!(spec.syscalls.allow, calls);
        assert_eq!(spec.syscalls.arguments["ioctl"], [0x5401, 0x5413]);
        assert_eq!(
            (size.calls, size.by_argument, size.read, size.changed),
            (9, 1, (1, 1), (0, 0))
        );
        assert_eq!(spec.files.unwrap().read, ["/work/a"]);
        assert!(spec.mounts[0].read_only);
        let limits = &spec.resources;
        assert_eq!((limits.memory, limits.pids), (Some(ByteSize(256 << 20)), Some(16)));
        assert_eq!((limits.disk, limits.wall_time), (ByteSize(64 << 20), Millis(60_000)));

        let mut more = seen();
        more.merge(Observation {
            files: [
                ("/work/a".to_owned(), Use::Changed),
                ("/workshop/b".to_owned(), Use::Changed),
            ]
            .into(),
            ..Observation::default()
        });
        let (spec, size) = of(&more);
        assert!(!spec.mounts[0].read_only && (size.read, size.changed) == ((0, 1), (2, 1)));
    }

    #[test]
    fn too_much_is_counted_and_not_kept() {
        let mut seen = Observation::default();
        for value in 0..300 {
            seen.call("ioctl", Some(value));
        }
        assert_eq!((seen.calls["ioctl"].len(), seen.lost), (MOST_VALUES, 44));
    }
}
