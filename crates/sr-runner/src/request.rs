//! What a run is asked for, and what comes of it.

use crate::facts;
use crate::helper::{self, Helper};
use crate::parts;
use crate::store::Store;
use crate::subject::{self, Surroundings};
use crate::walls::{self, Look, Programs};
use sr_common::{Backend, Fault, HostFacts, Matrix, RunId, Subject};
use sr_compiler::CompileBundle;
use sr_evidence::report::RunReport;
use sr_policy::spec::BackendChoice;
use sr_policy::{HostContext, PolicySpec, validate_host};
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
    /// The command that runs safe-run-helper as root on its standard input; empty: there is none.
    pub helper: Vec<OsString>,
    /// The parts of other walls that somebody named.
    pub programs: Programs,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Request {
    pub policy: PolicySpec,
    /// What the host's rules must know, besides the paths of the mounts.
    pub host: HostContext,
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
    /// The results of `safe-run doctor --attack`, for the run's attestation to name.
    pub attack: Option<serde_json::Value>,
    /// The directories into which the report is taken out afterwards, and a policy saved. Once a run has begun this process
    /// can write nowhere else but into the run store.
    pub export: Vec<PathBuf>,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub id: RunId,
    /// The exit status of `safe-run run`.
    pub status: u8,
    pub report: RunReport,
    /// The run's folder; `None` where the policy keeps no evidence. Then the report above names no digests and no chain.
    pub dir: Option<PathBuf>,
    /// What the program wrote last to standard error, or to its terminal, was not the end of a line.
    pub within_line: bool,
    /// Operations that a person allowed when asked, such as `modify_ldt` or `ioctl 0x541b`.
    pub allowed: Vec<String>,
    /// Things that a person should be told, a sentence each.
    pub notes: Vec<String>,
}

/// Why there was no run, and where that is recorded.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub faults: Vec<Fault>,
    /// The folder of the run that was not started, with a report that says so; `None` where the store took none, or the policy
    /// keeps none.
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

/// A policy, compiled for this host.
#[derive(Debug)]
pub struct Compiled {
    pub facts: HostFacts,
    pub subject: Subject,
    pub bundle: CompileBundle,
    /// Serves as long as this is held; `None`: not needed, or none is named.
    pub helper: Option<Helper>,
}

/// What compilation must know.
struct Known {
    facts: HostFacts,
    subject: Subject,
    helper: Option<Helper>,
}

/// Gathers what compilation must know, judges by the host's rules what was found, and compiles. Nothing is started, but programs
/// of other walls to tell their versions.
pub fn compile_for_host(
    policy: &PolicySpec,
    host: &HostContext,
    caller: &Caller,
    store: &Store,
) -> Result<Compiled, Vec<Fault>> {
    compile_with(policy, host, caller, store, Making::Kept)
}

/// The same, for a run: what is missing of its parts and can be made is made.
pub(crate) fn compile_to_run(
    policy: &PolicySpec,
    host: &HostContext,
    caller: &Caller,
    store: &Store,
) -> Result<Compiled, Vec<Fault>> {
    compile_with(policy, host, caller, store, Making::Missing)
}

/// Whether the code of a module is compiled where that was not done before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    Kept,
    Missing,
}

fn compile_with(
    policy: &PolicySpec,
    host: &HostContext,
    caller: &Caller,
    store: &Store,
    making: Making,
) -> Result<Compiled, Vec<Fault>> {
    let native = [BackendChoice::Auto, BackendChoice::This(Backend::Process)];
    let look = (!native.contains(&policy.runtime.backend)).then_some(Look::Only);
    let Known {
        facts,
        mut subject,
        helper,
    } = gather(policy, host, caller, store, look)?;
    if facts.walls.is_some() {
        let wall = sr_compiler::wall_for(policy, &facts, &subject)?;
        subject.wall = parts::find(wall, policy, &subject.command, caller, store, making).map_err(|f| vec![f])?;
    }
    let bundle = sr_compiler::compile(policy, &facts, &subject)?;
    Ok(Compiled {
        facts,
        subject,
        bundle,
        helper,
    })
}

/// What each wall would hold of `policy` on this host; as [`compile_for_host`], which wall the policy names aside.
pub fn coverage_for_host(
    policy: &PolicySpec,
    host: &HostContext,
    caller: &Caller,
    store: &Store,
) -> Result<Matrix, Vec<Fault>> {
    let known = gather(policy, host, caller, store, Some(Look::Versions))?;
    sr_compiler::matrix(policy, &known.facts, &known.subject)
}

