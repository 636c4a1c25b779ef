//! The ground: what is planted outside for one case, and what of it was tripped.

use super::hold::{self, Ended};
use super::host;
use super::tools::Tools;
use super::wall::Wall;
use crate::Outcome;
use sr_escape::tree::{self, Entry, Files, for_each_file, plant, snapshot};
use sr_escape::trip::{self, Canary, Trip, Words, random, read_in};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The words that only the runner knows, and where each of them is.
const WORDS: [&str; 11] = [
    "secret",
    "public",
    "memory",
    "arguments",
    "environment",
    "shm",
    "sysv",
    "msg",
    "mq",
    "key",
    "tool",
];

/// Names below the project that something on the host runs or obeys by itself.
const RUNS_BY_ITSELF: [&str; 8] = [
    ".git",
    ".envrc",
    ".vscode",
    ".husky",
    "Makefile",
    "conftest.py",
    "package.json",
    "build.rs",
];

pub struct Ground {
    pub dir: PathBuf,
    words: Words,
    /// `key=value` words that a case is told.
    pub told: Vec<String>,
    given: String,
    uid: Option<u32>,
    planter: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    tool: PathBuf,
    pub victim: u32,
    memory: u64,
    victim_before: String,
    files_before: Files,
    host_before: host::Settings,
}

impl Ground {
    /// Plants everything in `dir`, which holds `escape/` already, as user `uid`.
    pub fn new(tools: &Tools, dir: PathBuf, uid: Option<u32>) -> Outcome<Ground> {
        let words = trip::words(&WORDS)?;
        let of = |word: &str| words.get(word).cloned().unwrap_or_default();
        plant(&dir, &of("secret"), &of("public")).map_err(|e| format!("{}: {e}", dir.display()))?;
        if let Some(uid) = uid {
            own(&dir, uid).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        let name = format!("escape-{}", random()?);
        let key = |random: String| u32::from_str_radix(&random[..7], 16).unwrap_or(1) | 1;
        let (sysv, msg) = (key(random()?), key(random()?));
        let mut given = String::new();
        for (word, value) in &words {
            given += &format!("{word} {value}\n");
        }
        given += &format!("abstract-name {name}\nshm-name {name}\nmq-name {name}\nkey-name {name}\n");
        given += &format!("sysv-key {sysv}\nmsg-key {msg}\nplant\n");

        let mut planter = Command::new(&tools.ground)
            .args(["plant", &hold::number(uid)])
            .arg(&dir)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", tools.ground.display()))?;
        let (Some(orders), Some(answers)) = (planter.stdin.take(), planter.stdout.take()) else {
            return Err("no pipes to the planter".into());
        };
        let mut ground = Ground {
            dir,
            words,
            told: Vec::new(),
            given,
            uid,
            planter,
            orders: Some(orders),
            answers: BufReader::new(answers),
            tool: tools.ground.clone(),
            victim: 0,
            memory: 0,
            victim_before: String::new(),
            files_before: Files::new(),
            host_before: host::Settings::new(),
        };
        let given = ground.given.clone();
        let facts = ground
            .ask(&given, "ready")
            .ok_or("the planter could not plant, see above")?;
        let fact = |name: &str| -> u64 {
            let line = facts.iter().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|n| n.parse().ok()).unwrap_or_default()
        };
        ground.victim = u32::try_from(fact("pid")).unwrap_or_default();
        ground.memory = fact("memory");
        ground.told = vec![
            format!("dir={}", ground.dir.display()),
            format!("pid={}", ground.victim),
            format!("tcp={}", fact("tcp")),
            format!("udp={}", fact("udp")),
            format!("abstract={name}"),
            format!("shm={name}"),
            format!("sysv={sysv}"),
            format!("msg={msg}"),
            format!("mq=/{name}"),
            format!("key={name}"),
        ];
        ground.victim_before = ground.settled()?;
        ground.files_before = snapshot(&ground.dir);
        ground.host_before = host::settings();
        Ok(ground)
    }

