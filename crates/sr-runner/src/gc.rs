//! Cleaning up after supervisors that were killed: from their journals alone, idempotent.

use crate::journal::{self, Resource};
use crate::removal;
use crate::store::Store;
use sr_common::RunId;
use sr_evidence::files;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What was found and done.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collected {
    /// Journals of dead supervisors that are done with.
    pub runs: u32,
    /// Things removed.
    pub removed: Vec<PathBuf>,
    /// What could not be removed, and why; their journals stay.
    pub problems: Vec<String>,
}

/// Finishes what killed supervisors left. Living runs are not touched; `own` is this process's, which does not even look at it.
pub fn collect(store: &Store, own: Option<&RunId>) -> Collected {
    let mut done = Collected::default();
    let mut killed = false;
    let Ok(entries) = fs::read_dir(store.journals()) else {
        return done;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if own.is_some_and(|id| entry.file_name() == id.as_str()) {
            continue;
        }
        let Some((_lock, resources)) = journal::orphan(&path) else {
            continue;
        };
        let mut clean = true;
        for resource in resources {
            let (path, result) = remove(store, resource);
            match result {
                Ok(true) => done.removed.push(path),
                Ok(false) => {}
                Err(why) => {
                    clean = false;
                    done.problems.push(format!("{}: {why}", path.display()));
                }
            }
        }
        // The journal's name is the run's id: no line is needed for what stands in the run's own folder.
        if let Some(name) = path.file_name() {
            let run = store.path().join("runs").join(name);
            let door = run.join(crate::guest_wire::DOOR);
            if fs::remove_file(&door).is_ok() {
                done.removed.push(door);
            }
            match files::open_dir(&run).map_err(io::Error::from).and_then(files::sweep) {
                Ok(names) => done.removed.extend(names.iter().map(|name| run.join(name))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    clean = false;
                    done.problems.push(format!("{}: {e}", run.display()));
                }
            }
        }
        killed = true;
        if clean {
            match fs::remove_file(&path) {
                Ok(()) => done.runs += 1,
                Err(e) => done.problems.push(format!("{}: {e}", path.display())),
            }
        }
    }
    if killed {
        done.removed.extend(store.sweep());
    }
    done
}

/// Removes what was left half made by commands that were killed before they had a journal.
pub fn unjournaled(store: &Store) -> Vec<PathBuf> {
    store.sweep()
}

/// Removes from the runtime directory what a killed supervisor left half made. Gives what it removed.
pub fn half_made(runtime: &Path) -> Vec<PathBuf> {
    sr_process::kept::sweep(runtime, usize::MAX)
}

/// Removes one resource. `Ok(false)`: it was not there.
fn remove(store: &Store, resource: Resource) -> (PathBuf, Result<bool, String>) {
    match resource {
        Resource::Cgroup { path } => {
            let existed = path.exists();
            let result = sr_kernel::cgroup::remove_by_path(std::slice::from_ref(&path));
            let result = result
                .map(|()| existed)
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
            (path, result)
        }
        Resource::Folder { path } => {
            // A journal is the user's own file; still, nothing outside the store is ever removed on its word.
            let inside = path.starts_with(store.path()) && !path.components().any(|c| c.as_os_str() == "..");
            if !inside {
                return (path, Ok(false));
            }
            let result = removal::remove(&path).map_err(|e| e.to_string());
            (path, result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::store::new_id;

    #[test]
    fn half_written_files_of_killed_runs_stayed_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s")).unwrap();
        let half = ".run_report.json.0123456789abcdef";
        let [dead, living] = [(), ()].map(|()| {
            let run = store.create_run(&new_id().unwrap()).unwrap();
            for name in [half, "events.jsonl", ".hidden"] {
                fs::write(run.path.join(name), "").unwrap();
            }
            run
        });
        drop(Journal::create(store.journal(&dead.id)).unwrap());
        let _held = Journal::create(store.journal(&living.id)).unwrap();
        let own = Some(&living.id);
        // No process has this number: it is beyond what pid_max can be.
        let (gone, written) = ("1-2.4194305".to_owned(), format!("1-3.{}", std::process::id()));
        for name in [gone.as_str(), &written, "1-4"] {
            fs::write(store.cache().join(name), "").unwrap();
        }
        let part = store.path().join(format!(".runs-{}", new_id().unwrap()));
        fs::create_dir(&part).unwrap();

        let done = collect(&store, own);
        let mut expected = vec![dead.path.join(half), part, store.cache().join(gone)];
        expected.sort();
        let mut removed = done.removed.clone();
        removed.sort();
        assert_eq!((removed, done.runs, done.problems), (expected, 1, vec![]));
        assert!(living.path.join(half).exists(), "it is being written");
        let names = |path: &Path| fs::read_dir(path).unwrap().count();
        assert_eq!((names(&dead.path), names(&store.cache())), (2, 2));
        assert_eq!(collect(&store, own), Collected::default());
    }
}
