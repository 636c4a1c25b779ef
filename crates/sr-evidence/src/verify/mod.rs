//! Verification of a run's evidence, with keys that the verifier brings. It reads; it changes and trusts nothing.

mod approvals;
mod chain;
mod findings;
mod run;
mod signature;

use crate::approval::Anchor;
use crate::export::companion_dir;
use crate::files::{self, Unreadable};
use crate::key::PublicKey;
use findings::Findings;
use serde::Serialize;
use sr_common::{Code, Digest, Fault, RunId};
use std::os::fd::AsFd;
use std::path::Path;

pub use findings::{Check, Problem};

/// Whose signatures are taken.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Keys that the verifier names. If there are any, the keyring is not asked.
    pub keys: Vec<PublicKey>,
    /// The verifier's own keyring ([`crate::keystore::KeyStore::keyring`]).
    pub keyring: Vec<PublicKey>,
}

impl VerifyOptions {
    pub(crate) fn trusted(&self) -> &[PublicKey] {
        if self.keys.is_empty() {
            &self.keyring
        } else {
            &self.keys
        }
    }
}

/// What verification came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// All of it holds and is signed by a key that the verifier trusts.
    Verified,
    /// Consistent, and signed by a key that the verifier does not know.
    SignerUnknown,
    /// What is there holds, but the run's signed end is not there: it proves no more than its beginning.
    Incomplete,
    /// Something does not hold.
    Failed,
    /// Consistent, and not signed: anyone could have written it.
    Unsigned,
}

impl Status {
    /// The exit status of `safe-run report verify`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Status::Verified => 0,
            Status::Incomplete => 3,
            Status::SignerUnknown | Status::Failed | Status::Unsigned => 1,
        }
    }

    /// The result in a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Status::Verified => "verified",
            Status::SignerUnknown => "consistent, signer unknown",
            Status::Incomplete => "incomplete: holds up to its last event, without a signed end",
            Status::Failed => "does not verify",
            Status::Unsigned => "consistent, but not signed: anyone could have written it",
        }
    }
}

/// The outcome of a verification: the status, the first thing that decided it, and everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    pub status: Status,
    pub run_id: Option<RunId>,
    /// The key id that the signatures name; whether they hold, and whether it is known, is the status.
    pub signer: Option<String>,
    /// Events that hold, from the first on.
    pub events: u64,
    /// What decided the status, unless it is `Verified`.
    pub first_problem: Option<Problem>,
    pub checks: Vec<Check>,
    /// Decisions that hold, in the record of approvals.
    pub approvals: u64,
    /// What a report that could be read says, for those who build on it where the status allows it.
    #[serde(skip)]
    pub told: Option<Told>,
}

/// What a report says of the rest of the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Where the run's chain ends, and its approvals begin.
    pub anchor: Anchor,
    /// Digest of `bundle.json`.
    pub bundle: Digest,
    /// Digest of `changes.json`, where anything was captured.
    pub captured_changes: Option<Digest>,
    /// Whether the run was signed.
    pub signed: bool,
    /// What the run's evidence comes to, its approvals left aside.
    pub status: Status,
}

impl Verification {
    /// 0: verified; 3: incomplete; 1: everything else.
    pub fn exit_code(&self) -> u8 {
        self.status.exit_code()
    }

    /// The result in a sentence.
    pub fn sentence(&self) -> &'static str {
        match (self.status, self.told.as_ref().map(|told| told.status)) {
            (Status::Incomplete, Some(Status::Verified)) => {
                "the run verifies, the record of its approvals is incomplete"
            }
            (Status::Unsigned, Some(Status::Verified)) => "the run verifies, not all of its approvals are signed",
            (Status::SignerUnknown, Some(Status::Verified)) => "the run verifies, an approver is unknown",
            (status, _) => status.sentence(),
        }
    }

    /// `SR-EVD-003` with the first problem; `None` where all is verified.
    pub fn fault(&self) -> Option<Fault> {
        if self.status == Status::Verified {
            return None;
        }
        let (path, found) = match &self.first_problem {
            Some(problem) => (problem.place(), problem.found.clone()),
            None => ("evidence".into(), self.sentence().into()),
        };
        let approvals = self.first_problem.as_ref().is_some_and(|p| p.path == files::APPROVALS);
        let remedy = match self.status {
            Status::Incomplete if approvals => "apply again: what comes of it is recorded then",
            Status::Unsigned if approvals => "rely on the run, and not on this line",
            Status::SignerUnknown => {
                "give the signer's key, which you have from the signer and not from the evidence: --key FILE"
            }
            Status::Incomplete => "the run was killed or still goes on; what holds is no more than its beginning",
            Status::Unsigned => "run without --no-sign",
            _ => "do not rely on this evidence; get it again from where it was made",
        };
        Some(Fault::new(Code::Evd003, path, found, remedy))
    }
}

/// Verifies the report at `path` with what belongs to it: the files in `PATH.evidence/` if there is that folder, else
/// those beside the report. A directory, or the absent report of a run's directory, is verified as an unfinished run.
pub fn verify_run(path: &Path, options: &VerifyOptions) -> Verification {
    if path.is_dir() {
        return verify_dir(path, options);
    }
    let shown = path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let report =
        files::open_given(path, files::MAX_DOCUMENT).and_then(|file| files::read_all(file, files::MAX_DOCUMENT));
    let report = match report {
        Ok(bytes) => bytes,
        Err(Unreadable::Absent) if shown == files::REPORT && parent.join(files::EVENTS).is_file() => {
            return verify_dir(parent, options);
        }
        Err(why) => return failed(&shown, why.text()),
    };
    let beside = companion_dir(path);
    let dir = match files::open_dir(&beside) {
        Ok(dir) => dir,
        Err(rustix::io::Errno::NOENT) => match rustix::fs::openat(
            rustix::fs::CWD,
            parent,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        ) {
            Ok(dir) => dir,
            Err(e) => return failed(&parent.display().to_string(), &format!("cannot be opened: {e}")),
        },
        Err(e) => {
            return failed(
                &beside.display().to_string(),
                &format!("is not a directory that can be opened: {e}"),
            );
        }
    };
    run::verify(dir.as_fd(), Some((&shown, &report)), None, options)
}

/// Verifies a run's directory: with its report if there is one, else as a run without its end.
pub fn verify_dir(dir: &Path, options: &VerifyOptions) -> Verification {
    let fd = match files::open_dir(dir) {
        Ok(fd) => fd,
        Err(e) => {
            return failed(
                &dir.display().to_string(),
                &format!("is not a directory that can be opened: {e}"),
            );
        }
    };
    let id = dir.file_name().and_then(|name| name.to_str()).and_then(RunId::parse);
    match files::read_regular(fd.as_fd(), files::REPORT, files::MAX_DOCUMENT) {
        Ok(report) => run::verify(fd.as_fd(), Some((files::REPORT, &report)), id, options),
        Err(Unreadable::Absent) => run::verify(fd.as_fd(), None, id, options),
        Err(why) => failed(files::REPORT, why.text()),
    }
}

fn failed(path: &str, found: &str) -> Verification {
    let mut findings = Findings::default();
    findings.fail("report", Problem::new(path, found));
    findings.finish(None, None, 0)
}
