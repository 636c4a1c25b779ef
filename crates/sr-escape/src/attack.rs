//! The harmless part of the corpus, run behind `safe-run run` on the machine at hand: each case in a place of its own, judged as
//! the corpus is, without controls. What came of it is attested by a last run.

use crate::Outcome;
use crate::carried::{self, File};
use crate::case::{Case, Language};
use crate::compiler::Compiler;
use crate::document::{self, Document, Run, Word};
use crate::ground::Ground;
use crate::held::{self, Ended, Held};
use crate::trip::random;
use crate::verdict::{self, End, Verdict, Wall, attempts};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::Deserialize;
use sr_common::Digest;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// For a machine that is slower than those on which the cases' times were set.
const SLOWNESS: u64 = 20;
const SIGNALS: [i32; 3] = [
    rustix::process::Signal::HUP.as_raw(),
    rustix::process::Signal::INT.as_raw(),
    rustix::process::Signal::TERM.as_raw(),
];

/// What is asked of it.
pub struct Attack<'a> {
    /// The program: `run`, `gc`, `discard` and `victim` of it are used.
    pub safe_run: &'a Path,
    /// What its environment is to say besides: where the store and the keys are, whatever the directory.
    pub environment: &'a [(&'a str, &'a Path)],
    /// Where its own directory is made, and removed at the end.
    pub temporary: &'a Path,
    /// The run store: no view shows it, and no mount may. The policies' texts lie there, in a folder that is removed too.
    pub store: &'a Path,
    pub started_at: String,
    pub uid: u32,
    pub policy: document::Policy,
    /// The policy's text for a case whose ground is this directory: it shows DIR/escape as `/escape`, and DIR/project is where the
    /// program starts.
    pub text: &'a dyn Fn(&Path) -> String,
    /// Denied calls end the program by SIGSYS.
    pub kills: bool,
    /// Told before each case: its number from 1 on, how many there are, its id.
    pub progress: &'a dyn Fn(usize, usize, &str),
}

/// Why it did not come to its end.
#[derive(Debug)]
pub enum Stop {
    /// By this signal. What it made is gone.
    Interrupted(i32),
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Failed(why)
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Attacked {
    pub document: Document,
    /// The run whose evidence holds the document; `None`: nothing could be run.
    pub carrier: Option<Told>,
}

/// What `safe-run run --json` says of a run.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    pub id: String,
    pub dir: Option<PathBuf>,
}

/// One for each language, that does nothing: whether the view can run the cases that are written in it.
const PROBES: [File; 3] = [
    File {
        path: "probe/probe.sh",
        text: "# title: P\n# source: P\n# expect: GOT\n# fires: call\n# control: host\n. \"$(dirname \"$0\")/lib.sh\"\nattempt probe true\n",
    },
    File {
        path: "probe/probe.py",
        text: "# title: P\n# source: P\n# expect: GOT\n# fires: call\n# control: host\nfrom lib import *\nattempt(\"probe\", lambda: True)\n",
    },
    File {
        path: "probe/probe.c",
        text: "/* title: P\n * source: P\n * expect: GOT\n * fires: call\n * control: host\n */\n#include \"lib.h\"\nint run(void) { return !attempt(\"probe\", 0); }\n",
    },
];

pub fn run(attack: &Attack) -> Result<Attacked, Stop> {
    let signals = sr_kernel::process::signal_descriptor(&SIGNALS).map_err(|e| format!("signals: {e}"))?;
    // What a sandbox leaves becomes this process's child, and is seen.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(|e| format!("prctl: {e}"))?;
    let top = Top::new(attack.temporary, attack.uid == 0)?;
    let private = Top::new(attack.store, false)?;
    let mut attacker = Attacker {
        attack,
        compiler: Compiler::new(&top.path.join("source")),
        top: &top.path,
        policy: private.path.join("policy.yaml"),
        signals,
        runs: Vec::new(),
        sites: 0,
    };
    let done = attacker.all();
    if done.is_err() {
        attacker.discard();
    }
    done
}

struct Attacker<'a> {
    attack: &'a Attack<'a>,
    top: &'a Path,
    policy: PathBuf,
    compiler: Compiler,
    signals: OwnedFd,
    /// The ids of all runs that were made.
    runs: Vec<String>,
    sites: usize,
}

/// What came of a case that could be started.
struct Tried {
    verdict: Verdict,
    output: Vec<u8>,
    run: Option<Told>,
}

