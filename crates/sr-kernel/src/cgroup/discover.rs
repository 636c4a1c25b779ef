//! Where this process may make a group for a run. Looks only: at `/proc/self/cgroup`, at where the hierarchies usually
//! are or else at `/proc/self/mountinfo` and, on v2, at two files of the own group; nothing is written.

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, statat};
use sr_common::facts::{CgroupController, CgroupFacts};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The file system as discovery sees it; tests put another in its place.
pub(super) trait Look {
    fn read(&self, file: &Path) -> Option<String>;
    fn exists(&self, file: &Path) -> bool;
    /// With the effective ids, for a file: may be written; for a directory: entries may be made.
    fn writable(&self, file: &Path) -> bool;
    /// The version of the hierarchy whose root group `dir` is; `None` where it is not one's.
    fn root_of(&self, dir: &Path) -> Option<u8>;
}

struct Host;

impl Look for Host {
    fn read(&self, file: &Path) -> Option<String> {
        crate::pseudo::text(file).ok()
    }

    fn exists(&self, file: &Path) -> bool {
        super::file::exists(file)
    }

    fn writable(&self, file: &Path) -> bool {
        accessat(CWD, file, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    }

    fn root_of(&self, dir: &Path) -> Option<u8> {
        let version = super::file::version(dir)?;
        // A link, as from `cpu` to `cpu,cpuacct`, is not the place that mountinfo tells.
        let stat = statat(CWD, dir, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        // In every kernfs the first inode is the root's (`__kernfs_new_node` in fs/kernfs/dir.c).
        (directory && stat.st_ino == 1).then_some(version)
    }
}

/// The controllers that this process may use, and where. v2 is preferred, controller by controller.
pub fn discover() -> CgroupFacts {
    discover_with(&Host)
}

pub(super) fn discover_with(look: &dyn Look) -> CgroupFacts {
    let Some(own) = look.read(Path::new("/proc/self/cgroup")) else {
        return CgroupFacts::default();
    };
    let mounts = match usual_mounts(look, &own) {
        Some(mounts) => mounts,
        None => match look.read(Path::new("/proc/self/mountinfo")) {
            Some(text) => cgroup_mounts(&text),
            None => return CgroupFacts::default(),
        },
    };
    let v2 = v2_parent(look, &own, &mounts);
    let find = |name: &str| {
        if let Some((parent, controllers)) = &v2
            && controllers.split_ascii_whitespace().any(|c| c == name)
        {
            return controller(2, parent);
        }
        controller(1, &v1_parent(look, &own, &mounts, name)?)
    };
    CgroupFacts {
        memory: find("memory"),
        cpu: find("cpu"),
        pids: find("pids"),
        helper: None,
    }
}

fn controller(version: u8, parent: &Path) -> Option<CgroupController> {
    Some(CgroupController {
        version,
        parent: parent.to_str()?.to_owned(),
    })
}

struct CgroupMount {
    version: u8,
    root: PathBuf,
    point: PathBuf,
    /// The super block's options: for v1, the controllers.
    options: String,
}

const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// The mounts of all hierarchies in which this process may be limited, if each is whole and where systemd mounts it: at
/// `/sys/fs/cgroup` the one of v2, or below it those of v1 by their controllers' names and `unified`. Else only mountinfo
/// knows, which takes the longer the more mounts a host has, a few microseconds each.
fn usual_mounts(look: &dyn Look, own: &str) -> Option<Vec<CgroupMount>> {
    let top = Path::new("/sys/fs/cgroup");
    let alone = look.root_of(top) == Some(2);
    let mut mounts = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (number, controllers) = (fields.next()?, fields.next()?);
        if number == "0" {
            let point = if alone { top.to_owned() } else { top.join("unified") };
            mounts.push(usual(look, 2, point, "")?);
        }
        for name in controllers.split(',').filter(|name| CONTROLLERS.contains(name)) {
            mounts.push(usual(look, 1, top.join(name), name)?);
        }
    }
    Some(mounts)
}

fn usual(look: &dyn Look, version: u8, point: PathBuf, options: &str) -> Option<CgroupMount> {
    let options = options.to_owned();
    (look.root_of(&point) == Some(version)).then(|| CgroupMount {
        version,
        root: "/".into(),
        point,
        options,
    })
}

/// The cgroup lines of mountinfo: `id parent dev root point options [tags] - type source super-options`.
fn cgroup_mounts(text: &str) -> Vec<CgroupMount> {
    text.lines()
        // Most lines of a host with many mounts are not.
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut right = right.split(' ');
            let version = match right.next()? {
                "cgroup" => 1,
                "cgroup2" => 2,
                _ => return None,
            };
            let options = right.nth(1)?.to_owned();
            let mut left = left.split(' ').skip(3);
            let (root, point) = (unescape(left.next()?), unescape(left.next()?));
            Some(CgroupMount {
                version,
                root,
                point,
                options,
            })
        })
        .collect()
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out).into()
}

/// The caller's group as a directory: `path` of `/proc/self/cgroup` seen through the mount, if it lies below its root.
fn directory(mount: &CgroupMount, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    if path.components().any(|c| c == std::path::Component::ParentDir) {
        return None;
    }
    let rest = path.strip_prefix(&mount.root).ok()?;
    Some(if rest.as_os_str().is_empty() {
        mount.point.clone()
    } else {
        mount.point.join(rest)
    })
}

fn v1_parent(look: &dyn Look, own: &str, mounts: &[CgroupMount], name: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|c| c == name);
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        has(fields.next()?).then(|| fields.next()).flatten()
    })?;
    // The last mount of a hierarchy is the one that covers the others.
    let mount = mounts.iter().rev().find(|m| m.version == 1 && has(&m.options))?;
    let dir = directory(mount, path)?;
    look.writable(&dir).then_some(dir)
}

/// The v2 directory below which groups can be made, and the controllers that they would have.
fn v2_parent(look: &dyn Look, own: &str, mounts: &[CgroupMount]) -> Option<(PathBuf, String)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.iter().rev().find(|m| m.version == 2)?;
    let dir = directory(mount, path)?;
    let controllers = look.read(&dir.join("cgroup.controllers"))?;
    if controllers.trim().is_empty() {
        return None;
    }
    let may_make = |dir: &Path| look.writable(dir) && look.writable(&dir.join("cgroup.procs"));
    // The real root is the one group without a type, and the one that may hold processes and controllers at once.
    let real_root = path == "/" && !look.exists(&dir.join("cgroup.type"));
    if real_root && may_make(&dir) && look.writable(&dir.join("cgroup.subtree_control")) {
        return Some((dir, controllers));
    }
    // A group that already hands controllers to its children.
    let subtree = if real_root {
        None
    } else {
        look.read(&dir.join("cgroup.subtree_control"))
    };
    if let Some(on) = subtree.filter(|s| !s.trim().is_empty())
        && may_make(&dir)
    {
        return Some((dir, on));
    }
    // The own group holds processes (at least this one), so it cannot hand controllers down. A sibling can have what
    // the own group has: both get it from their parent.
    if path == "/" || dir == mount.point {
        return None;
    }
    let parent = dir.parent()?;
    may_make(parent).then(|| (parent.to_owned(), controllers))
}
