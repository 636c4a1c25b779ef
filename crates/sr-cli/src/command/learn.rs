//! `learn`: runs a command under a policy, watches it, and writes the smallest policy that lets it do the same again.

use crate::arguments::LearnArguments;
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::policies;
use crate::terminal::{self, clean, count};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;
use sr_common::{Code, Fault, Millis, Usage};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{ViewEntry, ViewKind};
use sr_compiler::syscalls::floor;
use sr_evidence::files;
use sr_observe::learn::{self, Observation, Size, Use};
use sr_observe::places::Shown;
use sr_observe::why;
use sr_policy::spec::{DeniedScope, Durability, ObserveScope};
use sr_policy::{Overlay, PolicySpec, render_yaml};
use sr_runner::subject::opened;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub fn learn(arguments: LearnArguments, env: &Environment) -> Done {
    let command = super::command_line(arguments.argv)?;
    let name = arguments
        .policy
        .as_deref()
        .unwrap_or_else(|| OsStr::new(policies::DEFAULT));
    let base = policies::find(name)?.spec.with_overlay(&Overlay {
        backend: arguments.backend,
        command,
        ..Overlay::default()
    })?;
    if base.runtime.command.is_none() {
        let remedy = "write it after `--`: safe-run learn [OPTIONS] -- COMMAND [ARGS]...";
        return Err(Fault::new(Code::Pol001, "runtime.command", "there is nothing to learn", remedy).into());
    }
    let mut learner = Learner {
        base: &base,
        seen: Observation::default(),
        used: Usage::default(),
        time: Millis(0),
        shown: Shown::default(),
        besides: BTreeSet::new(),
        denied: BTreeSet::new(),
        status: None,
    };
    for name in &arguments.with {
        let (_, run) = super::find_run(env, name)?;
        learner.take(&run.path)?;
    }
    for _ in 0..arguments.runs.max(1) {
        learner.watch()?;
    }
    let floor: Vec<&str> = floor().collect();
    let (spec, size) = learn::policy(
        &base,
        &learner.seen,
        &floor,
        (&learner.used, learner.time),
        (&learner.shown, &learner.besides),
    );
    match &arguments.out {
        Some(path) => policies::save(path, &spec)?,
        None => terminal::out(&render_yaml(&spec)),
    }
    terminal::err(&format!("safe-run: {}", closure(&size, learner.seen.lost)));
    match arguments.verify {
        None => Ok(0),
        Some(times) => learner.verify(&spec, times.max(1)),
    }
}

/// `23 system calls (2 by argument), 14 files read (by 3 places), 2 changed (by 1)`.
fn closure(size: &Size, lost: u64) -> String {
    let mut text = format!(
        "the closure has {} ({} by argument), {} read (by {}), {} changed (by {})",
        count(size.calls as u64, "system call"),
        size.by_argument,
        count(size.read.0 as u64, "file"),
        count(size.read.1 as u64, "place"),
        size.changed.0,
        size.changed.1
    );
    if lost > 0 {
        text += &format!("; {lost} things were seen and not kept");
    }
    text
}

/// What was learned so far.
struct Learner<'a> {
    base: &'a PolicySpec,
    seen: Observation,
    used: Usage,
    time: Millis,
    /// The view.
    shown: Shown,
    /// What of it the kernel opened by itself, to execute what the program executed.
    besides: BTreeSet<String>,
    /// What the policy beneath denied.
    denied: BTreeSet<String>,
    /// How the program ended.
    status: Option<u8>,
}

