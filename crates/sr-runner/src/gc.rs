//! Cleaning up after supervisors that were killed: from their journals alone, idempotent.

use crate::journal::{self, Resource};
use crate::store::{Store, make_removable};
use std::fs;
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

/// Finishes what killed supervisors left. Living runs are not touched.
pub fn collect(store: &Store) -> Collected {
    let mut done = Collected::default();
    let Ok(entries) = fs::read_dir(store.journals()) else {
        return done;
    };
    for entry in entries.flatten() {
        let path = entry.path();
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
            let door = store.path().join("runs").join(name).join(crate::guest_wire::DOOR);
            if fs::remove_file(&door).is_ok() {
                done.removed.push(door);
            }
        }
        if clean {
            match fs::remove_file(&path) {
                Ok(()) => done.runs += 1,
                Err(e) => done.problems.push(format!("{}: {e}", path.display())),
            }
        }
    }
    done
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
            if !inside || !path.is_dir() {
                return (path, Ok(false));
            }
            make_removable(&path);
            let result = fs::remove_dir_all(&path).map(|()| true).map_err(|e| e.to_string());
            (path, result)
        }
    }
}