    /// The word in the environment of the tool that is under test.
    pub fn tool_word(&self) -> &str {
        self.words.get("tool").map_or("", String::as_str)
    }

    /// What was tripped, each once and in order. `stores` may hold what the case wrote.
    pub fn tripped(&mut self, ended: &Ended, wall: Wall, stores: &[&Path]) -> Vec<Trip> {
        let mut trips = read_in(&ended.output, &self.words);
        let after = snapshot(&self.dir);
        let counts = |path: &Path, was: bool, now: Option<&Entry>| counts(wall, path, was, now);
        trips.extend(tree::trips(&self.files_before, &after, &self.words, counts));
        for store in stores {
            for_each_file(store, &mut |content| trips.extend(read_in(content, &self.words)));
        }
        trips.extend(self.harm());
        if ended.arrived {
            trips.push(Trip::new(Canary::Connect, "the tool's standard input"));
        }
        if ended.pushed {
            trips.push(Trip::new(Canary::Change, "what is typed on the terminal"));
        }
        trips.extend(
            ended
                .left
                .iter()
                .map(|name| Trip::new(Canary::Host, format!("a process stays: {name}"))),
        );
        for name in host::differences(&self.host_before) {
            trips.push(Trip::new(Canary::Host, name));
        }
        match self.ask("report\n", "end") {
            None => trips.push(Trip::new(Canary::Process, "the planter is gone")),
            Some(lines) => {
                let trip = |line: String| {
                    let (canary, what) = line.split_once(' ')?;
                    Some(Trip::new(Canary::parse(canary)?, what))
                };
                trips.extend(lines.into_iter().filter_map(trip));
            }
        }
        trips.sort();
        trips.dedup();
        trips
    }

    /// What was done to the victim.
    fn harm(&self) -> Vec<Trip> {
        let trip = |what: &str| vec![Trip::new(Canary::Process, what)];
        let after = self.at_rest();
        if after.is_empty() || after.contains("State:\tZ") {
            return trip("the victim is gone");
        }
        if self.memory_word().as_deref() != self.words.get("memory").map(String::as_bytes) {
            return trip("the victim's memory is other");
        }
        let before: Vec<&str> = self.victim_before.lines().collect();
        let differs = after.lines().enumerate().find(|(i, line)| before.get(*i) != Some(line));
        match differs {
            None => Vec::new(),
            Some((_, line)) if line.contains("ctxt_switches") => trip("the victim was woken"),
            Some((_, line)) => trip(&format!(
                "the victim's {} is other",
                line.split([':', ' ', '\t']).next().unwrap_or_default()
            )),
        }
    }