impl Attacker<'_> {
    fn all(&mut self) -> Result<Attacked, Stop> {
        let cases = carried::cases()?;
        let mut probes: Vec<(Case, Outcome)> = Vec::new();
        for file in &PROBES {
            let probe = Case::parse(Path::new(file.path), file.text)?;
            let works = self.probe(&probe, file.text)?;
            probes.push((probe, works));
        }
        let mut results = Vec::with_capacity(cases.len());
        for (n, (case, text)) in cases.iter().enumerate() {
            (self.attack.progress)(n + 1, cases.len(), &case.id());
            let works = probes.iter().find(|(probe, _)| probe.language == case.language);
            results.push(match works {
                Some((_, Err(why))) => self.skipped(case, text, why.clone()),
                _ => self.case(case, text)?,
            });
        }
        let attack = self.attack;
        let document = Document::new(attack.started_at.clone(), attack.uid, attack.policy.clone(), results);
        let carrier = match probes.iter().position(|(_, works)| works.is_ok()) {
            Some(n) => Some(self.carry(&document, &probes[n].0, PROBES[n].text)?),
            None => None,
        };
        Ok(Attacked { document, carrier })
    }

    /// Whether the view runs what is in this language; if not, why.
    fn probe(&mut self, probe: &Case, text: &str) -> Result<Outcome, Stop> {
        let words = match self.prepared(probe, text) {
            Ok(words) => words,
            Err(why) => return Ok(Err(why)),
        };
        let done = self.once(probe, text, &words, &[])?;
        for id in self.runs.drain(..).collect::<Vec<_>>() {
            self.quietly(&["discard", &id]);
        }
        let got = attempts(&done.output).iter().any(|(_, result)| result == "GOT");
        Ok(match (got, done.verdict, done.run) {
            (true, ..) => Ok(()),
            (false, Verdict::Broken(why), None) => Err(why),
            (false, Verdict::Broken(why), _) => Err(format!("{} does not run in the view: {why}", runner(probe))),
            (false, ..) => Err(format!("{} does not run in the view", runner(probe))),
        })
    }

    fn case(&mut self, case: &Case, text: &str) -> Result<document::Case, Stop> {
        let mut case = case.clone();
        case.seconds += SLOWNESS;
        if self.attack.kills && case.expect.iter().all(|e| e != "SIGSYS") {
            case.expect.push("SIGSYS".into());
        }
        let words = match self.prepared(&case, text) {
            Ok(words) => words,
            Err(why) => return Ok(self.skipped(&case, text, why)),
        };
        let done = self.once(&case, text, &words, &[])?;
        let (outcome, detail) = Word::of(done.verdict);
        let run = done.run.as_ref().map(recorded).transpose()?;
        Ok(document::Case {
            outcome,
            detail,
            attempts: attempts(&done.output).len(),
            runs: run.into_iter().collect(),
            ..self.skipped(&case, text, String::new())
        })
    }

    fn skipped(&self, case: &Case, text: &str, why: String) -> document::Case {
        document::Case {
            id: case.id(),
            title: case.title.clone(),
            source: Digest::of(text.as_bytes()),
            expect: case.expect.clone(),
            fires: case.fires.name().into(),
            outcome: Word::Skipped,
            detail: Some(why),
            attempts: 0,
            runs: Vec::new(),
        }
    }

    /// What of a case is made before it is run: of one in C its program. An error says why it cannot be run here.
    fn prepared(&self, case: &Case, text: &str) -> Outcome<Option<PathBuf>> {
        match case.language {
            Language::C => self.compiler.compile(case, text).map(Some),
            _ => Ok(None),
        }
    }

    /// Runs a case on a ground of its own.
    fn once(&mut self, case: &Case, text: &str, program: &Option<PathBuf>, more: &[String]) -> Result<Tried, Stop> {
        self.sites += 1;
        let site = self.top.join(self.sites.to_string());
        let ground = site.join("ground");
        let escape = ground.join("escape");
        let fault = |e: std::io::Error| format!("{}: {e}", site.display());
        fs::create_dir_all(&escape).map_err(fault)?;
        let write = |path: PathBuf, text: &str| fs::write(path, text).map_err(fault);
        for file in carried::SHARED.iter().filter(|file| !file.path.ends_with(".h")) {
            write(escape.join(file.path), file.text)?;
        }
        match program {
            Some(program) => fs::rename(program, escape.join(&case.name)).map_err(fault)?,
            None => {
                let name = Path::new(&case.name).with_extension(case.path.extension().unwrap_or_default());
                write(escape.join(name), text)?;
            }
        }
        write(self.policy.clone(), &(self.attack.text)(&ground))?;

        let mut words = vec![
            self.attack.safe_run.display().to_string(),
            "run".into(),
            "--json".into(),
        ];
        words.extend(["--policy".into(), self.policy.display().to_string()]);
        words.extend(more.iter().cloned());
        words.push("--".into());
        words.extend(case.command("/escape"));
        let mut ground = Ground::new(ground, self.attack.safe_run)?;
        words.push("where=inside".into());
        words.push(format!("user={}", if self.attack.uid == 0 { "root" } else { "user" }));
        words.extend(ground.told.iter().cloned());
        let held = Held {
            words: &words,
            dir: &site.join("ground"),
            stdin: &case.stdin,
            seconds: case.seconds,
            canary: ground.tool_word(),
            environment: self.attack.environment,
            stays: Some(ground.victim()),
        };
        let ended = held::run(&held, &site, self.signals.as_fd());
        if !matches!(&ended, Ok(ended) if ended.end != End::Over) {
            // What a killed supervisor left.
            self.quietly(&["gc"]);
        }
        let ended = ended?;
        let run: Option<Told> = serde_json::from_str(&ended.last_line).ok();
        self.runs.extend(run.iter().map(|run| run.id.clone()));
        if let Some(signal) = ended.interrupted {
            return Err(Stop::Interrupted(signal));
        }
        let trips = ground.tripped(&ended, run.as_ref().and_then(|run| run.dir.as_deref()));
        drop(ground);
        fs::remove_dir_all(&site).map_err(fault)?;
        let verdict = match &run {
            None if trips.is_empty() => Verdict::Broken(refused(&ended)),
            _ => verdict::behind(Wall::Ours, case, &ended.end, &ended.output, &trips).within(
                case.limit(self.attack.uid == 0),
                case,
                &trips,
            ),
        };
        Ok(Tried {
            verdict,
            output: ended.output,
            run,
        })
    }

    /// A run of its own, whose evidence holds the document.
    fn carry(&mut self, document: &Document, probe: &Case, text: &str) -> Result<Told, Stop> {
        let file = self.top.join("results");
        let fault = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
        let json = serde_json::to_vec(document).map_err(|e| fault(&e))?;
        fs::write(&file, json).map_err(|e| fault(&e))?;
        let words = self.prepared(probe, text)?;
        let attach = ["--attack-results".to_owned(), file.display().to_string()];
        let done = self.once(probe, text, &words, &attach)?;
        match (done.run, done.verdict) {
            (Some(run), _) => Ok(run),
            (None, Verdict::Broken(why)) => Err(Stop::Failed(format!("the results could not be attested: {why}"))),
            (None, _) => Err(Stop::Failed("the results could not be attested".into())),
        }
    }

    /// All runs that were made.
    fn discard(&self) {
        for id in &self.runs {
            self.quietly(&["discard", id]);
        }
    }

    /// What cannot be taken away now is named by the next `safe-run gc`.
    fn quietly(&self, words: &[&str]) {
        let mut command = Command::new(self.attack.safe_run);
        command
            .args(words)
            .envs(self.attack.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let _ = command.status();
    }
}

