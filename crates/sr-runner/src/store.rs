//! The run store: one folder a run under `runs/`, the layers of sessions, the journals of runs that are under way.
//! Everything is the owner's alone (0700): no view ever shows it.

use crate::removal;
use crate::session;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags};
use sr_common::{Code, Fault, RunId};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{LayerMask, ViewKind};
use sr_evidence::files;
use sr_evidence::report::RunReport;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The directories of a store, in the order in which they are made.
const PARTS: [&str; 4] = ["runs", "sessions", "cache", "journal"];

/// An open run store.
#[derive(Debug, Clone)]
pub struct Store {
    base: PathBuf,
}

/// The folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    pub id: RunId,
    pub path: PathBuf,
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    Fault::new(
        Code::Run001,
        "store",
        format!("the run store {} cannot be used: {error}", path.display()),
        "make it writable, make room, or name another with SAFE_RUN_WORKDIR_BASE",
    )
}

/// An id that no other run has.
pub(crate) fn new_id() -> Result<RunId, Fault> {
    let mut random = [0u8; 10];
    let fault = |why: String| Fault::new(Code::Run001, "launch.prepare", why, "");
    // As few bytes as this come whole, or not at all (getrandom(2)).
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| fault(format!("no random numbers: {e}")))?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|e| fault(e.to_string()))?;
    Ok(RunId::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), random))
}

fn make_private(path: &Path) -> Result<(), Fault> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(e) => Err(unusable(path, &e)),
    }
}

/// Has an ext4 place the directories made in `dir` apart from what is around it (`T` of chattr(1)). One without a journal
/// passes over every inode in a directory's neighbourhood that was deleted in the last minutes, whenever it makes a file:
/// beside a busy `/tmp` that is a third of a millisecond each (`recently_deleted` in fs/ext4/ialloc.c). Other file systems do
/// not know the attribute, nor need it.
fn spread(dir: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let set = |dir: OwnedFd| {
        let now = rustix::fs::ioctl_getflags(&dir)?;
        rustix::fs::ioctl_setflags(&dir, now | rustix::fs::IFlags::TOPDIR)
    };
    // It costs time, not truth.
    let _ = rustix::fs::open(dir, flags, Mode::empty()).and_then(set);
}

/// Makes the directory `name` in `dir`, unless it is there. An ext4 chooses its place by the name that it is made under,
/// the same for the same name (`find_group_orlov` in fs/ext4/ialloc.c): a store would come to lie where one that was removed
/// a moment ago has left its inodes. So it is made under a name of its own.
fn make_apart(dir: &Path, name: &str) -> Result<(), Fault> {
    let path = dir.join(name);
    if path.is_dir() {
        return Ok(());
    }
    let first = dir.join(format!(".{name}-{}", new_id()?));
    make_private(&first)?;
    match rustix::fs::renameat_with(CWD, &first, CWD, &path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Another start made it meanwhile, or this file system cannot rename so.
        Err(_) => match fs::remove_dir(&first) {
            // Gone already: someone cleans up.
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(unusable(&first, &e)),
            _ => make_private(&path),
        },
    }
}

/// Whether `name` is that of a directory that [`make_apart`] has made and not yet renamed.
fn is_half_made(name: &str) -> bool {
    let parts = name.strip_prefix('.').and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(part, id)| PARTS.contains(&part) && RunId::parse(id).is_some())
}

impl Store {
    /// Opens the store at `base`, making it if it is not there.
    pub fn open(base: &Path) -> Result<Store, Fault> {
        if !base.join("journal").is_dir() {
            make_private(base)?;
            spread(base);
            // The journal's last: where it is, all are.
            for part in PARTS {
                make_apart(base, part)?;
            }
        }
        // Views hide the store by its canonical path.
        let base = base.canonicalize().map_err(|e| unusable(base, &e))?;
        Ok(Store { base })
    }

    pub fn path(&self) -> &Path {
        &self.base
    }

    pub(crate) fn journal(&self, id: &RunId) -> PathBuf {
        self.base.join("journal").join(id.as_str())
    }

    pub(crate) fn journals(&self) -> PathBuf {
        self.base.join("journal")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.base.join("cache")
    }

