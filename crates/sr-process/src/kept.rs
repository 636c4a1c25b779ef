//! The skeleton of a view, kept from run to run: made once in the user's runtime directory, and mounted read-only as the
//! root of every view that needs just this. Some fifty things are then one mount. Not in the run store, since mountinfo
//! tells where a mount comes from: a program is to learn no host path from it that says more than that Safe-Run runs here.
//!
//! A tree's name is the digest of all that is in it: of a file copied from the host its inode, size and times. Whoever
//! uses a tree holds a shared lock on it: who removes one takes the other kind, since what is unlinked here would vanish, with
//! the mounts on it, from the views of those who run. A tree is made for the second view that needs it: making one takes
//! longer than making a skeleton in a view, and many a project is run in once.

use crate::skeleton::{Item, What};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, makedev, openat,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use sr_common::Digest;
use sr_kernel::idmap;
use sr_kernel::step::MountFlags;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What the names of the trees begin with; of those that are not whole, after a dot.
const PREFIX: &str = "view-";

/// How many trees stay that are not in use.
const SPARE: usize = 16;

/// The file that remembers which trees were asked for: a table of keys, each in the place that its first byte says.
const SEEN: &str = "seen";

/// The time of every directory of a tree: to make or remove a name in one, which cleaners of runtime directories do by age,
/// changes it, and the tree is not used again.
const WHOLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// How long a file must have been left alone to be copied into a tree: a change within the same tick of the clock that
/// stamps it would not show.
const SETTLED: Duration = Duration::from_secs(2);

/// A whole tree in use.
#[derive(Debug)]
pub(crate) struct Kept {
    pub path: String,
    pub lock: OwnedFd,
}

/// The tree of `items` from `folder`, made if it was asked for before. `owner`: of all in it, where that is not this
/// process's user. An error is no reason to give up the run: the items can be made each time.
pub(crate) fn tree(folder: &Path, items: &[Item], owner: Option<u32>) -> io::Result<Kept> {
    let boot = sr_kernel::pseudo::read("/proc/sys/kernel/random/boot_id")?;
    let key = || key(&boot, items, owner);
    let asked = key()?;
    let name = format!("{PREFIX}{}", asked.hex());
    let path = folder.join(&name);
    let opened = open_folder(folder)?;
    let lock = match find(&opened, &name, items, owner) {
        Err(e) if e.kind() == io::ErrorKind::InvalidData => {
            // For the next start to make anew. Who still uses it keeps it.
            let _ = remove(folder, &path, true);
            return Err(e);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if !seen(&opened, asked)? {
                return Err(io::Error::other("it is asked for the first time"));
            }
            settled(items)?;
            let new = folder.join(hidden_name()?);
            let made = make(&new, items, owner).and_then(|lock| {
                // The name is of what was there before the files were read.
                if key()? != asked {
                    return Err(io::Error::other("the host's files change"));
                }
                rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared)?;
                fs::rename(&new, &path)?;
                Ok(lock)
            });
            match made {
                Ok(lock) => {
                    sweep(folder, SPARE);
                    lock
                }
                Err(e) => {
                    // What stays of it goes with the next sweep.
                    let _ = fs::remove_dir_all(&new);
                    // Another start may have made it meanwhile.
                    find(&opened, &name, items, owner).map_err(|_| e)?
                }
            }
        }
        found => found?,
    };
    let path = path
        .into_os_string()
        .into_string()
        .map_err(|_| io::Error::other("the runtime directory's path is not UTF-8"))?;
    Ok(Kept { path, lock })
}

/// A detached mount of the tree that `lock` holds. Its device nodes open where `flags` says so, also where the runtime
/// directory's own mount is `nodev`, as it mostly is: nothing else can be made in what only root may write.
pub(crate) fn mount(lock: &OwnedFd, flags: MountFlags) -> io::Result<OwnedFd> {
    let of_it = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(lock, "", of_it)?;
    idmap::set_mount(mount.as_fd(), flags, None)?;
    if flags.devices {
        idmap::clear_nodev(mount.as_fd())?;
    }
    Ok(mount)
}

