//! A small run's evidence, written the way a runner writes it.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test support")]

use serde_json::json;
use sr_common::{API_VERSION, Cause, Control, Digest, Obligation, Observed, RunId, Strength, Usage};
use sr_evidence::attestation::Subject;
use sr_evidence::event::{CAPTURE_DONE, RUN_END, RUN_START, end_data, start_data};
use sr_evidence::files;
use sr_evidence::key::{PublicKey, SigningKey};
use sr_evidence::log::EventLog;
use sr_evidence::report::*;
use sr_evidence::seal::{seal, seal_launch};
use sr_evidence::verify::{Verification, VerifyOptions, verify_run};
use std::path::{Path, PathBuf};

/// How far the run comes before it is killed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    Started,
    Launched,
    Sampled,
    Sealed,
}

pub struct Run {
    pub dir: tempfile::TempDir,
    pub id: RunId,
}

impl Run {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn report(&self) -> PathBuf {
        self.path(files::REPORT)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn verify(&self, keys: &[&SigningKey]) -> Verification {
        verify_run(&self.report(), &trusting(keys))
    }
}

pub fn trusting(keys: &[&SigningKey]) -> VerifyOptions {
    VerifyOptions {
        keys: Vec::new(),
        keyring: keys.iter().map(|k| k.public().clone()).collect::<Vec<PublicKey>>(),
    }
}

pub fn run(seed: u8, key: Option<&SigningKey>) -> Run {
    run_until(seed, key, Until::Sealed, false)
}

pub fn run_until(seed: u8, key: Option<&SigningKey>, until: Until, durable: bool) -> Run {
    let run = Run {
        dir: tempfile::tempdir().unwrap(),
        id: RunId::new(1_795_390_325_000, [seed; 10]),
    };
    write_run(run.dir.path(), &run.id, key, until, durable);
    run
}

/// A run that captured changes: `changes.json` is an empty array.
pub fn run_with_changes(seed: u8, key: Option<&SigningKey>) -> Run {
    let run = Run {
        dir: tempfile::tempdir().unwrap(),
        id: RunId::new(1_795_390_325_000, [seed; 10]),
    };
    write_whole(run.dir.path(), &run.id, key, Until::Sealed, false, true);
    run
}

pub fn write_run(path: &Path, id: &RunId, key: Option<&SigningKey>, until: Until, durable: bool) {
    write_whole(path, id, key, until, durable, false);
}

fn write_whole(path: &Path, id: &RunId, key: Option<&SigningKey>, until: Until, durable: bool, captured: bool) {
    let dir = files::open_dir(path).unwrap();
    let started = now();
    let mut log = EventLog::create(&dir, id, durable).unwrap();
    let policy = files::write_document(&dir, files::POLICY, &json!({"kind": "Policy", "run": id}), durable).unwrap();
    let bundle = files::write_document(&dir, files::BUNDLE, &json!({"kind": "CompileBundle"}), durable).unwrap();
    log.append("supervisor", RUN_START, start_data(id, &policy, &bundle))
        .unwrap();
    log.append(
        "supervisor",
        "sandbox.built",
        json!({"mechanism": "namespaces", "micros": 812}),
    )
    .unwrap();
    if until == Until::Started {
        return;
    }
    let mut subjects = vec![Subject::new(files::POLICY, policy), Subject::new(files::BUNDLE, bundle)];
    subjects.extend(seal_launch(&dir, &mut log, id, policy, bundle, key).unwrap());
    if until == Until::Launched {
        return;
    }
    log.append(
        "supervisor",
        "program.launched",
        json!({"argv": ["/bin/sh", "-c", "exit 7"], "pid": 2}),
    )
    .unwrap();
    log.append(
        "sampler",
        "usage",
        json!({"cpuMicros": 900, "memoryBytes": 1_048_576, "big": u64::MAX, "load": 0.25}),
    )
    .unwrap();
    if until == Until::Sampled {
        return;
    }
    let mut report = sample_report(id, started, policy, bundle);
    if captured {
        let manifest = files::write_document(&dir, files::CHANGES, &json!([]), durable).unwrap();
        report.digests.captured_changes = Some(manifest);
        subjects.push(Subject::new(files::CHANGES, manifest));
        log.append("supervisor", CAPTURE_DONE, json!({"manifest": manifest}))
            .unwrap();
    }
    log.append("supervisor", RUN_END, end_data(&report.result)).unwrap();
    let durability = if durable {
        Durability::Machine
    } else {
        Durability::Process
    };
    report.evidence = EvidenceSummary::new(log.state(), durability, key.is_some());
    seal(&dir, &mut log, &report, key, &subjects).unwrap();
}

pub fn sample_report(id: &RunId, started: String, policy: Digest, bundle: Digest) -> RunReport {
    RunReport {
        api_version: API_VERSION.into(),
        kind: REPORT_KIND.into(),
        run_id: id.clone(),
        started_at: started,
        ended_at: now(),
        duration_micros: 5_321,
        backend: "process".into(),
        digests: Digests {
            policy,
            policy_source: Some(Digest::of(b"source")),
            overlay: None,
            facts: Digest::of(b"facts"),
            bundle,
            executable: Some(FileDigest {
                path: "/usr/bin/dash".into(),
                digest: Digest::of(b"dash"),
            }),
            interpreters: Vec::new(),
            script: None,
            wall: Vec::new(),
            mounts: vec![MountDigest {
                source: Some("/home/a/src".into()),
                target: "/work".into(),
                digest: None,
            }],
            captured_changes: None,
        },
        host: json!({"arch": "x86_64", "kernel": "6.18.0", "landlockAbi": 7, "memoryMax": u64::MAX}),
        command: CommandLine {
            argv: vec!["/bin/sh".into(), "-c".into(), "exit 7".into()],
            env: vec!["HOME".into(), "PATH".into()],
            workdir: "/work".into(),
        },
        posture: vec![Observed {
            control: Control::Seccomp,
            requested: "filter".into(),
            mechanism: "seccomp".into(),
            observed: "Seccomp: 2".into(),
            holds: true,
        }],
        obligations: vec![Obligation {
            clause: "resources.memory".into(),
            requested: "512MiB".into(),
            control: Control::Memory,
            mechanism: "cgroup v2 memory.max".into(),
            strength: Some(Strength::Kernel),
            enforced: true,
            reason: None,
        }],
        result: RunResult {
            cause: Cause::Exit,
            exit_code: Some(7),
            signal: None,
            status: 7,
            limits_hit: Vec::new(),
            message: None,
        },
        peaks: Usage {
            cpu_micros: Some(900),
            memory_bytes: Some(1 << 20),
            pids: Some(1),
            disk_bytes: None,
            waited: None,
        },
        samples: 1,
        outputs: Outputs {
            stdout: StreamOutput {
                bytes: 3,
                dropped: 0,
                digest: Some(Digest::of(b"hi\n")),
            },
            stderr: StreamOutput {
                bytes: 0,
                dropped: 0,
                digest: Some(Digest::of(b"")),
            },
        },
        denied: None,
        network: Some(NetworkSummary { mode: "none".into() }),
        changes: Some(ChangeSummary {
            files: 1,
            added: 1,
            modified: 0,
            deleted: 0,
        }),
        hidden: vec![HiddenEntry {
            path: "/work/.env".into(),
            reason: ".env*".into(),
        }],
        prefixes: Vec::new(),
        evidence: EvidenceSummary {
            chain_head: Digest::ZERO,
            count: 0,
            merkle_root: Digest::ZERO,
            durability: Durability::Process,
            signed: false,
        },
        clocks: Clocks {
            built_micros: Some(812),
            launched_micros: Some(1_400),
            ..Clocks::default()
        },
        complete: true,
    }
}
