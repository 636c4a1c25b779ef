//! Control groups: where this process may make one, and the group of one run — made, limited, read back, killed,
//! removed. A run's group may be several directories (one for each v1 hierarchy). It knows no policy and no journal:
//! [`RunGroup::plan`] says which directories would be made, so that the caller can write them down first.

pub mod discover;
mod file;
mod kill;
mod strangers;
mod v1;
mod v2;

pub use discover::discover;
pub use file::{CgroupError, version};
pub use strangers::top_of;
pub use v2::quota_and_period;

use file::{Problem, rmdir_patiently};
use sr_common::Usage;
use sr_common::facts::CgroupController;
use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What every group of a run is called: this and the run's id. Nothing else is ever removed.
pub const PREFIX: &str = "safe-run-";

/// A controller and the limit that it shall hold; without a limit it only counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    pub at: CgroupController,
    pub limit: Option<u64>,
}

/// What a run's group is asked to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, of memory and swap together.
    pub memory: Option<Clause>,
    /// Thousandths of a CPU.
    pub cpu: Option<Clause>,
    /// Processes and threads.
    pub pids: Option<Clause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    const fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
        }
    }
}

impl Limits {
    fn clauses(&self) -> impl Iterator<Item = (Controller, &Clause)> {
        [
            (Controller::Memory, &self.memory),
            (Controller::Cpu, &self.cpu),
            (Controller::Pids, &self.pids),
        ]
        .into_iter()
        .filter_map(|(which, clause)| clause.as_ref().map(|c| (which, c)))
    }
}

/// A limit as the kernel gave it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// The file that holds it.
    pub file: PathBuf,
    pub value: String,
}

#[derive(Debug)]
struct Place {
    dir: PathBuf,
    version: u8,
    controllers: Vec<Controller>,
    /// This process made it, and may change it.
    own: bool,
}

/// The group of one run. Dropping it removes nothing: see [`RunGroup::remove`].
#[derive(Debug)]
pub struct RunGroup {
    places: Vec<Place>,
    v2: Option<OwnedFd>,
    written: Vec<file::Limit>,
}

impl Place {
    /// Whether a line of `/proc/PID/cgroup` (`hierarchy:controllers:path`) tells of this directory.
    fn is(&self, line: &str) -> bool {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            return false;
        };
        let hierarchy = match self.version {
            2 => controllers.is_empty(),
            _ => self
                .controllers
                .iter()
                .all(|which| controllers.split(',').any(|name| name == which.name())),
        };
        hierarchy && Path::new(path).file_name() == self.dir.file_name()
    }
}

impl RunGroup {
    /// The directories that [`RunGroup::create`] would make. `name` is `safe-run-` and more, without `/`.
    pub fn plan(name: &str, limits: &Limits) -> Result<Vec<PathBuf>, CgroupError> {
        Ok(places(name, limits, true)?.into_iter().map(|p| p.dir).collect())
    }

    /// How many v1 directories the group has: the length of [`RunGroup::task_files`].
    pub fn joins(name: &str, limits: &Limits) -> Result<usize, CgroupError> {
        Ok(places(name, limits, true)?.iter().filter(|p| p.version == 1).count())
    }

    /// A group that somebody else made, such as a helper with more rights: every limit must be what the kernel holds. What
    /// changes a group (joining, killing, removing) leaves it alone.
    pub fn attach(name: &str, limits: &Limits) -> Result<RunGroup, CgroupError> {
        let mut group = RunGroup {
            places: places(name, limits, false)?,
            v2: None,
            written: Vec::new(),
        };
        group.limits(limits, file::Limit::held)?;
        Ok(group)
    }

    /// Both as the group of one run, whose directories are made by different hands.
    #[must_use]
    pub fn with(mut self, other: RunGroup) -> RunGroup {
        self.places.extend(other.places);
        self.written.extend(other.written);
        self.v2 = self.v2.or(other.v2);
        self
    }

    /// Whether all of it was made by this process.
    pub fn is_own(&self) -> bool {
        self.places.iter().all(|place| place.own)
    }

