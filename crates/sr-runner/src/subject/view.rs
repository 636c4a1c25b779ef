//! The view as far as looking for a program needs it: which host path stands at a path of the view, what of the host
//! is visible, and walking a path with its symbolic links as they resolve inside.

use sr_common::HostFacts;
use sr_common::facts::ResolvedMount;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

pub(super) struct View<'a> {
    mounts: &'a [ResolvedMount],
    facts: &'a HostFacts,
    /// The directory that is the root, for `rootfs.source: dir`.
    dir: Option<PathBuf>,
}

/// A symbolic link on the way, or the file at its end.
pub(super) struct Step {
    /// In the view, its parent resolved.
    pub path: PathBuf,
    /// The last name of a path as somebody wrote it; `false` for a directory link in the middle.
    pub last: bool,
}

pub(super) struct Walk {
    pub steps: Vec<Step>,
    /// In the view, without symbolic links.
    pub end: PathBuf,
    /// The same on the host.
    pub host: PathBuf,
    pub meta: Metadata,
}

impl<'a> View<'a> {
    pub fn new(root: Option<&ResolvedMount>, mounts: &'a [ResolvedMount], facts: &'a HostFacts) -> Self {
        let dir = root.map(|root| PathBuf::from(&root.source));
        View { mounts, facts, dir }
    }

    pub fn is_host(&self) -> bool {
        self.dir.is_none()
    }

    fn mount_at(&self, path: &Path) -> Option<&ResolvedMount> {
        self.mounts
            .iter()
            .filter(|m| path.starts_with(&m.target))
            .max_by_key(|m| m.target.len())
    }

    /// Part of the operating system that every view shows.
    pub fn is_system(&self, path: &Path) -> bool {
        self.dir.is_some()
            || self.facts.system.iter().any(|d| path.starts_with(&d.path))
            || self.facts.etc.iter().any(|e| path.starts_with(e))
    }

    /// Whether the view has this path without an installation being added to it.
    pub fn shows(&self, path: &Path) -> bool {
        self.mount_at(path).is_some() || self.is_system(path)
    }

    /// Where a canonical host path is seen: below a mount, or at its own place.
    pub fn seen(&self, host: &Path) -> Option<PathBuf> {
        let mount = self
            .mounts
            .iter()
            .filter(|m| host.starts_with(&m.source))
            .max_by_key(|m| m.source.len());
        if let Some(mount) = mount {
            let rest = host.strip_prefix(&mount.source).ok()?;
            let target = Path::new(&mount.target);
            return Some(if rest.as_os_str().is_empty() {
                target.to_owned()
            } else {
                target.join(rest)
            });
        }
        (self.dir.is_none() && self.is_system(host)).then(|| host.to_owned())
    }

    /// The host path that stands at `path`. What a host view does not show stands at its own path: that is where an
    /// installation would be shown.
    pub fn host(&self, path: &Path) -> PathBuf {
        if let Some(mount) = self.mount_at(path)
            && let Ok(rest) = path.strip_prefix(&mount.target)
        {
            let source = Path::new(&mount.source);
            return if rest.as_os_str().is_empty() {
                source.to_owned()
            } else {
                source.join(rest)
            };
        }
        match (&self.dir, path.strip_prefix("/")) {
            (Some(dir), Ok(rest)) => dir.join(rest),
            _ => path.to_owned(),
        }
    }

    /// Follows `path`, absolute in the view, name by name; links resolve inside the view and never out of it.
    pub fn walk(&self, path: &Path) -> io::Result<Walk> {
        const MOST_LINKS: usize = 40;
        let mut todo: VecDeque<OsString> = names(path);
        let mut at = PathBuf::from("/");
        let mut steps: Vec<Step> = Vec::new();
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let host = self.host(&next);
            // A mount's target need not exist below the root: the mount itself makes it.
            let above_a_mount = self.mounts.iter().any(|m| Path::new(&m.target).starts_with(&next));
            let meta = match host.symlink_metadata() {
                Err(_) if above_a_mount => {
                    at = next;
                    continue;
                }
                other => other?,
            };
            if !meta.file_type().is_symlink() {
                if !todo.is_empty() && !meta.is_dir() {
                    return Err(io::ErrorKind::NotADirectory.into());
                }
                at = next;
                continue;
            }
            if steps.len() == MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = std::fs::read_link(&host)?;
            steps.push(Step {
                path: next,
                last: todo.is_empty(),
            });
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                todo.push_front(name);
            }
        }
        let host = self.host(&at);
        let meta = host.symlink_metadata()?;
        steps.push(Step {
            path: at.clone(),
            last: true,
        });
        Ok(Walk {
            steps,
            end: at,
            host,
            meta,
        })
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}
