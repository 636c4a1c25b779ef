//! What a run is asked for, and what comes of it.

use crate::facts;
use crate::store::Store;
use crate::subject::{self, Surroundings};
use sr_common::{Fault, HostFacts, RunId, Subject};
use sr_compiler::CompileBundle;
use sr_evidence::report::RunReport;
use sr_policy::PolicySpec;
use std::ffi::OsString;
use std::path::PathBuf;

/// Who asks, from where: all that the command line knows of its surroundings.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The current directory.
    pub cwd: PathBuf,
    /// `PATH`.
    pub path_var: OsString,
    /// `PYENV_VERSION`.
    pub pyenv_version: Option<OsString>,
    pub home: Option<PathBuf>,
    /// The folder of the signing keys, hidden in every view. It need not exist.
    pub keys: PathBuf,
    /// For what is kept from run to run to make starts faster; hidden in every view. It need not exist.
    pub runtime: Option<PathBuf>,
    /// First host id of the range that sandboxes of a privileged supervisor use.
    pub id_base: u32,
    /// The command that runs [`crate::broker::serve`] on its standard input.
    pub broker: Vec<OsString>,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Request {
    pub policy: PolicySpec,
    /// Digest of the policy as it was named, before the flags.
    pub policy_source: Option<sr_common::Digest>,
    /// The flags, if there were any.
    pub overlay: Option<serde_json::Value>,
    pub caller: Caller,
    pub store: Store,
    /// Gives the program a pty.
    pub terminal: bool,
    /// `false`: `--no-sign`.
    pub sign: bool,
    /// The directory into which the report is taken out afterwards. Once a run has begun this process can write nowhere
    /// else but into the run store.
    pub export: Option<PathBuf>,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub id: RunId,
    /// The exit status of `safe-run run`.
    pub status: u8,
    pub report: RunReport,
    /// The run's folder.
    pub dir: PathBuf,
    /// Things that a person should be told, a sentence each.
    pub notes: Vec<String>,
}

/// Why there was no run, and where that is recorded.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub faults: Vec<Fault>,
    /// The folder of the run that was not started, with a report that says so; `None` where the store took none.
    pub dir: Option<PathBuf>,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Refusal {
            faults: vec![fault],
            dir: None,
        }
    }
}

/// Gathers what compilation must know, and compiles.
pub fn compile_for_host(
    policy: &PolicySpec,
    caller: &Caller,
    store: &Store,
) -> Result<(HostFacts, Subject, CompileBundle), Vec<Fault>> {
    let private: Vec<_> = std::iter::once(&caller.keys).chain(&caller.runtime).cloned().collect();
    let facts = facts::gather(store.path(), &private, caller.home.as_deref(), caller.id_base).map_err(|f| vec![f])?;
    tracing::debug!("host's facts gathered");
    let cache = store.cache();
    let surroundings = Surroundings {
        facts: &facts,
        pyenv_version: caller.pyenv_version.as_deref(),
        cache: Some(&cache),
    };
    let subject = subject::subject(policy, &caller.cwd, &caller.path_var, &surroundings).map_err(|f| vec![f])?;
    tracing::debug!("subject found");
    let bundle = sr_compiler::compile(policy, &facts, &subject)?;
    Ok((facts, subject, bundle))
}
