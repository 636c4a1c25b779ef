//! The resource journal of a run: what it makes outside its own namespaces is written down before it is made, so that
//! anyone can clean up after a killed supervisor. The file is locked while the supervisor lives and removed at the end.

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use sr_common::{Code, Fault};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One thing that must not be left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Resource {
    /// A control group's directory.
    Cgroup { path: PathBuf },
    /// A folder of the store that only a running sandbox needs.
    Folder { path: PathBuf },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: fs::File,
}

fn fault(path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(
        Code::Run001,
        "store.journal",
        format!("the journal {} cannot be written: {error}", path.display()),
        "make room in the run store and see that it is writable",
    )
}

impl Journal {
    pub fn create(path: PathBuf) -> Result<Journal, Fault> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::APPEND | OFlags::CLOEXEC;
        loop {
            let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(|e| fault(&path, &e.into()))?;
            if own(&fd).map_err(|e| fault(&path, &e.into()))? {
                return Ok(Journal {
                    path,
                    file: fs::File::from(fd),
                });
            }
        }
    }

    /// Writes `resources` down. They may be made once this has returned.
    pub fn will_make(&mut self, resources: &[Resource]) -> Result<(), Fault> {
        let mut lines = Vec::new();
        for resource in resources {
            serde_json::to_writer(&mut lines, resource).map_err(|e| fault(&self.path, &e.into()))?;
            lines.push(b'\n');
        }
        self.file.write_all(&lines).map_err(|e| fault(&self.path, &e))
    }

    /// Everything is cleaned up.
    pub fn close(self) -> Result<(), Fault> {
        fs::remove_file(&self.path).map_err(|e| fault(&self.path, &e))
    }
}

/// How long what a dead supervisor's sandbox still holds may take to be let go of.
const PATIENCE: Duration = Duration::from_secs(3);

/// Locks a new journal, in two ways. A record lock ends with the supervisor. The other lock stays until its sandbox, too, has
/// closed what it was born with. `false`: before it was locked, someone who cleans up took it for a dead one's and removed it.
fn own(fd: &OwnedFd) -> rustix::io::Result<bool> {
    rustix::fs::fcntl_lock(fd, FlockOperation::LockExclusive)?;
    rustix::fs::flock(fd, FlockOperation::LockExclusive)?;
    Ok(rustix::fs::fstat(fd)?.st_nlink > 0)
}

/// Whether a living supervisor holds the journal at `path`.
pub fn is_held(path: &Path) -> bool {
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(fd) => rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared).is_err(),
        Err(_) => false,
    }
}

/// What the journal of a dead supervisor says. `None` if its supervisor lives or it is gone.
/// The lock is held by the returned file: two cleaners never work on one journal. Not for a journal of this process's own:
/// to close it once more ends its record lock.
pub fn orphan(path: &Path) -> Option<(fs::File, Vec<Resource>)> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockShared).ok()?;
    let start = Instant::now();
    while rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_err() {
        if start.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let text = fs::read(path).ok()?;
    // A last line cut short by the kill was never followed by the making of what it names.
    let lines = text
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    Some((fs::File::from(fd), lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_was_cleaned_up_before_it_was_locked_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let made = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(own(&made).unwrap());
        // Another command's clean-up, which holds it while it works.
        drop(made);
        let made = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).unwrap();
        let (cleaner, _) = orphan(&path).unwrap();
        let owner = std::thread::spawn(move || own(&made).unwrap());
        fs::remove_file(&path).unwrap();
        drop(cleaner);
        assert!(!owner.join().unwrap());
    }

    #[test]
    fn a_dead_supervisors_journal_that_its_sandbox_still_held_was_taken_for_a_living_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let journal = Journal::create(path.clone()).unwrap();
        let inherited = journal.file.try_clone().unwrap();
        let mut sandbox = std::process::Command::new("sleep")
            .arg("60")
            .stdin(inherited)
            .spawn()
            .unwrap();
        drop(journal);
        assert!(is_held(&path));
        let end = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            sandbox.kill().unwrap();
            sandbox.wait().unwrap();
        });
        assert!(orphan(&path).is_some());
        end.join().unwrap();
    }

    #[test]
    fn a_held_journal_is_left_alone_and_a_dead_ones_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let mut journal = Journal::create(path.clone()).unwrap();
        let resource = Resource::Folder { path: "/x".into() };
        journal.will_make(std::slice::from_ref(&resource)).unwrap();
        assert!(is_held(&path));
        assert!(orphan(&path).is_none());
        drop(journal);
        assert!(!is_held(&path));
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"kind\":\"cg")
            .unwrap();
        assert_eq!(orphan(&path).unwrap().1, vec![resource]);
    }
}