fn recorded(told: &Told) -> Outcome<Run> {
    let dir = told
        .dir
        .as_ref()
        .ok_or_else(|| format!("run {} kept no evidence", told.id))?;
    let path = dir.join("run_report.json");
    let report = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Run {
        id: told.id.clone(),
        report: Digest::of(&report),
    })
}

/// A fault, as `safe-run run --json` writes it.
#[derive(Deserialize)]
struct Fault {
    code: String,
    path: String,
    found: String,
}

/// Why there was no run.
fn refused(ended: &Ended) -> String {
    match serde_json::from_str::<Vec<Fault>>(&ended.last_line) {
        Ok(faults) if !faults.is_empty() => {
            let faults = faults.iter().map(|f| format!("{} {}: {}", f.code, f.path, f.found));
            faults.collect::<Vec<_>>().join("; ")
        }
        _ => format!("safe-run ended with {:?}: {}", ended.end, ended.last_line),
    }
}

fn runner(case: &Case) -> &'static str {
    match case.language {
        Language::C => "a program that is compiled here",
        Language::Python => "/usr/bin/python3",
        Language::Shell => "/bin/sh",
    }
}

/// A directory for all of it, gone at the end. Of one whose owner was killed the next takes care.
struct Top {
    path: PathBuf,
    /// Locked as long as it is used.
    _lock: OwnedFd,
}

const PREFIX: &str = "safe-run-attack-";

impl Top {
    /// What root's programs run as is nobody here: it must be able to come through, as it can through most directories.
    fn new(within: &Path, root: bool) -> Outcome<Top> {
        // By its real name: that is what a view shows.
        let within = within
            .canonicalize()
            .map_err(|e| format!("{}: {e}", within.display()))?;
        sweep(&within);
        let name = format!("{PREFIX}{}", random()?);
        let (path, first) = (within.join(&name), within.join(format!(".{name}")));
        let fault = |e: std::io::Error| format!("{}: {e}", path.display());
        fs::DirBuilder::new().mode(0o700).create(&first).map_err(fault)?;
        // By its name only once it is locked: till then another could take it for one that was left.
        let lock = lock(&first).map_err(fault)?;
        fs::rename(&first, &path).map_err(fault)?;
        if root {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(fault)?;
        }
        Ok(Top { path, _lock: lock })
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // What is left of it the next one takes away.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Fails where somebody has it.
fn lock(dir: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    Ok(dir)
}

/// Takes away what attacks that were killed left in `within`: this user's own directories of that name, that nobody uses.
fn sweep(within: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Not of a link.
        let is_own = || entry.metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == own);
        if named && is_own() && lock(&entry.path()).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_attack_left_is_taken_away_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        let first = Top::new(dir.path(), false).unwrap();
        fs::create_dir_all(of("safe-run-attack-left/1/ground")).unwrap();
        fs::create_dir(of("other")).unwrap();
        std::os::unix::fs::symlink(of("other"), of("safe-run-attack-link")).unwrap();
        let second = Top::new(dir.path(), true).unwrap();
        assert!(first.path.is_dir() && second.path.is_dir());
        assert!(of("other").is_dir() && of("safe-run-attack-link").is_symlink());
        assert!(!of("safe-run-attack-left").exists());
        drop((first, second));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
