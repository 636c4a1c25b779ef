//! The attestation: an in-toto Statement v1 about the run's files, in a DSSE envelope, in a Sigstore bundle v0.3.
//! The key's public half lies beside it for the convenience of other tools; no verifier should trust it from there.

use crate::dsse::Envelope;
use crate::files;
use crate::key::SigningKey;
use crate::log::ChainState;
use crate::report::RunReport;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use sr_common::{Cause, Code, Digest, Fault, RunId, canonical};
use std::os::fd::AsFd;

pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
pub const STATEMENT_MEDIA_TYPE: &str = "application/vnd.in-toto+json";
pub const PREDICATE_TYPE: &str = "urn:safe-run:run:v1";
pub const BUNDLE_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Files that one attestation may name.
const MAX_SUBJECTS: usize = 1_000;

/// A file of the evidence and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// A plain file name in the evidence folder.
    pub name: String,
    pub digest: Digest,
}

impl Subject {
    pub fn new(name: impl Into<String>, digest: Digest) -> Self {
        Subject {
            name: name.into(),
            digest,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Statement {
    #[serde(rename = "_type")]
    pub statement_type: String,
    pub subject: Vec<ResourceDescriptor>,
    pub predicate_type: String,
    pub predicate: Predicate,
}

/// A subject as in-toto writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceDescriptor {
    pub name: String,
    pub digest: DigestSet,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigestSet {
    /// 64 lower-case hex digits.
    pub sha256: String,
}

/// The run in short. The report, which is a subject, says the same at length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Predicate {
    pub run_id: RunId,
    pub started_at: String,
    pub ended_at: String,
    pub backend: String,
    pub policy: Digest,
    pub bundle: Digest,
    pub executable: Option<Digest>,
    pub cause: Cause,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub status: u8,
    pub chain: ChainState,
    pub complete: bool,
}

impl Predicate {
    pub fn of(report: &RunReport) -> Self {
        Predicate {
            run_id: report.run_id.clone(),
            started_at: report.started_at.clone(),
            ended_at: report.ended_at.clone(),
            backend: report.backend.clone(),
            policy: report.digests.policy,
            bundle: report.digests.bundle,
            executable: report.digests.executable.as_ref().map(|file| file.digest),
            cause: report.result.cause,
            exit_code: report.result.exit_code,
            signal: report.result.signal,
            status: report.result.status,
            chain: report.evidence.chain(),
            complete: report.complete,
        }
    }
}

/// `attestation.sigstore.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SigstoreBundle {
    pub media_type: String,
    pub verification_material: VerificationMaterial,
    pub dsse_envelope: Envelope,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerificationMaterial {
    pub public_key: KeyHint,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyHint {
    /// The signer's key id.
    pub hint: String,
}

/// Writes `signer.pub`.
pub fn write_signer(dir: impl AsFd, key: &SigningKey) -> Result<(), Fault> {
    let pem = key.public().to_pem();
    files::write_atomic(
        dir.as_fd(),
        files::SIGNER,
        pem.as_bytes(),
        Mode::RUSR | Mode::WUSR,
        false,
    )
    .map_err(|e| fault(format!("{} cannot be written: {e}", files::SIGNER)))
}

/// Signs a statement about `subjects` and writes `attestation.sigstore.json`.
pub fn write_attestation(
    dir: impl AsFd,
    subjects: &[Subject],
    report: &RunReport,
    key: &SigningKey,
    durable: bool,
) -> Result<(), Fault> {
    if let Some(bad) = subjects.iter().find(|s| !files::is_plain_name(&s.name)) {
        return Err(fault(format!("{:?} is not a plain file name", bad.name)));
    }
    let statement = Statement {
        statement_type: STATEMENT_TYPE.into(),
        subject: subjects
            .iter()
            .map(|s| ResourceDescriptor {
                name: s.name.clone(),
                digest: DigestSet { sha256: s.digest.hex() },
            })
            .collect(),
        predicate_type: PREDICATE_TYPE.into(),
        predicate: Predicate::of(report),
    };
    let encoded = canonical::to_bytes(&statement)
        .map_err(|e| e.to_string())
        .and_then(|payload| Envelope::sign(STATEMENT_MEDIA_TYPE, &payload, key))
        .map(|envelope| SigstoreBundle {
            media_type: BUNDLE_MEDIA_TYPE.into(),
            verification_material: VerificationMaterial {
                public_key: KeyHint {
                    hint: key.key_id().into(),
                },
            },
            dsse_envelope: envelope,
        })
        .and_then(|bundle| canonical::to_bytes(&bundle).map_err(|e| e.to_string()));
    let mut bytes = encoded.map_err(|e| fault(format!("the attestation cannot be signed: {e}")))?;
    bytes.push(b'\n');
    let mode = Mode::RUSR | Mode::WUSR;
    files::write_atomic(dir.as_fd(), files::ATTESTATION, &bytes, mode, durable)
        .map_err(|e| fault(format!("the attestation cannot be written: {e}")))
}

/// Reads a bundle file strictly: known fields, canonical bytes and a newline, one signature that its hint names.
pub(crate) fn parse_bundle(bytes: &[u8]) -> Result<SigstoreBundle, String> {
    let bundle: SigstoreBundle = serde_json::from_slice(bytes).map_err(|e| format!("is not a Sigstore bundle: {e}"))?;
    if bundle.media_type != BUNDLE_MEDIA_TYPE {
        return Err(format!(
            "has media type {:?}, not {BUNDLE_MEDIA_TYPE:?}",
            bundle.media_type
        ));
    }
    if bundle.verification_material.public_key.hint != bundle.dsse_envelope.key_id() {
        return Err("names one key in its hint and another in its signature".into());
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or_default();
    if canonical::to_bytes(&bundle).ok().as_deref() != Some(text) {
        return Err("is not canonical JSON and one newline".into());
    }
    Ok(bundle)
}

/// Reads the envelope's payload strictly.
pub(crate) fn parse_statement(payload: &[u8]) -> Result<Statement, String> {
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|e| format!("does not hold a statement about a run: {e}"))?;
    if statement.statement_type != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(format!(
            "holds a {:?} about {:?}",
            statement.statement_type, statement.predicate_type
        ));
    }
    if canonical::to_bytes(&statement).ok().as_deref() != Some(payload) {
        return Err("holds a statement that is not canonical".into());
    }
    Ok(statement)
}

impl Statement {
    /// The subjects, if each is a plain file name, named once, with a SHA-256.
    pub fn subjects(&self) -> Result<Vec<Subject>, String> {
        if self.subject.len() > MAX_SUBJECTS {
            return Err(format!(
                "names {} subjects, more than {MAX_SUBJECTS}",
                self.subject.len()
            ));
        }
        let mut subjects: Vec<Subject> = Vec::with_capacity(self.subject.len());
        for entry in &self.subject {
            let digest = Digest::parse(&format!("sha256:{}", entry.digest.sha256));
            match digest {
                Some(digest) if files::is_plain_name(&entry.name) && subjects.iter().all(|s| s.name != entry.name) => {
                    subjects.push(Subject {
                        name: entry.name.clone(),
                        digest,
                    });
                }
                _ => return Err(format!("names a subject {:?} that is no file here", entry.name)),
            }
        }
        Ok(subjects)
    }
}

fn fault(found: String) -> Fault {
    Fault::new(
        Code::Evd002,
        "evidence.attestation",
        found,
        "make room in the run store and see that it is writable",
    )
}