/// `walls`: how closely it is looked at what there is of other walls; `None`: not at all.
fn gather(
    policy: &PolicySpec,
    host: &HostContext,
    caller: &Caller,
    store: &Store,
    walls: Option<Look>,
) -> Result<Known, Vec<Fault>> {
    let private: Vec<_> = std::iter::once(&caller.keys).chain(&caller.runtime).cloned().collect();
    let mut facts =
        facts::gather(store.path(), &private, caller.home.as_deref(), caller.id_base).map_err(|f| vec![f])?;
    if policy.mac.is_some() {
        facts.mac = Some(facts::mac());
    }
    facts.walls = walls.map(|look| walls::gather(store.path(), &caller.programs, &caller.path_var, look));
    let helper = helper::complete(&mut facts, &caller.helper, policy).map_err(|f| vec![f])?;
    tracing::debug!("host's facts gathered");
    let cache = store.cache();
    let surroundings = Surroundings {
        facts: &facts,
        pyenv_version: caller.pyenv_version.as_deref(),
        cache: Some(&cache),
    };
    let subject = subject::subject(policy, &caller.cwd, &caller.path_var, &surroundings).map_err(|f| vec![f])?;
    // What is to be run may say itself that it needs another wall than the native one.
    if facts.walls.is_none() && policy.runtime.backend == BackendChoice::Auto && subject.command.module.is_some() {
        let walls = walls::gather(store.path(), &caller.programs, &caller.path_var, Look::Only);
        facts.walls = Some(walls);
    }
    tracing::debug!("subject found");
    // These paths are the ones that are mounted, and no link is followed then: no other may be what the rules allow.
    let found = HostContext {
        sources: subject.mounts.iter().map(|m| Some(m.source.clone())).collect(),
        root: subject.root.as_ref().map(|root| root.source.clone()),
        ..host.clone()
    };
    let faults = validate_host(policy, &found);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Known { facts, subject, helper })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whoever stands in `dir` and has nothing else.
    pub(crate) fn caller(dir: &std::path::Path) -> Caller {
        let dir = dir.canonicalize().unwrap();
        Caller {
            path_var: "/usr/bin:/bin".into(),
            pyenv_version: None,
            home: None,
            keys: dir.join("keys"),
            runtime: None,
            id_base: 0x7000_0000,
            broker: Vec::new(),
            helper: Vec::new(),
            programs: Programs::default(),
            cwd: dir,
        }
    }

    /// A link in a mount's path was exchanged after the command line had looked at it.
    #[test]
    fn a_source_that_was_exchanged_is_judged_by_where_it_leads_now() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for name in ["allowed/work", "outside"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("../outside", top.join("allowed/source")).unwrap();
        let text = |name: &str| top.join(name).to_str().unwrap().to_owned();
        let mut policy = sr_policy::preset("standard").unwrap();
        policy.mounts[0].source = text("allowed/source");
        policy.mounts[0].target = Some("/data".into());
        policy.runtime.command = Some("/bin/true".into());
        let mut host = HostContext {
            cwd: text("allowed/work"),
            sources: vec![Some(text("allowed/source"))],
            ..HostContext::default()
        };
        let caller = Caller {
            cwd: top.join("allowed/work"),
            ..caller(&top)
        };
        let store = Store::open(&top.join("store")).unwrap();
        let judged = |host: &HostContext| match compile_for_host(&policy, host, &caller, &store) {
            Ok(compiled) => Ok(compiled.subject.mounts[0].source.clone()),
            Err(faults) => Err(faults.iter().filter_map(|f| f.rule).collect::<Vec<_>>()),
        };
        assert_eq!(judged(&host), Ok(text("outside")));
        host.operator.allowed_prefixes = Some(vec![text("outside")]);
        assert_eq!(judged(&host), Ok(text("outside")));
        host.operator.allowed_prefixes = Some(vec![text("allowed")]);
        assert_eq!(judged(&host), Err(vec!["SR-RULE-source-outside-prefixes"]));
        host.operator.allowed_prefixes = None;
        host.keys = vec![text("outside")];
        assert_eq!(judged(&host), Err(vec!["SR-RULE-mount-shows-store"]));
    }
}
