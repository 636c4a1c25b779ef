//! A run that was refused before anything was built leaves evidence too: what was asked, and why it was not done.

use crate::journal::Journal;
use crate::redaction;
use crate::request::{Refusal, Request};
use crate::run::write_fault;
use crate::store::new_id;
use crate::verdict::failed_result;
use serde_json::json;
use sr_common::{Digest, Fault, Usage, canonical};
use sr_evidence::attestation::Subject;
use sr_evidence::event::{RUN_END, RUN_START, end_data, start_data};
use sr_evidence::files;
use sr_evidence::keystore::KeyStore;
use sr_evidence::log::EventLog;
use sr_evidence::report::{
    Clocks, CommandLine, Digests, Durability, EvidenceSummary, Outputs, REPORT_KIND, RunReport, StreamOutput,
};
use sr_evidence::seal;
use std::path::PathBuf;

/// Records the refusal, as far as the store takes it.
pub(crate) fn record(request: &Request, faults: Vec<Fault>) -> Refusal {
    // The faults are what the caller is told; a store that takes no record of them changes nothing about that.
    let kept = request.policy.evidence.durability != sr_policy::spec::Durability::None;
    let dir = kept.then(|| write(request, &faults).ok()).flatten();
    Refusal { faults, dir }
}

fn write(request: &Request, faults: &[Fault]) -> Result<PathBuf, Fault> {
    let started_at = sr_evidence::report::now();
    let start = std::time::Instant::now();
    let id = new_id()?;
    let journal = Journal::create(request.store.journal(&id))?;
    let dir = request.store.create_run(&id)?;
    let fd = files::open_dir(&dir.path).map_err(|e| write_fault("the run's folder", &e.into()))?;
    let document = |name: &str, value: &serde_json::Value| {
        files::write_document(&fd, name, value, false).map_err(|e| write_fault(name, &e))
    };
    let policy = document(files::POLICY, &json!(redaction::policy(&request.policy)))?;
    // In place of the bundle that could not be compiled: what compilation answered.
    let bundle = document(files::BUNDLE, &json!({"refused": faults}))?;
    let mut log = EventLog::create(&fd, &id, false)?.with_start(start);
    log.append("supervisor", RUN_START, start_data(&id, &policy, &bundle))?;
    log.append("supervisor", "run.refused", json!({"faults": faults}))?;
    let result = failed_result(faults.first());
    log.append("supervisor", RUN_END, end_data(&result))?;
    let key = match request.sign && request.policy.evidence.sign == "default" {
        true => Some(KeyStore::open(&request.caller.keys).default_key()?),
        false => None,
    };
    let mut subjects = vec![Subject::new(files::POLICY, policy), Subject::new(files::BUNDLE, bundle)];
    subjects.extend(seal::seal_launch(&fd, &mut log, &id, policy, bundle, key.as_ref())?);
    let stream = StreamOutput {
        bytes: 0,
        dropped: 0,
        digest: None,
    };
    let runtime = &request.policy.runtime;
    let report = RunReport {
        api_version: sr_common::API_VERSION.into(),
        kind: REPORT_KIND.into(),
        run_id: id,
        started_at,
        ended_at: sr_evidence::report::now(),
        duration_micros: u64::try_from(start.elapsed().as_micros()).unwrap_or(0),
        backend: runtime.backend.to_string(),
        digests: Digests {
            policy,
            policy_source: request.policy_source,
            overlay: request
                .overlay
                .as_ref()
                .and_then(|o| canonical::digest(&redaction::overlay(o)).ok()),
            // No facts went into a bundle: the digest of nothing.
            facts: Digest::of(b""),
            bundle,
            executable: None,
            interpreters: Vec::new(),
            script: None,
            mounts: Vec::new(),
            wall: Vec::new(),
            captured_changes: None,
        },
        host: json!(null),
        command: CommandLine {
            argv: runtime.command.iter().chain(&runtime.args).cloned().collect(),
            env: runtime.env.keys().cloned().collect(),
            workdir: runtime.workdir.clone().unwrap_or_else(|| "/".into()),
        },
        posture: Vec::new(),
        obligations: Vec::new(),
        result,
        peaks: Usage::default(),
        samples: 0,
        outputs: Outputs {
            stdout: stream.clone(),
            stderr: stream,
        },
        denied: None,
        network: None,
        changes: None,
        hidden: Vec::new(),
        prefixes: Vec::new(),
        evidence: EvidenceSummary::new(log.state(), Durability::Process, key.is_some()),
        clocks: Clocks::default(),
        complete: true,
    };
    seal::seal(&fd, &mut log, &report, key.as_ref(), &subjects)?;
    journal.close()?;
    Ok(dir.path)
}