impl Learner<'_> {
    /// Runs the command once, watched.
    fn watch(&mut self) -> Result<(), Failure> {
        let mut spec = self.base.clone();
        spec.evidence.observe = ObserveScope::Calls;
        spec.evidence.denied = DeniedScope::Paths;
        if spec.evidence.durability == Durability::None {
            spec.evidence.durability = Durability::Process;
        }
        let ended = run(&spec, true)?;
        let Some(dir) = ended.dir.filter(|_| ended.cause != "supervisor") else {
            let found = "the program was not started, see above";
            return Err(Fault::new(Code::Run002, "learn", found, "mend what is said there").into());
        };
        if self.status.is_some_and(|status| status != ended.status) {
            terminal::err(&format!("safe-run: this time it ended with status {}", ended.status));
        }
        self.status = Some(ended.status);
        self.take(&dir)
    }

    /// Adds what a run recorded.
    fn take(&mut self, dir: &Path) -> Result<(), Failure> {
        let seen: Observation = document(dir, files::OBSERVED)?;
        let report: sr_evidence::report::RunReport = document(dir, files::REPORT)?;
        let bundle: CompileBundle = document(dir, files::BUNDLE)?;
        self.shown = shown(&bundle);
        if self.shown.mounts.len() != self.base.mounts.len() {
            let found = format!("{} ran under a policy with other mounts", dir.display());
            return Err(Fault::new(Code::Pol003, "learn", found, "learn from runs under the same policy").into());
        }
        let executed = seen.files.iter().filter(|(_, used)| **used == Use::Executed);
        for (path, _) in executed {
            let opened = opened::to_execute(path, |path| host(&bundle, path));
            self.besides
                .extend(opened.iter().filter_map(|path| place(&bundle, path)));
        }
        self.seen.merge(seen);
        self.used = self.used.max(report.peaks);
        self.time = self.time.max(Millis(report.duration_micros.div_ceil(1000)));
        for finding in why::findings(&report, &[]) {
            if finding.kind == why::Kind::Denied {
                let remedy = finding.remedy.map(|remedy| format!(" (to allow it: {remedy})"));
                let what = format!("denied while learning: {}{}", finding.what, remedy.unwrap_or_default());
                terminal::err(&format!("safe-run: {}", clean(&what)));
                self.denied.insert(finding.what);
            }
        }
        Ok(())
    }

    /// Runs what was learned, and shows what is other than it was.
    fn verify(&self, spec: &PolicySpec, times: u32) -> Done {
        let mut passed = 0;
        // A program may live with what is denied, and say nothing of it.
        let mut spec = spec.clone();
        spec.evidence.denied = DeniedScope::Paths;
        if spec.evidence.durability == Durability::None {
            spec.evidence.durability = Durability::Process;
        }
        for _ in 0..times {
            let ended = run(&spec, false)?;
            let denied = match &ended.dir {
                Some(dir) => document::<sr_evidence::report::RunReport>(dir, files::REPORT)?
                    .denied
                    .unwrap_or_default(),
                None => Vec::new(),
            };
            let new: Vec<String> = denied
                .into_iter()
                .map(|denied| denied.operation)
                .filter(|operation| !self.denied.contains(operation))
                .collect();
            if Some(ended.status) == self.status && new.is_empty() {
                passed += 1;
                continue;
            }
            let was = self
                .status
                .map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            terminal::err(&format!("safe-run: status {} where it was {was}", ended.status));
            for operation in new {
                terminal::err(&format!("safe-run: denied: {}", clean(&operation)));
            }
        }
        terminal::err(&format!("safe-run: verified {passed} of {times} times"));
        if passed < times {
            terminal::err(
                "safe-run: what a program does only now and then is seen in more runs: --runs N, or --with RUN",
            );
        }
        Ok(u8::from(passed < times))
    }
}

fn shown(bundle: &CompileBundle) -> Shown {
    let view = &bundle.filesystem_plan;
    let writable: Vec<&ViewEntry> = view.entries.iter().filter(|entry| entry.what.is_writable()).collect();
    let targets = |of: fn(&ViewKind) -> bool| {
        let entries = writable.iter().filter(move |entry| of(&entry.what));
        entries.map(|entry| entry.target.clone()).collect()
    };
    let whole = view
        .landlock
        .as_ref()
        .is_some_and(|landlock| !landlock.keeps_from_truncating());
    let mounts = bundle.evidence_plan.mounts.iter().map(|mount| mount.target.clone());
    Shown {
        mounts: mounts.filter(|target| target != "/").collect(),
        writable: targets(|_| true),
        whole: match whole {
            true => targets(|what| !matches!(what, ViewKind::Scratch { .. })),
            false => Vec::new(),
        },
        prefixes: view.prefixes.clone(),
    }
}