    /// Removes what was being made in the store, or written to its cache, by processes that are no more. Gives what it removed.
    pub(crate) fn sweep(&self) -> Vec<PathBuf> {
        let mut removed = Vec::new();
        for entry in fs::read_dir(&self.base).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(is_half_made) && fs::remove_dir(entry.path()).is_ok() {
                removed.push(entry.path());
            }
        }
        for entry in fs::read_dir(self.cache()).into_iter().flatten().flatten() {
            // A file of the cache gets its name last; until then the number of its writer stands behind it.
            let path = entry.path();
            let writer = path.extension().and_then(|end| end.to_str()?.parse::<i32>().ok());
            let writer = writer.and_then(rustix::process::Pid::from_raw);
            let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
            if writer.is_some_and(gone) && fs::remove_file(&path).is_ok() {
                removed.push(path);
            }
        }
        removed
    }

    /// The folder of a session's layers, locked for one run at a time.
    pub(crate) fn session(&self, name: &str) -> Result<(PathBuf, OwnedFd), Fault> {
        let path = session::folder(&self.base, name);
        make_private(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| unusable(&path, &e.into()))?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Fault::new(
                Code::Run001,
                "session",
                format!("session {name} is in use by another run"),
                "wait for that run, or choose another name with --session",
            )
        })?;
        Ok((path, fd))
    }

    pub(crate) fn create_run(&self, id: &RunId) -> Result<RunDir, Fault> {
        let path = self.base.join("runs").join(id.as_str());
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| unusable(&path, &e))?;
        Ok(RunDir { id: id.clone(), path })
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<RunDir>, Fault> {
        let path = self.base.join("runs");
        let mut runs = Vec::new();
        for entry in fs::read_dir(&path).map_err(|e| unusable(&path, &e))? {
            let entry = entry.map_err(|e| unusable(&path, &e))?;
            if let Some(id) = entry.file_name().to_str().and_then(RunId::parse) {
                runs.push(RunDir { id, path: entry.path() });
            }
        }
        runs.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(runs)
    }

    /// The run that `name` means: `last`, or a prefix that only one run has.
    pub fn find(&self, name: &str) -> Result<RunDir, Fault> {
        let mut runs = self.runs()?;
        if name == "last" {
            return runs.pop().ok_or_else(|| {
                Fault::new(
                    Code::Run001,
                    "run",
                    "there are no runs yet",
                    "start one: safe-run run -- COMMAND",
                )
            });
        }
        let mut found: Vec<RunDir> = runs
            .into_iter()
            .filter(|run| RunId::is_prefix(name) && run.id.as_str().starts_with(name))
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some(run), true) => Ok(run),
            (Some(_), false) => Err(Fault::new(
                Code::Run001,
                "run",
                format!("{name} is the beginning of {} run ids", found.len() + 1),
                "write more of the id; `safe-run runs` lists them",
            )),
            (None, _) => Err(Fault::new(
                Code::Run001,
                "run",
                format!("no run {name:?}"),
                "`safe-run runs` lists the runs",
            )),
        }
    }

    /// Removes a run's folder, and with the last run of a session the session's layers. A run that is under way is
    /// refused. Gives the session whose layers went.
    pub fn discard(&self, run: &RunDir) -> Result<Option<String>, Fault> {
        if self.is_running(&run.id) {
            return Err(Fault::new(
                Code::Run001,
                "run",
                format!("run {} is under way", run.id.short()),
                "wait for its end, or end it",
            ));
        }
        let _lock = run.lock()?;
        let last_of = self.last_of_session(run)?;
        let locked = match &last_of {
            Some(name) => Some(self.session(name)?),
            None => None,
        };
        removal::remove(&run.path).map_err(|e| unusable(&run.path, &e))?;
        if let Some((path, _lock)) = &locked {
            session::empty(path).map_err(|e| unusable(path, &e))?;
        }
        Ok(last_of)
    }

    /// The session of `run`, if no other run of the store belongs to it.
    fn last_of_session(&self, run: &RunDir) -> Result<Option<String>, Fault> {
        let of = |run: &RunDir| run.bundle().and_then(|bundle| bundle.filesystem_plan.session);
        let Some(name) = of(run) else { return Ok(None) };
        let others = self.runs()?;
        let shared = others
            .iter()
            .any(|other| other.id != run.id && of(other).as_deref() == Some(name.as_str()));
        Ok((!shared).then_some(name))
    }

    /// Whether a supervisor holds this run's journal.
    pub fn is_running(&self, id: &RunId) -> bool {
        crate::journal::is_held(&self.journal(id))
    }
}

/// A captured directory of a run that has ended.
#[derive(Debug, Clone)]
pub struct CapturedLayer {
    /// In the bundle.
    pub number: u32,
    /// The session that it is shared in.
    pub session: Option<String>,
    pub upper: PathBuf,
    /// On the host.
    pub source: PathBuf,
    /// In the view.
    pub target: String,
    pub hidden: Vec<LayerMask>,
    /// When it began to be filled, as far as the store tells.
    pub started: SystemTime,
}

impl CapturedLayer {
    /// The layer as [`crate::changes`] takes it.
    pub fn as_layer(&self) -> crate::changes::Layer<'_> {
        crate::changes::Layer {
            upper: &self.upper,
            lower: &self.source,
            hidden: &self.hidden,
            started: self.started,
        }
    }
}

impl Store {
    /// What `run` captured, in the bundle's order; empty where it captured nothing.
    pub fn captured(&self, run: &RunDir) -> Vec<CapturedLayer> {
        run.bundle()
            .map_or_else(Vec::new, |bundle| self.captured_under(run, bundle))
    }

