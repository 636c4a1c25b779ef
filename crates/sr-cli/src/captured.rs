//! The captured layers of a run, as its bundle and its place in the store tell: what `diff` shows and `apply` takes over.

use sr_common::{Code, Fault, RunId};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{Backing, LayerMask, ViewKind};
use sr_evidence::files;
use sr_runner::changes::{self, Change, Layer};
use sr_runner::{RunDir, Store};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One captured directory of a run.
#[derive(Debug)]
pub struct Captured {
    /// On the host.
    pub source: PathBuf,
    upper: PathBuf,
    hidden: Vec<LayerMask>,
    started: SystemTime,
}

impl Captured {
    pub fn layer(&self) -> Layer<'_> {
        Layer { upper: &self.upper, lower: &self.source, hidden: &self.hidden, started: self.started }
    }

    pub fn changes(&self) -> Result<Vec<Change>, Fault> {
        changes::scan(&self.layer())
    }
}

/// The captured directories of `run`. A run that is under way has none yet.
pub fn of(store: &Store, run: &RunDir) -> Result<Vec<Captured>, Fault> {
    if store.is_running(&run.id) {
        let found = format!("run {} is under way", run.id.short());
        return Err(Fault::new(Code::Run001, "run", found, "its changes are captured at its end: wait for it"));
    }
    let bundle = bundle(run)?;
    let plan = &bundle.filesystem_plan;
    let root = match (&plan.session, plan.writable.backing) {
        (Some(session), Backing::Store) => store.path().join("sessions").join(session),
        _ => run.path.join("layers"),
    };
    let started = start_of(&run.id);
    let mut found = Vec::new();
    for entry in &plan.entries {
        let ViewKind::Captured { source, layer, hidden, .. } = &entry.what else { continue };
        let upper = root.join(layer.to_string()).join("upper");
        // A run that was killed leaves no layer, or half a one beside its journal.
        if upper.is_dir() {
            found.push(Captured { source: source.into(), upper, hidden: hidden.clone(), started });
        }
    }
    Ok(found)
}

fn bundle(run: &RunDir) -> Result<CompileBundle, Fault> {
    let path = run.path.join(files::BUNDLE);
    let fault = |why: String| {
        let remedy = format!("what holds of this run: safe-run report verify {}", run.id.short());
        Fault::new(Code::Evd002, "run", format!("{} cannot be read: {why}", path.display()), remedy)
    };
    let bytes = std::fs::read(Path::new(&path)).map_err(|e| fault(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| fault(e.to_string()))
}

/// The time in a run's id: a little before anything of the run was made.
fn start_of(id: &RunId) -> SystemTime {
    const ALPHABET: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |b: u8| ALPHABET.iter().position(|a| *a == b).unwrap_or(0) as u64;
    let millis = id.as_str().bytes().take(10).fold(0, |sum, b| sum << 5 | digit(b));
    UNIX_EPOCH + Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_when_its_run_began() {
        let id = RunId::new(1_795_000_123_456, [7; 10]);
        assert_eq!(start_of(&id), UNIX_EPOCH + Duration::from_millis(1_795_000_123_456));
    }
}