/// The place in the view of what is at `path`, without links.
fn place(bundle: &CompileBundle, path: &str) -> Option<String> {
    let on_host = std::fs::canonicalize(host(bundle, path)).ok()?;
    let mounts = bundle.evidence_plan.mounts.iter();
    let below = mounts.filter_map(|mount| Some((mount, on_host.strip_prefix(&mount.source).ok()?)));
    let place = match below.max_by_key(|(mount, _)| mount.source.len()) {
        Some((mount, rest)) => Path::new(&mount.target).join(rest),
        None => on_host,
    };
    place.into_os_string().into_string().ok()
}

/// Where the host has what the view has at `path`.
fn host(bundle: &CompileBundle, path: &str) -> PathBuf {
    let path = Path::new(path);
    let mounts = bundle.evidence_plan.mounts.iter();
    let below = mounts.filter_map(|mount| Some((mount, path.strip_prefix(&mount.target).ok()?)));
    match below.max_by_key(|(mount, _)| mount.target.len()) {
        Some((mount, rest)) => Path::new(&mount.source).join(rest),
        None => path.to_owned(),
    }
}

/// The last line of a run's `--json`.
#[derive(Deserialize)]
struct Ended {
    status: u8,
    cause: String,
    dir: Option<PathBuf>,
}

/// `safe-run run` under `spec`, with this process's streams: a supervisor confines itself for ever. `shown`: with its output.
fn run(spec: &PolicySpec, shown: bool) -> Result<Ended, Failure> {
    let failed = |what: &str, e: std::io::Error| {
        Fault::new(Code::Run001, "learn", format!("{what}: {e}"), "see `safe-run doctor`")
    };
    let file = handed_on(spec).map_err(|e| failed("a file for the policy", e))?;
    let mut child = Command::new("/proc/self/exe")
        .args(["run", "--json", "--policy"])
        .arg(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .stdout(if shown { Stdio::inherit() } else { Stdio::null() })
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed("safe-run run", e))?;
    let mut last = String::new();
    if let Some(err) = child.stderr.take() {
        for line in BufReader::new(err).split(b'\n') {
            let line = line.map_err(|e| failed("safe-run run", e))?;
            if shown && !last.is_empty() {
                eprintln!("{last}");
            }
            last = String::from_utf8_lossy(&line).into_owned();
        }
    }
    child.wait().map_err(|e| failed("safe-run run", e))?;
    if let Ok(ended) = serde_json::from_str(&last) {
        return Ok(ended);
    }
    let faults: Vec<why::Recorded> = serde_json::from_str(&last).unwrap_or_default();
    let faults: Vec<Fault> = faults
        .into_iter()
        .map(|f| Fault::new(Code::parse(&f.code).unwrap_or(Code::Run001), f.path, f.found, f.remedy))
        .collect();
    Err(match faults.is_empty() {
        true => Fault::new(
            Code::Run001,
            "learn",
            format!("there was no run: {}", clean(&last)),
            "see `safe-run doctor`",
        )
        .into(),
        false => Failure(faults),
    })
}

/// `spec` in a file without a name, which is gone with the last process that holds it, however that ends. A process that this
/// one starts gets it too, by the same number.
fn handed_on(spec: &PolicySpec) -> std::io::Result<std::fs::File> {
    let mut file = std::fs::File::from(memfd_create("safe-run-learn", MemfdFlags::empty())?);
    file.write_all(render_yaml(spec).as_bytes())?;
    Ok(file)
}

fn document<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<T, Failure> {
    let read = files::open_dir(dir)
        .map_err(|e| e.to_string())
        .and_then(|dir| files::read_document(dir, name))
        .and_then(|bytes| bytes.ok_or_else(|| format!("{name} is missing")))
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| format!("{name}: {e}")));
    read.map_err(|why| {
        let remedy = "learn from a run that `safe-run learn` started, and that came to its end";
        Fault::new(Code::Evd002, "learn", format!("{}: {why}", dir.display()), remedy).into()
    })
}
