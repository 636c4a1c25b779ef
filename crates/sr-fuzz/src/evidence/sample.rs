//! Evidence of runs that never were, made by the writing side, kept in memory, laid out in a folder to be verified.

use serde_json::{Value, json};
use sr_common::{API_VERSION, Digest, RunId};
use sr_evidence::approval::{
    APPLY_INTENT, APPLY_OUTCOME, APPLY_REFUSED, Anchor, ApprovalLog, By, Intent, Outcome, Planned, Reason, Refused,
    Settled,
};
use sr_evidence::attestation::Subject;
use sr_evidence::event::{CAPTURE_DONE, RUN_END, RUN_START, end_data, start_data};
use sr_evidence::files;
use sr_evidence::key::{Algorithm, SigningKey};
use sr_evidence::log::EventLog;
use sr_evidence::report::{Durability, EvidenceSummary, REPORT_KIND, RunReport, now};
use sr_evidence::seal::{seal, seal_launch};
use sr_evidence::verify::{Verification, VerifyOptions, verify_dir};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::OnceLock;

type Made<T> = Result<T, Box<dyn Error>>;

/// How far a run came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Killed before anything was signed, after so many events besides the first.
    Begun(u32),
    /// Killed after its launch was signed, and so many events more.
    Launched(u32),
    /// To its end, with so many decisions about its changes.
    Ended(u32),
}

/// The files of one run.
pub struct Evidence {
    pub came: Came,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Events that were signed at the launch.
    pub signed: u64,
    number: usize,
    options: VerifyOptions,
}

/// All samples, made once.
pub fn samples() -> &'static [Evidence] {
    static SAMPLES: OnceLock<Vec<Evidence>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let came = [
            Came::Ended(3),
            Came::Ended(1),
            Came::Ended(0),
            Came::Launched(3),
            Came::Launched(0),
            Came::Begun(9),
            Came::Begun(2),
            Came::Begun(0),
        ];
        let made = came.iter().enumerate().map(|(number, came)| make(number, *came));
        made.collect::<Made<_>>()
            .unwrap_or_else(|e| unreachable!("evidence cannot be written: {e}"))
    })
}

/// Those that came to their end.
pub fn ended() -> Vec<&'static Evidence> {
    let ended = |e: &&Evidence| matches!(e.came, Came::Ended(_));
    samples().iter().filter(ended).collect()
}

thread_local! {
    /// Where this thread lays evidence out, and which one lies there.
    static PLACE: RefCell<Option<(tempfile::TempDir, usize)>> = const { RefCell::new(None) };
}

impl Evidence {
    pub fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).map_or(&[], Vec::as_slice)
    }

    /// Verifies the evidence, with one file replaced.
    pub fn verify(&self, replaced: Option<(&str, &[u8])>) -> Verification {
        PLACE.with_borrow_mut(|place| {
            let laid = self.lay(place).and_then(|dir| {
                if let Some((name, bytes)) = replaced {
                    fs::write(dir.join(name), bytes)?;
                }
                let verified = verify_dir(dir, &self.options);
                match replaced {
                    Some((name, _)) if self.files.contains_key(name) => fs::write(dir.join(name), self.file(name))?,
                    Some((name, _)) => fs::remove_file(dir.join(name))?,
                    None => {}
                }
                Ok(verified)
            });
            laid.unwrap_or_else(|e| unreachable!("evidence cannot be laid out: {e}"))
        })
    }

    fn lay<'a>(&self, place: &'a mut Option<(tempfile::TempDir, usize)>) -> std::io::Result<&'a Path> {
        if place.as_ref().is_none_or(|(_, number)| *number != self.number) {
            let dir = tempfile::tempdir()?;
            for (name, bytes) in &self.files {
                fs::write(dir.path().join(name), bytes)?;
            }
            *place = Some((dir, self.number));
        }
        place
            .as_ref()
            .map(|(dir, _)| dir.path())
            .ok_or_else(|| std::io::Error::other("no place"))
    }
}

fn make(number: usize, came: Came) -> Made<Evidence> {
    let key = SigningKey::generate(Algorithm::EcdsaP256)?;
    let dir = tempfile::tempdir()?;
    let signed = write(
        dir.path(),
        &RunId::new(1_795_390_325_000, [number as u8; 10]),
        came,
        &key,
    )?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir.path())? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            fs::read(entry.path())?,
        );
    }
    let options = VerifyOptions {
        keys: vec![key.public().clone()],
        ..VerifyOptions::default()
    };
    Ok(Evidence {
        came,
        files,
        signed,
        number,
        options,
    })
}