    fn own(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.own)
    }

    /// Makes the group, writes its limits and reads each back. On failure nothing that it made is left.
    pub fn create(name: &str, limits: &Limits) -> Result<RunGroup, CgroupError> {
        let mut group = RunGroup {
            places: places(name, limits, true)?,
            v2: None,
            written: Vec::new(),
        };
        let mut made = 0;
        let result = group.build(limits, &mut made);
        match result {
            Ok(()) => Ok(group),
            Err(error) => {
                for place in &group.places[..made] {
                    // The failure that is reported is the first one; what could not be removed is in the journal.
                    let _ = rmdir_patiently(&place.dir);
                }
                Err(error)
            }
        }
    }

    fn build(&mut self, limits: &Limits, made: &mut usize) -> Result<(), CgroupError> {
        for place in &self.places {
            if place.version == 2 {
                v2::enable(&place.dir, &place.controllers)?;
            }
            file::mkdir(&place.dir)?;
            *made += 1;
        }
        self.limits(limits, file::Limit::write)?;
        if let Some(place) = self.places.iter().find(|p| p.version == 2) {
            self.v2 = Some(file::open_dir(&place.dir)?);
        }
        Ok(())
    }

    fn limits(&mut self, limits: &Limits, by: file::Put) -> Result<(), CgroupError> {
        for (which, clause) in limits.clauses() {
            let Some(place) = self.places.iter().find(|p| p.controllers.contains(&which)) else {
                continue;
            };
            if let Some(limit) = clause.limit {
                let each = if place.version == 2 { v2::limit } else { v1::limit };
                each(&place.dir, which, limit, by, &mut self.written)?;
            }
        }
        Ok(())
    }

    /// The directories of the group.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.places.iter().map(|p| p.dir.as_path())
    }

    /// The limits as the kernel gave them back when they were written.
    pub fn read_back(&self) -> impl Iterator<Item = &ReadBack> {
        self.written.iter().map(|limit| &limit.read_back)
    }

    /// The limits as the kernel gives them now, from the same files.
    pub fn observe(&self) -> Result<Vec<ReadBack>, CgroupError> {
        self.written.iter().map(file::Limit::observe).collect()
    }

    /// Puts a process into every v1 directory of the group, and into the v2 one unless `CLONE_INTO_CGROUP` did.
    pub fn add(&self, pid: u32, already_in_v2: bool) -> Result<(), CgroupError> {
        for place in &self.places {
            if !(place.version == 2 && already_in_v2) {
                file::write(&place.dir.join("cgroup.procs"), &pid.to_string())?;
            }
        }
        Ok(())
    }

    /// Puts a process into every directory of the group, with the effective uid of a user: in version 1 the kernel then
    /// refuses processes that are not his, whatever became of the number meanwhile (`__cgroup1_procs_write` in
    /// kernel/cgroup/cgroup-v1.c). Version 2 asks for no uid: see whether the process lived on
    /// afterwards, and [`RunGroup::put_back_strangers`].
    pub fn add_as(&self, uid: u32, pid: u32) -> Result<(), CgroupError> {
        for place in &self.places {
            let file = place.dir.join("cgroup.procs");
            let added = crate::process::with_effective_uid(uid, || file::write(&file, &pid.to_string()));
            added.map_err(|e| {
                let errno = rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::PERM);
                CgroupError::errno("setresuid", &file, errno)
            })??;
        }
        Ok(())
    }

    /// Moves what the user `uid` could not kill himself out of the v2 group again, to where it was born, and who has the
    /// number `whoever`.
    pub fn put_back_strangers(&self, uid: u32, whoever: Option<u32>) {
        let whoever = whoever.and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        for place in self.places.iter().filter(|place| place.version == 2) {
            strangers::put_back(&place.dir, uid, whoever);
        }
    }

    /// The v1 `tasks` files, open for writing: a thread that writes `0` there puts itself into the group, and only
    /// that way without the kernel's lock on all forks and exits, whose writer waits out a grace period of several
    /// milliseconds (`cgroup_procs_write_start` in kernel/cgroup/cgroup.c).
    pub fn task_files(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        self.own()
            .filter(|p| p.version == 1)
            .map(|p| file::open_for_writing(&p.dir.join("tasks")))
            .collect()
    }

    /// Whether `pid` is in every directory of the group, by its own `/proc/PID/cgroup`: the group's name is this run's
    /// alone.
    pub fn contains(&self, pid: u32) -> Result<bool, CgroupError> {
        let own = file::read(Path::new(&format!("/proc/{pid}/cgroup")))?;
        Ok(self.places.iter().all(|place| own.lines().any(|line| place.is(line))))
    }

    /// The v2 directory, for `CLONE_INTO_CGROUP`.
    pub fn dir_fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// What the group uses now. `disk_bytes` and `waited` are never set; a counter that this kernel lacks is `None`.
    pub fn usage(&self) -> Usage {
        self.measure(v1::usage, v2::usage)
    }

    /// The most that the group has used so far, and what it waited for.
    pub fn peaks(&self) -> Usage {
        let on_v2 = self.places.iter().find(|place| place.version == 2);
        Usage {
            waited: on_v2.and_then(|place| v2::waited(&place.dir)),
            ..self.measure(v1::peaks, v2::peaks)
        }
    }

    fn measure(
        &self,
        on_v1: fn(&Path, Controller) -> Option<u64>,
        on_v2: fn(&Path, Controller) -> Option<u64>,
    ) -> Usage {
        let mut usage = Usage::default();
        for place in &self.places {
            for which in &place.controllers {
                let value = if place.version == 2 {
                    on_v2(&place.dir, *which)
                } else {
                    on_v1(&place.dir, *which)
                };
                match which {
                    Controller::Memory => usage.memory_bytes = value,
                    Controller::Cpu => usage.cpu_micros = value,
                    Controller::Pids => usage.pids = value,
                }
            }
            if place.version == 2 && usage.cpu_micros.is_none() {
                // `cpu.stat` counts time in every v2 group, with or without the controller.
                usage.cpu_micros = on_v2(&place.dir, Controller::Cpu);
            }
        }
        usage
    }

    /// Processes that the kernel killed because the group was out of memory; `None` where it does not count them.
    pub fn oom_kills(&self) -> Option<u64> {
        let place = self.place(Controller::Memory)?;
        let file = if place.version == 2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        file::keyed(&place.dir.join(file), "oom_kill")
    }

    /// How often a fork failed because of the pids limit; `None` where it is not counted.
    pub fn pids_limit_hits(&self) -> Option<u64> {
        file::keyed(&self.place(Controller::Pids)?.dir.join("pids.events"), "max")
    }

    fn place(&self, which: Controller) -> Option<&Place> {
        self.places.iter().find(|p| p.controllers.contains(&which))
    }

    /// Kills every process in the group, and waits (a second at most) until none is left that could run.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        kill::all(self.own().map(|p| p.dir.as_path()), None)
    }

    /// The same of what the user `uid` may kill himself. Where others are left that is an error, and they are not to suffer
    /// from limits of his: these are taken away.
    pub fn kill_all_of(&self, uid: u32) -> Result<(), CgroupError> {
        kill_all_of(&self.paths().collect::<Vec<_>>(), uid)
    }

    /// Removes the group's directories if no process is left in it. `false`: something is, or they cannot be removed.
    pub fn remove_empty(&self) -> bool {
        self.own().all(|p| file::rmdir(&p.dir).is_ok())
    }

    /// Removes the group's directories. Already removed ones are fine; busy ones are tried again for a second.
    pub fn remove(&self) -> Result<(), Vec<CgroupError>> {
        collect(self.own().map(|p| rmdir_patiently(&p.dir)))
    }
}

