//! What is there that runs could have left: processes, namespaces, mounts, control groups, files.

use super::house::House;
use crate::Outcome;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run's folder may hold.
const EVIDENCE: [&str; 9] = [
    "run_report.json",
    "events.jsonl",
    "policy.json",
    "bundle.json",
    "changes.json",
    "head.launch.json",
    "attestation.sigstore.json",
    "signer.pub",
    "layers",
];

/// The processes, namespaces and mounts of these pid and mount namespaces.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    processes: BTreeSet<String>,
    /// `mnt:[4026531841]`, held by a process or by a descriptor of one.
    namespaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
}

impl Seen {
    pub fn now() -> Seen {
        let numbers = |name: &String| name.bytes().all(|b| b.is_ascii_digit());
        let processes: BTreeSet<String> = names(Path::new("/proc")).into_iter().filter(numbers).collect();
        let mut namespaces = BTreeSet::new();
        for pid in &processes {
            for dir in ["ns", "fd"] {
                let links = fs::read_dir(format!("/proc/{pid}/{dir}"))
                    .into_iter()
                    .flatten()
                    .flatten();
                let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
                let texts = targets.filter_map(|target| target.into_os_string().into_string().ok());
                namespaces.extend(texts.filter(|text| text.contains(":[") && !is_a_file(text)));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Seen {
            processes,
            namespaces,
            mounts: mounts.lines().map(str::to_owned).collect(),
        }
    }

    /// Waits until nothing is there that was not there before, or says what is. A process that was killed takes a moment.
    pub fn nothing_since(&self) -> Outcome {
        let start = Instant::now();
        loop {
            let now = Seen::now();
            let new = [
                ("process", now.processes.difference(&self.processes).next()),
                ("namespace", now.namespaces.difference(&self.namespaces).next()),
                ("mount", now.mounts.difference(&self.mounts).next()),
            ];
            let Some((what, which)) = new.into_iter().find_map(|(what, new)| Some((what, new?))) else {
                return match self.mounts.difference(&now.mounts).next() {
                    Some(gone) => Err(format!("a mount is gone: {gone}")),
                    None => Ok(()),
                };
            };
            if start.elapsed() > PATIENCE {
                return Err(format!("a {what} is left: {which}{}", told(what, which)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn is_a_file(text: &str) -> bool {
    ["pipe:", "socket:", "anon_inode:"]
        .iter()
        .any(|kind| text.starts_with(kind))
}

fn told(what: &str, which: &str) -> String {
    match what {
        "process" => {
            let status = fs::read_to_string(format!("/proc/{which}/status")).unwrap_or_default();
            let lines = status.lines().filter(|l| {
                ["Name:", "State:", "PPid:", "NSpid:"]
                    .iter()
                    .any(|key| l.starts_with(key))
            });
            format!(" ({})", lines.collect::<Vec<_>>().join(", ").replace('\t', " "))
        }
        _ => String::new(),
    }
}

/// Whether files, journals and control groups are what they are between two runs; else what is left.
pub fn files(house: &House) -> Outcome {
    let store = house.store();
    let expect = |dir: PathBuf, fine: &dyn Fn(&str) -> bool| -> Outcome {
        match names(&dir).iter().find(|name| !fine(name)) {
            Some(name) => Err(format!("a file is left: {}", dir.join(name).display())),
            None => Ok(()),
        }
    };
    expect(store.clone(), &|name| {
        ["runs", "sessions", "cache", "journal"].contains(&name)
    })?;
    expect(store.join("journal"), &|_| false)?;
    expect(store.join("sessions"), &|_| false)?;
    // A digest, or a work tree's listings, under the number of what it is about; with an ending while it is written.
    expect(store.join("cache"), &|name| !name.contains('.'))?;
    expect(house.path("keys"), &|name| !name.starts_with('.'))?;
    expect(house.path("runtime"), &|name| name == "safe-run")?;
    expect(house.path("runtime/safe-run"), &|name| !name.starts_with('.'))?;
    for dir in ["home", "tmp", "work"] {
        expect(house.path(dir), &|_| false)?;
    }
    let runs = house.runs();
    for run in &runs {
        expect(store.join("runs").join(run), &|name| EVIDENCE.contains(&name))?;
    }
    let ours = |path: &Path| {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.strip_prefix("safe-run-"));
        name.is_some_and(|id| runs.binary_search_by(|run| run.as_str().cmp(id)).is_ok())
    };
    match groups(Path::new("/sys/fs/cgroup"), 0)
        .into_iter()
        .find(|path| ours(path))
    {
        Some(group) => Err(format!("a control group is left: {}", group.display())),
        None => Ok(()),
    }
}

/// The names in a directory, sorted; none where it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// All control groups below `dir`.
fn groups(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for path in entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
    {
        if depth < 8 {
            found.extend(groups(&path, depth + 1));
        }
        found.push(path);
    }
    found
}