/// Gives the number of events that were signed at the launch.
fn write(path: &Path, id: &RunId, came: Came, key: &SigningKey) -> Made<u64> {
    let dir = files::open_dir(path)?;
    let mut log = EventLog::create(&dir, id, false)?;
    let started = now();
    let policy = files::write_document(&dir, files::POLICY, &json!({"kind": "Policy", "run": id}), false)?;
    let bundle = files::write_document(&dir, files::BUNDLE, &json!({"kind": "CompileBundle"}), false)?;
    let mut subjects = vec![Subject::new(files::POLICY, policy), Subject::new(files::BUNDLE, bundle)];
    log.append("supervisor", RUN_START, start_data(id, &policy, &bundle))?;
    let more = |log: &mut EventLog, count: u32| -> Made<()> {
        for n in 0..count {
            let data = match n % 3 {
                0 => json!({"cpuMicros": n, "big": u64::MAX, "load": 0.25, "none": null}),
                1 => json!({"text": "é\u{202e}\"\\\n", "list": [1, -2, [true, {}]]}),
                _ => json!({}),
            };
            log.append("sampler", "usage", data)?;
        }
        Ok(())
    };
    if let Came::Begun(count) = came {
        more(&mut log, count)?;
        return Ok(0);
    }
    log.append("kernel", "launch.posture", json!({"posture": []}))?;
    subjects.extend(seal_launch(&dir, &mut log, id, policy, bundle, Some(key))?);
    let signed = log.count();
    let Came::Ended(decisions) = came else {
        let Came::Launched(count) = came else { return Ok(signed) };
        more(&mut log, count)?;
        return Ok(signed);
    };
    more(&mut log, 2)?;
    let manifest = files::write_document(&dir, files::CHANGES, &json!([]), false)?;
    subjects.push(Subject::new(files::CHANGES, manifest));
    log.append("supervisor", CAPTURE_DONE, json!({"manifest": manifest}))?;
    let mut report = report(id, &started, policy, bundle, manifest)?;
    log.append("supervisor", RUN_END, end_data(&report.result))?;
    report.evidence = EvidenceSummary::new(log.state(), Durability::Process, true);
    seal(&dir, &mut log, &report, Some(key), &subjects)?;
    let anchor = Anchor {
        count: log.count(),
        head: log.head(),
    };
    decide(dir.as_fd(), anchor, manifest, decisions, key)?;
    Ok(signed)
}

fn decide(
    dir: std::os::fd::BorrowedFd<'_>,
    anchor: Anchor,
    manifest: Digest,
    count: u32,
    key: &SigningKey,
) -> Made<()> {
    let by = By {
        uid: 1000,
        user: Some("ann".into()),
        login_uid: None,
    };
    let mut log = ApprovalLog::open(dir, anchor, Some(key))?;
    let reason = |path: &str| Reason {
        path: path.into(),
        reason: "conflict".into(),
    };
    for n in 0..count {
        if n == 1 {
            let refused = Refused {
                by: by.clone(),
                manifest,
                named: vec!["a".into()],
                refused: vec![reason("b")],
            };
            log.append(APPLY_REFUSED, &refused)?;
            continue;
        }
        let intent = Intent {
            by: by.clone(),
            manifest,
            directories: vec![Planned {
                source: "/p".into(),
                named: Vec::new(),
                paths: vec![format!("f{n}")],
            }],
        };
        let outcome = Outcome {
            intent: log.append(APPLY_INTENT, &intent)?,
            complete: true,
            directories: vec![Settled {
                source: "/p".into(),
                applied: vec![format!("f{n}")],
                refused: vec![reason("Makefile")],
                skipped: Vec::new(),
            }],
            faults: Vec::new(),
        };
        log.append(APPLY_OUTCOME, &outcome)?;
    }
    Ok(())
}

fn report(id: &RunId, started: &str, policy: Digest, bundle: Digest, manifest: Digest) -> Made<RunReport> {
    let digest = Digest::of(b"something");
    let stream = json!({"bytes": 3, "dropped": 0, "digest": digest});
    let value: Value = json!({
        "apiVersion": API_VERSION, "kind": REPORT_KIND, "runId": id, "startedAt": started, "endedAt": now(),
        "durationMicros": 5_321, "backend": "process",
        "digests": {
            "policy": policy, "policySource": digest, "overlay": null, "facts": digest, "bundle": bundle,
            "executable": {"path": "/usr/bin/dash", "digest": digest}, "interpreters": [], "script": null,
            "mounts": [{"source": "/home/a/src", "target": "/work", "digest": null}], "capturedChanges": manifest,
        },
        "host": {"arch": "x86_64", "kernel": "6.18.0", "landlockAbi": 7, "cgroup": {"memory": null}},
        "command": {"argv": ["/bin/sh", "-c", "exit 7"], "env": ["HOME", "PATH"], "workdir": "/work"},
        "posture": [{"control": "seccomp", "requested": "filter", "mechanism": "seccomp", "observed": "Seccomp: 2", "holds": true}],
        "obligations": [{
            "clause": "resources.memory", "requested": "512MiB", "control": "memory", "mechanism": "cgroup v2 memory.max",
            "strength": "kernel", "enforced": true, "reason": "none",
        }],
        "result": {"cause": "exit", "exitCode": 7, "signal": null, "status": 7, "limitsHit": [], "message": null},
        "peaks": {"cpuMicros": 900, "memoryBytes": 1_048_576, "pids": 1, "diskBytes": null, "waited": {"cpuMicros": 5, "memoryMicros": 0, "ioMicros": 7}},
        "samples": 1,
        "outputs": {"stdout": stream, "stderr": stream},
        "denied": [{"operation": "ptrace", "by": "seccomp", "count": 1}],
        "network": {"mode": "none"},
        "changes": {"files": 1, "added": 1, "modified": 0, "deleted": 0},
        "hidden": [{"path": "/work/.env", "reason": ".env*"}],
        "prefixes": [],
        "evidence": {"chainHead": digest, "count": 0, "merkleRoot": digest, "durability": "process", "signed": false},
        "clocks": {"builtMicros": 812, "wallMicros": null, "launchedMicros": 1_400, "endedMicros": null, "resultMicros": null},
        "complete": true,
    });
    Ok(serde_json::from_value(value)?)
}