/// Removes from `folder` the trees that nobody uses, but for the `spare` newest, and what killed makers left.
pub fn sweep(folder: &Path, spare: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let (mut whole, mut removed) = (Vec::new(), Vec::new());
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PREFIX) {
            // It got its name last.
            let named = entry.metadata().map(|m| (m.ctime(), m.ctime_nsec()));
            whole.push((named.unwrap_or_default(), entry.path()));
        } else if name.strip_prefix('.').is_some_and(|rest| rest.starts_with(PREFIX)) {
            removed.extend(remove(folder, &entry.path(), false).ok());
        }
    }
    whole.sort();
    whole.truncate(whole.len().saturating_sub(spare));
    removed.extend(whole.iter().filter_map(|(_, path)| remove(folder, path, true).ok()));
    removed
}

/// Removes the tree at `path`; one that is `whole` loses its name first, so that half of it is never taken for all.
fn remove(folder: &Path, path: &Path, whole: bool) -> io::Result<PathBuf> {
    let dir = open(path)?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    let hidden = if whole {
        folder.join(hidden_name()?)
    } else {
        path.to_owned()
    };
    if whole {
        fs::rename(path, &hidden)?;
    }
    fs::remove_dir_all(&hidden)?;
    Ok(path.to_owned())
}

fn hidden_name() -> io::Result<String> {
    let mut random = [0u8; 8];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!(".{PREFIX}{:016x}", u64::from_le_bytes(random)))
}

/// Names the tree of `items` by all that decides what is in it. Without a sync nothing says what a tree holds once the
/// machine went down: it is of this boot alone.
fn key(boot: &[u8], items: &[Item], owner: Option<u32>) -> io::Result<Digest> {
    let mut bytes = Vec::with_capacity(4 << 10);
    let mut field = |part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    field(boot);
    field(&owner.unwrap_or(u32::MAX).to_le_bytes());
    for item in items {
        field(item.target.as_bytes());
        match &item.what {
            What::Directory { mode } => {
                field(b"directory");
                field(&mode.to_le_bytes());
            }
            What::Symlink { to } => {
                field(b"link");
                field(to.as_bytes());
            }
            What::File { content } => {
                field(b"file");
                field(content);
            }
            What::Copy { source } => {
                field(b"copy");
                let stat = rustix::fs::stat(source.as_str())?;
                for number in identity(&stat) {
                    field(&number.to_le_bytes());
                }
            }
            What::Place => field(b"place"),
            What::Node { major, minor } => {
                field(b"node");
                field(&major.to_le_bytes());
                field(&minor.to_le_bytes());
            }
        }
    }
    Ok(Digest::of(&bytes))
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
fn identity(stat: &Stat) -> [i128; 7] {
    [
        stat.st_dev as i128,
        stat.st_ino as i128,
        stat.st_size as i128,
        stat.st_mtime as i128,
        stat.st_mtime_nsec as i128,
        stat.st_ctime as i128,
        stat.st_ctime_nsec as i128,
    ]
}

/// An error if a host file among `items` was changed a moment ago.
fn settled(items: &[Item]) -> io::Result<()> {
    for item in items {
        if let What::Copy { source } = &item.what {
            let stat = rustix::fs::stat(source.as_str())?;
            let changed = u64::try_from(stat.st_ctime).unwrap_or(0);
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed.saturating_add(1));
            if SystemTime::now() < changed + SETTLED {
                return Err(io::Error::other(format!("{source} was changed a moment ago")));
            }
        }
    }
    Ok(())
}

/// Opens the folder, made if it is not there. Nobody else may write to it: whoever could rename a tree in it would choose
/// what a view holds.
fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let opened = match open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => open(path)?,
        },
        opened => opened?,
    };
    made_by(&opened, rustix::process::geteuid().as_raw())?;
    Ok(opened)
}

/// An error unless `dir` belongs to `owner`, who alone may write to it.
fn made_by(dir: &OwnedFd, owner: u32) -> io::Result<Stat> {
    let stat = rustix::fs::fstat(dir)?;
    if stat.st_uid != owner || stat.st_mode & 0o022 != 0 {
        let found = format!("owner {}, mode {:o}", stat.st_uid, stat.st_mode & 0o7777);
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, found));
    }
    Ok(stat)
}

