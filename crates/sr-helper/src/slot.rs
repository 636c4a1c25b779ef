//! What a user's helpers have made, and how many of them there may be. Each holds a lock on a file of its own, which names
//! the directories of its group before they are made: a file that nobody holds is what a killed one left, and is cleaned up
//! by the user's next. The directory is root's alone: in one that others can open, they could lock.

use crate::trusted;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, mkdir, openat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What is about to be made, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A directory of a control group.
    Group(PathBuf),
    /// The limits of a project, on the file system of a device.
    Project { device: u64, id: u32 },
}

impl Made {
    fn line(&self) -> String {
        match self {
            Made::Group(dir) => format!("{}\n", dir.display()),
            Made::Project { device, id } => format!("project {device} {id}\n"),
        }
    }

    fn of_line(line: &str) -> Option<Made> {
        let Some(numbers) = line.strip_prefix("project ") else {
            return Some(Made::Group(line.into()));
        };
        let (device, id) = numbers.split_once(' ')?;
        Some(Made::Project {
            device: device.parse().ok()?,
            id: id.parse().ok()?,
        })
    }

    pub fn group(&self) -> Option<&Path> {
        match self {
            Made::Group(dir) => Some(dir),
            Made::Project { .. } => None,
        }
    }
}

/// The directory of all of them.
#[derive(Debug)]
pub struct Slots(OwnedFd);

/// One helper's.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    lock: OwnedFd,
    uid: u32,
    name: String,
    file: File,
    /// How many groups the user may have.
    runs: u32,
    /// How many times something was to be made that may be there still.
    there: u32,
}

fn shown(what: &str) -> impl Fn(Errno) -> String {
    move |e| format!("{what}: {e}")
}

impl Slots {
    pub fn open(path: &Path) -> Result<Slots, String> {
        match mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(format!("{}: {e}", path.display())),
        }
        let dir = trusted::open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mode = rustix::fs::fstat(&dir).map_err(shown("state"))?.st_mode & 0o777;
        match mode {
            0o700 => Ok(Slots(dir)),
            _ => Err(format!("{} must have mode 0700, not {mode:04o}", path.display())),
        }
    }

    fn file(&self, name: &str) -> Result<OwnedFd, String> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR).map_err(shown(name))
    }

    /// Takes one for a user, after what killed helpers of his left was given to `clean`. There is one for each of `runs`
    /// groups, and as many again for helpers that have none: a command joins by one.
    pub fn take(self, uid: u32, runs: u32, clean: impl Fn(&[Made]) -> Result<(), String>) -> Result<Slot, String> {
        let most = runs.saturating_mul(2);
        let lock = self.file(&format!("{uid}.lock"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(shown("lock"))?;
        let mut held = Vec::new();
        for number in self.numbers(uid)? {
            let name = format!("{uid}.{number}");
            let file = self.file(&name)?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                held.push(number);
                continue;
            }
            match clean(&named(file)) {
                Ok(()) => unlinkat(&self.0, &name, AtFlags::empty()).map_err(shown(&name))?,
                // It counts until it is gone.
                Err(_) => held.push(number),
            }
        }
        let free = (0..most).find(|number| !held.contains(number));
        let number = free.filter(|_| held.len() < most as usize).ok_or_else(|| {
            format!(
                "uid {uid} has {} helpers: for each of the {runs} runs that helper.toml allows, and as many again",
                held.len()
            )
        })?;
        let name = format!("{uid}.{number}");
        let file = self.file(&name)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(shown(&name))?;
        flock(&lock, FlockOperation::Unlock).map_err(shown("lock"))?;
        Ok(Slot {
            slots: self,
            lock,
            uid,
            name,
            file: file.into(),
            runs,
            there: 0,
        })
    }

    /// Of the files `UID.NUMBER` that are there.
    fn numbers(&self, uid: u32) -> Result<Vec<u32>, String> {
        let prefix = format!("{uid}.");
        let mut numbers = Vec::new();
        for entry in Dir::read_from(&self.0).map_err(shown("state"))? {
            let entry = entry.map_err(shown("state"))?;
            let name = entry.file_name().to_string_lossy();
            numbers.extend(name.strip_prefix(&prefix).and_then(|n| n.parse::<u32>().ok()));
        }
        Ok(numbers)
    }
}

/// What a file names, one thing a line.
fn named(file: OwnedFd) -> Vec<Made> {
    let mut text = String::new();
    // A line cut short by a kill was never followed by what it names.
    let _ = File::from(file).read_to_string(&mut text);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(Made::of_line).collect()
}

impl Slot {
    /// Of the user's other helpers: whether each lives, and what it named. Only to be asked for
    /// [`Slot::alone`].
    fn others(&self) -> Result<Vec<(bool, Vec<Made>)>, String> {
        let numbers = self.slots.numbers(self.uid)?.into_iter();
        let names = numbers.map(|number| format!("{}.{number}", self.uid));
        names
            .filter(|name| *name != self.name)
            .map(|name| {
                let file = self.slots.file(&name)?;
                let lives = flock(&file, FlockOperation::NonBlockingLockExclusive).is_err();
                Ok((lives, named(file)))
            })
            .collect()
    }

