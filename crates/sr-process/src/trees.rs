//! The mounts that a privileged supervisor opens for a view while the sandbox's first process is made: that
//! process may not read everything that root may, and cannot map owners.

use crate::sandbox::no_namespaces;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use sr_common::{Code, Fault};
use sr_compiler::bundle::Owner;
use sr_kernel::idmap::{self, MapLine, MapNamespace};
use sr_kernel::step::MountFlags;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One host path to be mounted.
#[derive(Debug)]
pub(crate) struct Tree {
    pub path: String,
    pub no_symlinks: bool,
    pub flags: MountFlags,
    /// Whose files are shown as the sandbox user's.
    pub owner: Option<Owner>,
    /// Where the steps expect the mount.
    pub slot: u16,
}

/// All of a view.
#[derive(Debug)]
pub struct Trees {
    trees: Vec<Tree>,
    /// The host id of the sandbox's user.
    shown: u32,
}

/// The opened mounts. To be kept until the view stands: dropping the map namespaces waits for processes.
#[derive(Debug)]
pub struct OpenTrees {
    mounts: Vec<OwnedFd>,
    _maps: BTreeMap<(u32, u32), MapNamespace>,
}

impl Trees {
    pub(crate) fn new(trees: Vec<Tree>, shown: u32) -> Self {
        Trees { trees, shown }
    }

    /// Opens each as a detached mount with its attributes, in the order in which they were given.
    pub fn open(&self) -> Result<OpenTrees, Fault> {
        let mut opened = OpenTrees {
            mounts: Vec::with_capacity(self.trees.len()),
            _maps: BTreeMap::new(),
        };
        for tree in &self.trees {
            let failed = |what: &str, error: std::io::Error| {
                Fault::new(
                    Code::Run001,
                    "launch.prepare.view",
                    format!("{what} {}: {error}", tree.path),
                    "check that the path exists and that its file system allows it",
                )
            };
            let mount = tree
                .open()
                .map_err(|e| failed("cannot open the mount source", e.into()))?;
            let map = match tree.owner {
                None => None,
                Some(owner) => Some(
                    self.map_of(owner, &mut opened._maps)
                        .map_err(|e| no_namespaces(&format!("cannot map the owner of {}", tree.path), &e))?,
                ),
            };
            idmap::set_mount(mount.as_fd(), tree.flags, map)
                .map_err(|e| failed("cannot set the mount attributes of", e))?;
            opened.mounts.push(mount);
        }
        Ok(opened)
    }

    /// A user namespace that shows `owner`'s files as the sandbox user's.
    fn map_of<'a>(
        &self,
        owner: Owner,
        maps: &'a mut BTreeMap<(u32, u32), MapNamespace>,
    ) -> std::io::Result<BorrowedFd<'a>> {
        let namespace: &'a MapNamespace = match maps.entry((owner.uid, owner.gid)) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(place) => {
                let line = |inside| {
                    [MapLine {
                        inside,
                        outside: self.shown,
                        count: 1,
                    }]
                };
                place.insert(MapNamespace::new(&line(owner.uid), &line(owner.gid))?)
            }
        };
        Ok(MapNamespace::as_fd(namespace))
    }
}

impl Tree {
    fn open(&self) -> rustix::io::Result<OwnedFd> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        if self.flags.recursive {
            flags |= OpenTreeFlags::AT_RECURSIVE;
        }
        if !self.no_symlinks {
            return open_tree(CWD, self.path.as_str(), flags);
        }
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let place = rustix::fs::openat2(
            CWD,
            self.path.as_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )?;
        open_tree(&place, "", flags | OpenTreeFlags::AT_EMPTY_PATH)
    }
}

impl OpenTrees {
    pub fn mounts(&self) -> Vec<BorrowedFd<'_>> {
        self.mounts.iter().map(AsFd::as_fd).collect()
    }
}
