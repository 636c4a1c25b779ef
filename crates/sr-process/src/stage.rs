//! The tmpfs on which a privileged supervisor begins a view, with the device nodes already in it. In a user namespace
//! nobody may make any; there each would be a mount of the host's own.

use crate::sandbox::init_fault;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, makedev};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use sr_common::Fault;
use sr_compiler::bundle::{FilesystemPlan, IdMap, ProcessPlan, ViewKind};
use std::os::fd::OwnedFd;

/// A name in the host's `/dev`, with its numbers (Linux's devices.txt).
pub(crate) type Device = (&'static str, u32, u32);

/// The device nodes of the minimal `/dev`.
pub(crate) const DEVICES: [Device; 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(crate) const KVM: Device = ("kvm", 10, 232);

/// Where on it the view's root is made.
pub(crate) const ROOT: &str = "r";

/// How a view has its device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// Made on the file system of its root, which lets no one make others: read-only, and only host root may.
    Nodes,
    /// Each the host's own, mounted.
    Mounts,
}

/// How the view of `plan` is to have them, and the directory in which they are: mounted for an ordinary user, where this
/// process lacks `CAP_MKNOD` (in a container, say), and where the root is an overlay, through which none opens that was
/// mounted in a user namespace.
pub(crate) fn devices<'a>(plan: &'a FilesystemPlan, process: &ProcessPlan) -> (Devices, Option<&'a str>) {
    let dev = plan.entries.iter().find(|e| matches!(e.what, ViewKind::Dev));
    let dev = dev.map(|e| e.target.as_str());
    let overlay = plan.entries.first().is_some_and(|e| e.target == "/");
    let range = matches!(process.user.map, IdMap::Range { .. });
    match range && dev.is_some() && !overlay && sr_kernel::probe::may_make_nodes() {
        true => (Devices::Nodes, dev),
        false => (Devices::Mounts, dev),
    }
}

/// A detached tmpfs that belongs to `owner`, with `nodes` in `dev` of [`ROOT`]. `None` where this process may make none after
/// all.
pub(crate) fn with_devices<'a>(
    owner: u32,
    dev: &str,
    nodes: impl Iterator<Item = (&'a str, u32, u32)>,
) -> Result<Option<OwnedFd>, Fault> {
    match make(owner, &format!("{ROOT}{dev}"), nodes) {
        Ok(stage) => Ok(Some(stage)),
        Err(Errno::PERM) => Ok(None),
        Err(e) => Err(init_fault(
            "launch.prepare.view",
            "cannot make the file system with the device nodes",
            &e.into(),
        )),
    }
}

fn make<'a>(owner: u32, dev: &str, nodes: impl Iterator<Item = (&'a str, u32, u32)>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let id = owner.to_string();
    for (key, value) in [("mode", "0755"), ("uid", &id), ("gid", &id)] {
        fsconfig_set_string(&context, key, value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let stage = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // Of these modes nothing is taken away.
    let umask = rustix::process::umask(Mode::empty());
    let filled = fill(&stage, owner, dev, nodes);
    rustix::process::umask(umask);
    filled.map(|()| stage)
}

fn fill<'a>(
    stage: &OwnedFd,
    owner: u32,
    dev: &str,
    nodes: impl Iterator<Item = (&'a str, u32, u32)>,
) -> rustix::io::Result<()> {
    for (end, _) in dev.match_indices('/').chain([(dev.len(), "")]) {
        let dir = &dev[..end];
        rustix::fs::mkdirat(stage, dir, Mode::from_raw_mode(0o755))?;
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
        rustix::fs::chownat(stage, dir, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    for (place, major, minor) in nodes {
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(stage, format!("{ROOT}{place}"), kind, mode, makedev(major, minor))?;
    }
    Ok(())
}