    /// The directories of the group of that name that a living helper of the user holds.
    pub fn held(&self, group: &str) -> Result<Vec<PathBuf>, String> {
        let others = self.alone(|| self.others())??.into_iter();
        let made = others.filter(|(lives, _)| *lives).flat_map(|(_, made)| made);
        let dirs = made.filter_map(|made| made.group().map(Path::to_owned));
        Ok(dirs.filter(|dir| dir.ends_with(group)).collect())
    }

    /// Writes down what is about to be made, if the user may have one more.
    pub fn will_make(&mut self, things: &[Made]) -> Result<(), String> {
        let lines: String = things.iter().map(Made::line).collect();
        self.alone(|| {
            let mut others = self.others()?;
            others.retain(|(_, made)| !made.is_empty());
            if others
                .iter()
                .flat_map(|(_, made)| made)
                .any(|made| things.contains(made))
            {
                return Err("it exists already, by another helper".into());
            }
            let groups = others.len();
            if groups >= self.runs as usize {
                return Err(format!(
                    "uid {} has {groups} runs, of the {} that helper.toml allows at once",
                    self.uid, self.runs
                ));
            }
            let written = (&self.file).write_all(lines.as_bytes());
            written.map_err(|e| format!("{}: {e}", self.name))
        })??;
        self.there += 1;
        Ok(())
    }

    /// What one [`Slot::will_make`] was told is not there any more. The file names all until nothing is left: what is gone
    /// already can be removed once more.
    pub fn removed(&mut self) {
        if self.there > 1 || self.file.set_len(0).and_then(|()| self.file.rewind()).is_ok() {
            self.there = self.there.saturating_sub(1);
        }
    }

    /// While no helper of any user chooses a project.
    pub fn alone_with_projects<T>(&mut self, work: impl FnOnce(&mut Slot) -> T) -> Result<T, String> {
        let lock = self.slots.file("projects.lock")?;
        flock(&lock, FlockOperation::LockExclusive).map_err(shown("lock"))?;
        Ok(work(self))
    }

    /// While no other helper of the user takes or leaves one.
    pub fn alone<T>(&self, work: impl FnOnce() -> T) -> Result<T, String> {
        flock(&self.lock, FlockOperation::LockExclusive).map_err(shown("lock"))?;
        let done = work();
        flock(&self.lock, FlockOperation::Unlock).map_err(shown("lock"))?;
        Ok(done)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.there == 0 {
            // Where it stays it is empty, and the next helper removes it.
            let _ = self.alone(|| unlinkat(&self.slots.0, &self.name, AtFlags::empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn nothing(_: &[Made]) -> Result<(), String> {
        Ok(())
    }

    #[test]
    fn each_helper_has_one_and_a_killed_ones_is_cleaned_up() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP each_helper_has_one_and_a_killed_ones_is_cleaned_up: not started by root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("state");
        let take = |uid, most| Slots::open(&path).unwrap().take(uid, most, nothing);
        let names = || {
            let mut names: Vec<String> = std::fs::read_dir(&path)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let one = take(1000, 1).unwrap();
        let mut two = take(1000, 1).unwrap();
        assert!(take(1000, 1).unwrap_err().contains("2 helpers"));
        let other = take(100, 1).unwrap();
        assert_eq!(names(), ["100.0", "100.lock", "1000.0", "1000.1", "1000.lock"]);
        drop(one);
        assert_eq!(names(), ["100.0", "100.lock", "1000.1", "1000.lock"]);
        // Killed: the lock ends with its descriptor, and the file stays.
        let dirs = ["/a/safe-run-x", "/b/safe-run-x"].map(PathBuf::from);
        let made = dirs.clone().map(Made::Group);
        let another = [Made::Group("/c/safe-run-y".into())];
        two.will_make(&made).unwrap();
        two.file.write_all(b"/half").unwrap();
        let mut third = take(1000, 1).unwrap();
        assert!(third.will_make(&made[1..]).unwrap_err().contains("exists"));
        assert!(third.will_make(&another).unwrap_err().contains("1 runs, of the 1"));
        assert_eq!(third.held("safe-run-x"), Ok(dirs.to_vec()));
        assert_eq!(third.held("safe-run-"), Ok(Vec::new()));
        assert_eq!(other.held("safe-run-x"), Ok(Vec::new()), "another user's");
        drop(two);
        assert_eq!(third.held("safe-run-x"), Ok(Vec::new()), "nobody holds it");
        drop(third);
        let seen = RefCell::new(Vec::new());
        let failing = |made: &[Made]| {
            seen.borrow_mut().push(made.to_vec());
            Err("still there".into())
        };
        let mut waits = Slots::open(&path).unwrap().take(1000, 1, failing).unwrap();
        assert_eq!(*seen.borrow(), [made.to_vec()]);
        // What is left counts until it is gone.
        assert!(waits.will_make(&another).unwrap_err().contains("1 runs"));
        drop(waits);
        let mut again = take(1000, 1).unwrap();
        again.will_make(&made).unwrap();
        let project = Made::Project { device: 7, id: 9 };
        again.will_make(std::slice::from_ref(&project)).unwrap();
        again.removed();
        let held = || named(Slots::open(&path).unwrap().file("1000.0").unwrap());
        assert_eq!(held(), [made.to_vec(), vec![project]].concat(), "one of two is there");
        again.removed();
        assert_eq!(held(), []);
        drop((again, other));
        assert_eq!(names(), ["100.lock", "1000.lock"]);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Slots::open(&path).unwrap_err().contains("0700"));
    }
}
