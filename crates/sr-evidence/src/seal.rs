//! What a run writes at its launch and at its end, in the order that a verifier of a killed run relies on.

use crate::attestation::{Subject, write_attestation, write_signer};
use crate::files;
use crate::head::{Head, write_head};
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
    log.sync()?;
    let Some(key) = key else { return Ok(None) };
    let ChainState {
        count,
        head,
        merkle_root,
    } = log.state();
    let head = Head {
        run_id: run_id.clone(),
        count,
        head,
        merkle_root,
        policy,
        bundle,
        time: now(),
    };
    let digest = write_head(dir.as_fd(), &head, key, log.durable())?;
    write_signer(dir, key)?;
    Ok(Some(Subject::new(files::HEAD_LAUNCH, digest)))
}

/// Ends the evidence: the log is flushed, the report written, the attestation signed, which holds the chain's last head.
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
    log.sync()?;
    let written = write_report(dir.as_fd(), report, log.durable())?;
    let Some(key) = key else { return Ok(()) };
    let mut all = vec![
        Subject::new(files::REPORT, written),
        Subject::new(files::EVENTS, log.content_digest()),
    ];
    all.extend(subjects.iter().cloned());
    write_attestation(dir, &all, report, key, log.durable())
}
