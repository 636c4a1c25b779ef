//! `cargo xtask soak`: many runs, and many supervisors killed at random instants. After each of them nothing of the run
//! may be left: no process, no control group, no mount, no journal; and its evidence verifies, or says that it is
//! incomplete.

use crate::scratch::Scratch;
use crate::{Outcome, plain, tree};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long what is left of a killed run may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn soak(options: &[&str]) -> Outcome {
    let sample = options.contains(&"--sample");
    let runs = plain::number(options, "--runs", if sample { 20 } else { 1000 })?;
    let kills = plain::number(options, "--kills", if sample { 10 } else { 200 })?;
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |t| t.subsec_nanos());
    let seed = plain::number(options, "--seed", clock)?;
    let house = House::new()?;

    let start = Instant::now();
    for n in 0..runs {
        let status = house
            .safe_run(&["run", "--quiet", "--timeout", "20s", "--", "/bin/true"])
            .status()
            .map_err(|e| e.to_string())?;
        if !status.success() {
            return Err(format!("   run {n}: {status}"));
        }
    }
    house
        .nothing_left()
        .map_err(|what| format!("   after {runs} runs: {what}"))?;
    println!(
        "   {runs} runs in {}, nothing left behind",
        plain::seconds(start.elapsed())
    );

    let mut random = Random(u64::from(seed) | 1);
    let mut verdicts = BTreeMap::new();
    for n in 0..kills {
        let verdict = house
            .kill_one(&mut random)
            .map_err(|what| format!("   kill {n} (--seed {seed}): {what}"))?;
        *verdicts.entry(verdict).or_insert(0u32) += 1;
    }
    let told: Vec<String> = verdicts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect();
    println!(
        "   {kills} supervisors killed (--seed {seed}), nothing left behind: {}",
        told.join(", ")
    );
    Ok(())
}

/// A run store of its own, and a word that marks every process of it.
struct House {
    program: PathBuf,
    scratch: Scratch,
    mark: String,
}

impl House {
    fn new() -> Outcome<House> {
        let scratch = Scratch::new("soak")?;
        for dir in ["work", "store", "home"] {
            scratch.dir(dir)?;
        }
        // A duration for sleep that nobody else has.
        let mark = format!("30.{:07}", std::process::id());
        Ok(House {
            program: tree::safe_run()?,
            scratch,
            mark,
        })
    }

    fn store(&self) -> PathBuf {
        self.scratch.path().join("store")
    }

    fn safe_run(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .current_dir(self.scratch.path().join("work"))
            .stdin(Stdio::null());
        command
            .env("SAFE_RUN_WORKDIR_BASE", self.store())
            .env("SAFE_RUN_KEY_DIR", self.scratch.path().join("keys"));
        command.env("HOME", self.scratch.path().join("home"));
        command
    }

    /// The ids of all runs in the store.
    fn runs(&self) -> Vec<String> {
        let mut names = names(&self.store().join("runs"));
        names.sort();
        names
    }

    /// Starts a run, kills its supervisor somewhere on its way, and cleans up as a person would.
    fn kill_one(&self, random: &mut Random) -> Outcome<String> {
        let before = self.runs().len();
        let script = format!("echo one > file; sleep 0.0{}; : {}", random.below(9), self.mark);
        let mut command = self.safe_run(&["run", "--quiet", "--timeout", "20s", "--", "/bin/sh", "-c", &script]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        // Half of them while the sandbox is being made, the other half anywhere.
        let span = if random.below(2) == 0 { 8_000 } else { 120_000 };
        std::thread::sleep(Duration::from_micros(random.below(span)));
        // It may have come to its end before.
        let _ = child.kill();
        child.wait().map_err(|e| e.to_string())?;

        let collected = self.safe_run(&["gc"]).output().map_err(|e| e.to_string())?;
        if !collected.status.success() {
            return Err(format!(
                "gc: {}: {}",
                collected.status,
                String::from_utf8_lossy(&collected.stderr).trim()
            ));
        }
        self.nothing_left()?;
        let runs = self.runs();
        let Some(run) = runs.last().filter(|_| runs.len() > before) else {
            return Ok("before the run had a folder".into());
        };
        let verified = self
            .safe_run(&["report", "verify", run])
            .output()
            .map_err(|e| e.to_string())?;
        match verified.status.code() {
            Some(0) => Ok("verified (0)".into()),
            Some(3) => Ok("incomplete (3)".into()),
            // Killed before anything was signed.
            Some(1) => Ok("refused (1)".into()),
            _ => Err(format!("report verify: {}", verified.status)),
        }
    }

    /// Waits until nothing of this store's runs is left, or says what is.
    fn nothing_left(&self) -> Outcome {
        let start = Instant::now();
        loop {
            match self.leftover() {
                None => return Ok(()),
                Some(what) if start.elapsed() > PATIENCE => return Err(what),
                Some(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            // A group can be removed once its processes are gone.
            let _ = self.safe_run(&["gc"]).output();
        }
    }

    fn leftover(&self) -> Option<String> {
        let journals = names(&self.store().join("journal"));
        if !journals.is_empty() {
            return Some(format!("journals are left: {journals:?}"));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let scratch = self.scratch.path().display().to_string();
        if let Some(mount) = mounts.lines().find(|line| line.contains(&scratch)) {
            return Some(format!("a mount is left: {mount}"));
        }
        for pid in names(Path::new("/proc"))
            .iter()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // An init shows no command line; its environment is the supervisor's, for those who may read it.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let says = |bytes: &[u8], what: &str| String::from_utf8_lossy(bytes).contains(what);
            let own = pid.parse() == Ok(std::process::id());
            if says(&words, &self.mark) || (!own && says(&environment, &format!("SAFE_RUN_WORKDIR_BASE={scratch}"))) {
                return Some(format!(
                    "process {pid} is left: {}",
                    String::from_utf8_lossy(&words).replace('\0', " ")
                ));
            }
        }
        let runs = self.runs();
        groups(Path::new("/sys/fs/cgroup"), 0)
            .into_iter()
            .find(|path| {
                path.file_name()
                    .and_then(|n| n.to_str())
                    .is_some_and(|n| runs.iter().any(|run| n.contains(run)))
            })
            .map(|path| format!("a control group is left: {}", path.display()))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .collect()
}

/// All control groups below `dir`.
fn groups(dir: &Path, depth: u32) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for path in entries
        .flatten()
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

/// xorshift64: repeatable by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