    /// The same, under the bundle that the caller has read.
    pub(crate) fn captured_under(&self, run: &RunDir, bundle: CompileBundle) -> Vec<CapturedLayer> {
        let session = bundle.filesystem_plan.session.clone();
        let root = session
            .as_ref()
            .map(|name| session::folder(&self.base, name).join(session::key(&bundle.filesystem_plan)));
        let layers = bundle
            .filesystem_plan
            .entries
            .into_iter()
            .filter_map(|entry| match entry.what {
                ViewKind::Captured {
                    source, layer, hidden, ..
                } => {
                    let started = run.started();
                    let own = root.as_ref().map(|root| root.join(layer.to_string()));
                    Some(CapturedLayer {
                        number: layer,
                        session: session.clone(),
                        started: own.as_ref().map_or(started, |own| session::began(own, started)),
                        upper: own.map_or_else(|| run.layer(layer), |own| own.join("upper")),
                        source: source.into(),
                        target: entry.target,
                        hidden,
                    })
                }
                _ => None,
            });
        layers.filter(|layer| layer.upper.is_dir()).collect()
    }
}

impl RunDir {
    /// The report, if the run came to its end.
    pub fn report(&self) -> Option<RunReport> {
        let bytes = fs::read(self.path.join(files::REPORT)).ok()?;
        RunReport::parse(&bytes).ok()
    }

    /// Keeps the run's folder to one who writes to it; it is let go of when the descriptor is closed.
    pub(crate) fn lock(&self) -> Result<OwnedFd, Fault> {
        let fd = files::open_dir(&self.path).map_err(|e| unusable(&self.path, &e.into()))?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Fault::new(
                Code::Run001,
                "run",
                format!(
                    "run {} is being applied or discarded by another process",
                    self.id.short()
                ),
                "wait for its end, and look again: safe-run show",
            )
        })?;
        Ok(fd)
    }

    /// When the run began.
    pub fn started(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.id.unix_millis())
    }

    /// The bundle under which it ran; `None` for a run that was refused.
    pub fn bundle(&self) -> Option<CompileBundle> {
        serde_json::from_slice(&fs::read(self.path.join(files::BUNDLE)).ok()?).ok()
    }

    /// The upper directory of captured layer `layer`.
    pub fn layer(&self, layer: u32) -> PathBuf {
        self.path.join("layers").join(layer.to_string()).join("upper")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::IFlags;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    /// One with groups of inodes to choose from. Says so where it is not.
    fn on_ext4(dir: &Path) -> bool {
        const EXT4: i64 = 0xef53;
        #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
        let ext4 = rustix::fs::statfs(dir).unwrap().f_type as i64 == EXT4;
        let large = rustix::fs::statvfs(dir).unwrap().f_files > 1 << 20;
        if !(ext4 && large) {
            eprintln!("SKIPPED: {} is not on a large ext4", dir.display());
        }
        ext4 && large
    }

    #[test]
    fn a_new_store_on_ext4_is_placed_apart_and_an_old_one_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("s");
        Store::open(&base).unwrap();
        if !on_ext4(&base) {
            return;
        }
        let open = || fs::File::open(&base).unwrap();
        let flags = rustix::fs::ioctl_getflags(open()).unwrap();
        assert!(flags.contains(IFlags::TOPDIR));
        rustix::fs::ioctl_setflags(open(), flags - IFlags::TOPDIR).unwrap();
        Store::open(&base).unwrap();
        assert!(!rustix::fs::ioctl_getflags(open()).unwrap().contains(IFlags::TOPDIR));
    }

    #[test]
    fn a_store_in_the_place_of_a_removed_one_lies_elsewhere_on_ext4() {
        let dir = tempfile::tempdir().unwrap();
        if !on_ext4(dir.path()) {
            return;
        }
        let base = dir.path().join("s");
        let places: std::collections::BTreeSet<u64> = (0..8)
            .map(|_| {
                Store::open(&base).unwrap();
                let inode = fs::metadata(base.join("runs")).unwrap().ino();
                fs::remove_dir_all(&base).unwrap();
                inode
            })
            .collect();
        // Under its own name it was the same inode, or the one beside it, each time.
        let spread = places.last().unwrap() - places.first().unwrap();
        assert!(spread > 8192, "{places:?}");
    }

    #[test]
    fn starts_that_make_a_store_together_make_one() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let base = dir.path().join(round.to_string());
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let store = Store::open(&base).unwrap();
                        let id = new_id().unwrap();
                        fs::write(store.journal(&id), "").unwrap();
                        store.create_run(&id).unwrap();
                    });
                }
            });
            let names = |dir: &Path| {
                let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
                names.sort();
                names
            };
            assert_eq!(names(&base), ["cache", "journal", "runs", "sessions"]);
            assert_eq!(
                (names(&base.join("runs")).len(), names(&base.join("journal")).len()),
                (4, 4)
            );
            for name in names(&base) {
                let mode = fs::metadata(base.join(name)).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o700);
            }
        }
    }
}