/// Whether `key` was asked for before, as far as `folder` remembers; it does from now on.
fn seen(folder: &OwnedFd, key: Digest) -> io::Result<bool> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let table = openat(folder, SEEN, flags, Mode::RUSR | Mode::WUSR)?;
    let key = key.as_bytes();
    let place = u64::from(key[0]) * key.len() as u64;
    let mut there = [0; 32];
    if rustix::io::pread(&table, &mut there, place)? == key.len() && there == *key {
        return Ok(true);
    }
    rustix::io::pwrite(&table, key, place)?;
    Ok(false)
}

/// Takes the tree `name` into use.
fn find(folder: &OwnedFd, name: &str, items: &[Item], owner: Option<u32>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(folder, name, flags, Mode::empty())?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockShared)?;
    let held = made_by(&dir, owner.unwrap_or_else(|| rustix::process::geteuid().as_raw()))?;
    // It may have been removed before it was locked.
    let named = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino) {
        return Err(io::ErrorKind::NotFound.into());
    }
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    let touched = |stat: &Stat| (stat.st_mtime as i64, stat.st_mtime_nsec as i64) != (WHOLE.tv_sec, WHOLE.tv_nsec);
    let mut changed = touched(&held);
    for item in items {
        if let What::Directory { .. } = item.what {
            let rest = item.target.trim_start_matches('/');
            changed |= rustix::fs::statat(&dir, rest, AtFlags::SYMLINK_NOFOLLOW).map_or(true, |stat| touched(&stat));
        }
    }
    if changed {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "names were made or removed in it",
        ));
    }
    Ok(dir)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(CWD, path, flags, Mode::empty(), resolve)?)
}

