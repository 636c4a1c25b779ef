//! Carries changes over to the host. Everything is judged first: with one conflict that nobody forced, nothing is
//! written. What was written is recorded beside the layer, so that a second call finds nothing left to do.

mod plan;
mod record;
mod write;

pub(super) use record::Record;

use super::{Layer, Scanned, scan};
use plan::Plan;
use serde::{Deserialize, Serialize};
use sr_common::Fault;
use write::Writer;

/// What a person asked for. Paths are relative, as [`super::Change::path`] writes them; a directory stands for all that
/// is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Apply only these. Naming a path here approves what is dangerous about that path itself. Empty: everything.
    pub only: Vec<String>,
    /// Dangerous paths that are approved besides.
    pub approve: Vec<String>,
    /// Paths whose conflicts are overridden: the host's version is lost.
    pub force: Vec<String>,
    /// Flush every file to the disk.
    pub sync: bool,
}

/// What became of the changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    pub applied: Vec<String>,
    /// Dangerous and not named: still to be decided.
    pub pending: Vec<Note>,
    /// Never applied, wholly (a device) or in part (the setuid bit of an applied file).
    pub skipped: Vec<Note>,
    /// Names that the person gave and no change has: applied before, or mistyped.
    pub unmatched: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    pub path: String,
    pub reason: String,
}

/// Applies the layer's changes to its host directory. The faults are either all conflicts, with nothing written, or
/// the one failure that stopped the writing; what was written until then is recorded.
pub fn apply(layer: &Layer<'_>, options: &ApplyOptions) -> Result<Applied, Vec<Fault>> {
    let scanned = scan::read(layer).map_err(|fault| vec![fault])?;
    let (done, faults) = prepare(layer, scanned, options)?.write();
    if faults.is_empty() { Ok(done) } else { Err(faults) }
}

/// What is to be written, judged; nothing is written yet.
pub struct Prepared<'a> {
    plan: Plan,
    writer: Writer<'a>,
}

/// Judges what was read of `layer`. The faults are conflicts, all of them.
pub fn prepare<'a>(layer: &'a Layer<'a>, scanned: Scanned, options: &ApplyOptions) -> Result<Prepared<'a>, Vec<Fault>> {
    let plan = Plan::make(scanned.entries, options)?;
    let writer = Writer::open(layer, options.sync).map_err(|fault| vec![fault])?;
    Ok(Prepared { plan, writer })
}

impl Prepared<'_> {
    /// The paths that will be written, by path.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.plan.todo.iter().map(|e| e.change.path.clone()).collect();
        paths.sort();
        paths
    }

    /// What is decided already: nothing of it is applied.
    pub fn outcome(&self) -> &Applied {
        &self.plan.outcome
    }

    /// As if the process were killed before its end.
    #[cfg(test)]
    pub fn write_without_end(mut self) {
        self.writer.all(&self.plan.todo, &mut Vec::new()).unwrap();
    }

    /// Writes. What was written is in the outcome, whatever went wrong.
    pub fn write(mut self) -> (Applied, Vec<Fault>) {
        let mut done = self.plan.outcome;
        let result = self.writer.all(&self.plan.todo, &mut done.applied);
        let recorded = self.writer.finish();
        let faults = [result, recorded].into_iter().filter_map(Result::err).collect();
        (done, faults)
    }
}