    /// The victim's state, once it does nothing: one that was killed needs a processor to die on, one that was woken another
    /// to fall asleep on.
    fn at_rest(&self) -> String {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let now = state(self.victim);
            if !(now.contains("State:\tR") || now.contains("State:\tD")) || Instant::now() > until {
                return now;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn memory_word(&self) -> Option<Vec<u8>> {
        let memory = fs::File::open(format!("/proc/{}/mem", self.victim)).ok()?;
        let mut word = vec![0; self.words.get("memory")?.len()];
        memory.read_exact_at(&mut word, self.memory).ok()?;
        Some(word)
    }

    /// The victim's state once it sleeps for good.
    fn settled(&self) -> Outcome<String> {
        let until = Instant::now() + Duration::from_secs(10);
        let mut last = String::new();
        while Instant::now() < until {
            let open = |n: u32| Path::new(&format!("/proc/{}/fd/{n}", self.victim)).exists();
            let now = state(self.victim);
            if now == last && now.contains("State:\tS") && !open(0) && !open(1) {
                return Ok(now);
            }
            last = now;
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("the victim does not come to rest:\n{last}"))
    }

    /// Sends `order`; gives the lines up to `last`.
    fn ask(&mut self, order: &str, last: &str) -> Option<Vec<String>> {
        let orders = self.orders.as_mut()?;
        orders.write_all(order.as_bytes()).and_then(|()| orders.flush()).ok()?;
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim_end() == last {
                return Some(lines);
            }
            lines.push(line.trim_end().to_owned());
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.orders = None;
        let until = Instant::now() + Duration::from_secs(5);
        let clean = loop {
            match self.planter.try_wait() {
                Ok(Some(status)) => break status.success(),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                _ => {
                    let _ = self.planter.kill();
                    let _ = self.planter.wait();
                    break false;
                }
            }
        };
        if clean {
            return;
        }
        // A case ended the planter: what it planted is taken away by name.
        let mut sweep = Command::new(&self.tool);
        sweep.args(["sweep", &hold::number(self.uid)]).stdin(Stdio::piped());
        if let Ok(mut child) = sweep.spawn() {
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(self.given.as_bytes());
            }
            let _ = child.wait();
        }
    }
}

/// Whether what happened at `path` below DIR is a canary's matter. Safe-Run captures what is written to the project; the
/// others were granted it, and on the bare host it is the case's own directory.
fn counts(wall: Wall, path: &Path, was_there: bool, now: Option<&Entry>) -> bool {
    let Ok(name) = path.strip_prefix("project") else {
        return true;
    };
    if wall.is_ours() || now.is_some_and(|entry| entry.mode & 0o6000 != 0 || "cb".contains(entry.kind)) {
        return true;
    }
    let first = name.components().next().map(|c| c.as_os_str());
    match first {
        None => false,
        Some(first) => RUNS_BY_ITSELF.iter().any(|own| *own == first) || (wall == Wall::Control && was_there),
    }
}

fn own(path: &Path, uid: u32) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            own(&entry?.path(), uid)?;
        }
        return chown(path, Some(uid), Some(uid));
    }
    lchown(path, Some(uid), Some(uid))
}

/// What somebody could change about a process, as the kernel tells it.
fn state(pid: u32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    // Sizes change by themselves, and the count of queued signals is the user's.
    let own = |line: &&str| !["Vm", "Rss", "Hugetlb", "SigQ"].iter().any(|p| line.starts_with(p));
    let status = read("status");
    let mut state: Vec<String> = status.lines().filter(own).map(str::to_owned).collect();
    if state.is_empty() {
        return String::new();
    }
    let stat = read("stat");
    let numbers: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    for (name, at) in [
        ("pgrp", 2),
        ("session", 3),
        ("priority", 15),
        ("nice", 16),
        ("policy", 38),
    ] {
        state.push(format!("{name}: {}", numbers.get(at).unwrap_or(&"")));
    }
    for name in ["oom_score_adj", "coredump_filter", "timerslack_ns", "cgroup"] {
        state.push(format!("{name}: {}", read(name).replace('\n', " ")));
    }
    state.extend(read("limits").lines().map(|line| format!("limits: {line}")));
    state.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_is_captured_by_us_granted_to_others() {
        let entry = |mode| Entry {
            kind: 'f',
            mode,
            facts: [0; 10],
            content: Vec::new(),
        };
        let at = |wall, path: &str, was, mode| counts(wall, Path::new(path), was, Some(&entry(mode)));
        assert!(at(Wall::Process, "project/new", false, 0o644) && at(Wall::Process, "project", true, 0o755));
        assert!(!at(Wall::Bubblewrap, "project/new", false, 0o644) && !at(Wall::Bubblewrap, "project", true, 0o755));
        assert!(at(Wall::Bubblewrap, "project/.git/hooks/x", false, 0o755));
        assert!(at(Wall::Runc, "project/new", false, 0o4755) && at(Wall::Runc, "target", true, 0o666));
        assert!(at(Wall::Control, "project/kept", true, 0o644) && !at(Wall::Runc, "project/kept", true, 0o644));
    }
}
