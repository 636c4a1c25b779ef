//! What a run writes at its launch and at its end, in the order that a verifier of a killed run relies on.

use crate::attestation::{Subject, write_attestation, write_signer};
use crate::files;
use crate::head::{Head, Phase, write_head};
use crate::key::SigningKey;
use crate::log::{ChainState, EventLog};
use crate::report::{RunReport, now, write_report};
use sr_common::{Code, Digest, Fault, RunId};
use std::os::fd::AsFd;

/// Makes what was recorded so far stand: flushes it (if durable) and signs the chain's head (if there is a key).
/// To be called as the program starts; where the log is durable, before its first instruction. Gives the subject to
/// pass on to [`seal`].
pub fn seal_launch(
    dir: impl AsFd,
    log: &mut EventLog,
    run_id: &RunId,
    policy: Digest,
    bundle: Digest,
    key: Option<&SigningKey>,
) -> Result<Option<Subject>, Fault> {
    let head = sign_head(dir.as_fd(), log, Phase::Launch, run_id, policy, bundle, key)?;
    if let Some(key) = key {
        write_signer(dir, key)?;
    }
    Ok(head)
}

/// Ends the evidence: the log is flushed, the end head signed, the report written, the attestation signed.
/// A kill in between leaves evidence that says it is incomplete.
///
/// `report.evidence` must tell the log as it now stands. `subjects` are the other files of the run's directory that
/// the attestation is to name: `policy.json`, the launch head, `bundle.json`, `changes.json` …
pub fn seal(
    dir: impl AsFd,
    log: &mut EventLog,
    report: &RunReport,
    key: Option<&SigningKey>,
    subjects: &[Subject],
) -> Result<(), Fault> {
    if report.evidence.chain() != log.state() || report.evidence.signed != key.is_some() {
        return Err(Fault::new(
            Code::Evd002,
            "evidence.report",
            "the report does not tell the chain as it stands",
            "this is a defect of Safe-Run: please report it",
        ));
    }
    let (policy, bundle) = (report.digests.policy, report.digests.bundle);
    let end = sign_head(dir.as_fd(), log, Phase::End, &report.run_id, policy, bundle, key)?;
    let written = write_report(dir.as_fd(), report, log.durable())?;
    let Some(key) = key else { return Ok(()) };
    let mut all = vec![
        Subject::new(files::REPORT, written),
        Subject::new(files::EVENTS, log.content_digest()),
    ];
    all.extend(subjects.iter().cloned());
    all.extend(end);
    write_attestation(dir, &all, report, key, log.durable())
}

fn sign_head(
    dir: impl AsFd,
    log: &mut EventLog,
    phase: Phase,
    run_id: &RunId,
    policy: Digest,
    bundle: Digest,
    key: Option<&SigningKey>,
) -> Result<Option<Subject>, Fault> {
    log.sync()?;
    let Some(key) = key else { return Ok(None) };
    let ChainState {
        count,
        head,
        merkle_root,
    } = log.state();
    let head = Head {
        run_id: run_id.clone(),
        phase,
        count,
        head,
        merkle_root,
        policy,
        bundle,
        time: now(),
    };
    let digest = write_head(dir, &head, key, log.durable())?;
    Ok(Some(Subject::new(phase.file_name(), digest)))
}