/// Makes a tree at `path`: whole or not, it is locked until this process lets go of it.
fn make(path: &Path, items: &[Item], owner: Option<u32>) -> io::Result<OwnedFd> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    let lock = open(path)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    let at = |item: &Item| path.join(item.target.trim_start_matches('/'));
    for item in items {
        let place = at(item);
        let content = match &item.what {
            What::Symlink { to } => {
                symlink(to, &place)?;
                if let Some(owner) = owner {
                    lchown(&place, Some(owner), Some(owner))?;
                }
                continue;
            }
            // It gets its own mode when it is full.
            What::Directory { .. } => {
                fs::DirBuilder::new().mode(0o700).create(&place)?;
                continue;
            }
            What::Node { major, minor } => {
                let (kind, device) = (FileType::CharacterDevice, makedev(*major, *minor));
                rustix::fs::mknodat(CWD, &place, kind, Mode::empty(), device)?;
                finish(&place, item.what.mode(), owner)?;
                continue;
            }
            What::File { content } => content,
            What::Copy { source } => &sr_kernel::pseudo::read(source)?,
            What::Place => &Vec::new(),
        };
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place)?
            .write_all(content)?;
        finish(&place, item.what.mode(), owner)?;
    }
    let times = Timestamps {
        last_access: WHOLE,
        last_modification: WHOLE,
    };
    for item in items.iter().rev() {
        if let What::Directory { mode } = item.what {
            finish(&at(item), mode, owner)?;
            rustix::fs::utimensat(CWD, at(item), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    finish(path, 0o755, owner)?;
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(lock)
}

fn finish(path: &Path, mode: u32, owner: Option<u32>) -> io::Result<()> {
    if let Some(owner) = owner {
        chown(path, Some(owner), Some(owner))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    fn item(target: &str, what: What) -> Item {
        let target = target.to_owned();
        Item { target, what }
    }

    fn items(word: &str, source: &str) -> Vec<Item> {
        let directory = |mode| What::Directory { mode };
        vec![
            item(
                "/word",
                What::File {
                    content: word.as_bytes().to_vec(),
                },
            ),
            item("/d", directory(0o711)),
            item("/d/place", What::Place),
            item("/d/link", What::Symlink { to: "../word".into() }),
            item("/copy", What::Copy { source: source.into() }),
        ]
    }

    /// Changed long ago.
    const OLD: &str = "/etc/hosts";

    /// What asks for the second time gets.
    fn asked_again(folder: &Path, items: &[Item]) -> io::Result<Kept> {
        let _ = tree(folder, items, None);
        tree(folder, items, None)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_tree_is_made_when_asked_for_again_as_the_items_say_and_then_found() {
        let dir = tempfile::tempdir().unwrap();
        // It need not exist.
        let folder = dir.path().join("safe-run");
        assert!(tree(&folder, &items("a", OLD), None).is_err());
        assert_eq!(names(&folder), [SEEN]);
        let first = tree(&folder, &items("a", OLD), None).unwrap();
        let inode = |path: &str| fs::symlink_metadata(path).unwrap().ino();
        let made = inode(&first.path);
        let at = |rest: &str| format!("{}/{rest}", first.path);
        assert_eq!(fs::read(at("word")).unwrap(), b"a");
        assert_eq!(fs::read(at("copy")).unwrap(), fs::read(OLD).unwrap());
        assert_eq!(fs::read(at("d/place")).unwrap(), b"");
        assert_eq!(fs::read_link(at("d/link")).unwrap(), Path::new("../word"));
        let mode = |rest: &str| fs::metadata(at(rest)).unwrap().mode() & 0o7777;
        let modes = ["", "word", "d", "d/place", "copy"].map(mode);
        assert_eq!(modes, [0o755, 0o444, 0o711, 0o666, 0o444]);
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);

        let again = tree(&folder, &items("a", OLD), None).unwrap();
        assert_eq!((&again.path, inode(&again.path)), (&first.path, made));
        let other = asked_again(&folder, &items("b", OLD)).unwrap();
        assert_ne!(other.path, first.path);
        assert_eq!(names(&folder).len(), 3);
    }

    #[test]
    fn device_nodes_are_made_by_who_may_and_open_through_the_mount() {
        if !sr_kernel::probe::may_make_nodes() {
            eprintln!("SKIPPED: needs CAP_MKNOD");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("safe-run");
        let null = || vec![item("/null", What::Node { major: 1, minor: 3 })];
        let _ = tree(&folder, &null(), Some(7));
        let made = tree(&folder, &null(), Some(7)).unwrap();
        let stat = fs::symlink_metadata(format!("{}/null", made.path)).unwrap();
        assert!(stat.file_type().is_char_device());
        assert_eq!(
            (stat.rdev(), stat.mode() & 0o777, stat.uid()),
            (makedev(1, 3), 0o666, 7)
        );
        let open = |devices| {
            let flags = MountFlags {
                read_only: true,
                devices,
                ..Default::default()
            };
            let mount = mount(&made.lock, flags).unwrap();
            rustix::fs::openat(mount, "null", OFlags::RDWR, Mode::empty()).map(drop)
        };
        assert_eq!(open(true), Ok(()));
        assert_eq!(open(false), Err(rustix::io::Errno::ACCESS));
    }

    #[test]
    fn all_that_decides_what_a_tree_holds_is_in_its_name() {
        let name = |items: &[Item], owner| key(b"boot", items, owner).unwrap();
        let plain = || items("a", OLD);
        let mut names = vec![
            name(&plain(), None),
            name(&plain(), Some(7)),
            name(&items("b", OLD), None),
            name(&items("a", "/etc/passwd"), None),
            key(b"other boot", &plain(), None).unwrap(),
        ];
        for (at, what) in [
            (1, What::Directory { mode: 0o750 }),
            (0, What::Place),
            (0, What::Copy { source: OLD.into() }),
            (3, What::Symlink { to: "word".into() }),
            (0, What::Node { major: 1, minor: 3 }),
            (0, What::Node { major: 1, minor: 5 }),
        ] {
            let mut changed = plain();
            changed[at].what = what;
            names.push(name(&changed, None));
        }
        let mut moved = plain();
        moved[0].target = "/words".into();
        names.push(name(&moved, None));
        let mut fewer = plain();
        fewer.pop();
        names.push(name(&fewer, None));
        assert_eq!(name(&plain(), None), names[0]);
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_file_changed_a_moment_ago_is_not_kept_and_one_changed_later_makes_a_new_tree() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("safe-run");
        let file = dir.path().join("file");
        fs::write(&file, "one").unwrap();
        let items = items("a", file.to_str().unwrap());
        let refused = asked_again(&folder, &items).unwrap_err();
        assert!(refused.to_string().contains("a moment ago"), "{refused}");
        assert_eq!(names(&folder), [SEEN]);
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        let first = asked_again(&folder, &items).unwrap();
        assert_eq!(fs::read(format!("{}/copy", first.path)).unwrap(), b"one");
        // The same length, and the time put back.
        let before = fs::metadata(&file).unwrap().modified().unwrap();
        fs::write(&file, "two").unwrap();
        let open = fs::File::options().append(true).open(&file).unwrap();
        open.set_modified(before).unwrap();
        assert!(asked_again(&folder, &items).is_err());
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        let second = asked_again(&folder, &items).unwrap();
        assert_ne!(second.path, first.path);
        assert_eq!(fs::read(format!("{}/copy", second.path)).unwrap(), b"two");
        assert_eq!(fs::read(format!("{}/copy", first.path)).unwrap(), b"one");
    }

    #[test]
    fn what_is_in_use_or_new_stays_and_halves_go() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("safe-run");
        let used = asked_again(&folder, &items("used", OLD)).unwrap();
        let half = folder.join(format!(".{PREFIX}half"));
        fs::create_dir_all(half.join("d")).unwrap();
        fs::write(folder.join("mine"), "not a tree").unwrap();
        let count = SPARE + 4;
        let left: Vec<_> = (0..count)
            .map(|n| asked_again(&folder, &items(&n.to_string(), OLD)).unwrap().path)
            .collect();
        assert!(!half.exists());
        let stays = |path: &String| Path::new(path).exists();
        assert!(stays(&used.path));
        assert_eq!(left.iter().filter(|path| stays(path)).count(), SPARE);
        assert!(stays(left.last().unwrap()));
        assert_eq!(sweep(&folder, 0).len(), SPARE);
        assert_eq!(names(&folder).len(), 3);
        drop(used.lock);
        assert_eq!(sweep(&folder, 0), [PathBuf::from(&used.path)]);
        assert_eq!(names(&folder), ["mine", SEEN]);
    }

    #[test]
    fn starts_that_make_a_tree_together_make_one() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let folder = dir.path().join(round.to_string());
            let _ = tree(&folder, &items("a", OLD), None);
            let paths: Vec<String> = std::thread::scope(|scope| {
                let one = || tree(&folder, &items("a", OLD), None).map(|kept| kept.path);
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
                let ended = threads.into_iter().map(|t| t.join().unwrap());
                // One may come to see another's work swept away; it then makes its own each time.
                ended.filter_map(Result::ok).collect()
            });
            assert!(!paths.is_empty());
            assert!(paths.iter().all(|path| *path == paths[0]));
            let whole = tree(&folder, &items("a", OLD), None).unwrap();
            assert_eq!(
                fs::read(format!("{}/copy", whole.path)).unwrap(),
                fs::read(OLD).unwrap()
            );
            assert_eq!(names(&folder).len(), 2);
        }
    }

    #[test]
    fn a_tree_in_which_names_were_made_or_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("safe-run");
        let tree = || tree(&folder, &items("a", OLD), None);
        let damages: [fn(&Path); 3] = [
            |tree| fs::remove_file(tree.join("word")).unwrap(),
            |tree| fs::remove_file(tree.join("d/place")).unwrap(),
            |tree| fs::write(tree.join("d/more"), "").unwrap(),
        ];
        let _ = tree();
        for damage in damages {
            let path = tree().unwrap().path;
            damage(Path::new(&path));
            assert_eq!(tree().unwrap_err().kind(), io::ErrorKind::InvalidData);
            let path = tree().unwrap().path;
            assert!(Path::new(&path).join("d/place").exists() && !Path::new(&path).join("d/more").exists());
        }
    }

    #[test]
    fn a_tree_that_others_could_have_changed_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("safe-run");
        let tree = || asked_again(&folder, &items("a", OLD));
        let path = tree().unwrap().path;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(tree().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        tree().unwrap();
        // Nor one that others could have put there.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(tree().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        // Nor one at the other end of a link.
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(tree().is_err());
        fs::remove_file(&path).unwrap();
        fs::rename(&folder, dir.path().join("moved")).unwrap();
        symlink(dir.path().join("moved"), &folder).unwrap();
        assert!(tree().is_err());
    }
}