/// Kills what is left in the groups of a dead supervisor's journal and removes them. A path that is not a run's group
/// on a cgroup file system is refused, whatever the journal says; one that is gone is fine.
pub fn remove_by_path(paths: &[PathBuf]) -> Result<(), Vec<CgroupError>> {
    remove_killing(paths, None)
}

/// The same, killing only what the user `uid` may kill himself, see [`RunGroup::kill_all_of`].
pub fn remove_by_path_of(paths: &[PathBuf], uid: u32) -> Result<(), Vec<CgroupError>> {
    remove_killing(paths, Some(uid))
}

fn remove_killing(paths: &[PathBuf], whose: kill::Whose) -> Result<(), Vec<CgroupError>> {
    collect(paths.iter().map(|path| {
        if !names_a_run(path) {
            return Err(CgroupError::new("remove", path, Problem::NotOurs));
        }
        match file::is_cgroup(path)? {
            None => Ok(()),
            Some(false) => Err(CgroupError::new("remove", path, Problem::NotOurs)),
            Some(true) => {
                match whose {
                    None => kill::all(std::iter::once(path.as_path()), None)?,
                    Some(uid) => kill_all_of(&[path], uid)?,
                }
                rmdir_patiently(path)
            }
        }
    }))
}

fn kill_all_of(dirs: &[&Path], uid: u32) -> Result<(), CgroupError> {
    kill::all(dirs.iter().copied(), Some(uid)).inspect_err(|_| dirs.iter().copied().for_each(lift))
}

/// Takes every limit away, as far as the directory has one.
fn lift(dir: &Path) {
    v1::lift(dir);
    v2::lift(dir);
}

/// Makes the directories in which `limits` would make a group, where they are missing, and hands them the controllers.
pub fn make_parents(limits: &Limits) -> Result<(), CgroupError> {
    for (which, clause) in limits.clauses() {
        let dir = Path::new(&clause.at.parent);
        if clause.at.version == 2 {
            v2::enable(dir, &[which])?;
        }
        match file::mkdir(dir) {
            Err(CgroupError {
                problem: Problem::Errno(rustix::io::Errno::EXIST),
                ..
            }) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Removes these directories again, each if it is empty.
pub fn remove_empty_parents(limits: &Limits) {
    for (_, clause) in limits.clauses() {
        // Whoever still has a group in it removes it later.
        let _ = file::rmdir(Path::new(&clause.at.parent));
    }
}

fn names_a_run(path: &Path) -> bool {
    let plain = path.is_absolute()
        && path
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    plain && path.file_name().is_some_and(is_run_name)
}

fn is_run_name(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.len() > PREFIX.len() && name.starts_with(PREFIX.as_bytes()) && !name.contains(&b'/')
}

fn places(name: &str, limits: &Limits, own: bool) -> Result<Vec<Place>, CgroupError> {
    let mut places: Vec<Place> = Vec::new();
    for (which, clause) in limits.clauses() {
        let dir = Path::new(&clause.at.parent).join(name);
        if name.contains('/') || !names_a_run(&dir) {
            return Err(CgroupError::new("plan", &dir, Problem::NotOurs));
        }
        match places.iter_mut().find(|p| p.dir == dir) {
            Some(place) => place.controllers.push(which),
            None => places.push(Place {
                dir,
                version: clause.at.version,
                controllers: vec![which],
                own,
            }),
        }
    }
    Ok(places)
}

fn collect(results: impl Iterator<Item = Result<(), CgroupError>>) -> Result<(), Vec<CgroupError>> {
    let errors: Vec<_> = results.filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

#[cfg(test)]
mod tests;
