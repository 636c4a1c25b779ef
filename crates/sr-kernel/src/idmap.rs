//! User namespace maps, and idmapped mounts (mount_setattr(2), user_namespaces(7)).

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::clone::Companion;
use crate::step::MountFlags;

/// One line of a uid or gid map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapLine {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// Writes the maps of process `pid`. An unprivileged caller must give up setgroups(2) first (`deny_setgroups`).
pub fn write_maps(pid: i32, uids: &[MapLine], gids: &[MapLine], deny_setgroups: bool) -> io::Result<()> {
    if deny_setgroups {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    std::fs::write(format!("/proc/{pid}/uid_map"), render(uids))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), render(gids))
}

fn render(lines: &[MapLine]) -> String {
    let mut text = String::new();
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", line.inside, line.outside, line.count);
    }
    text
}

/// A user namespace that exists only to carry a map for an idmapped mount.
#[derive(Debug)]
pub struct MapNamespace {
    namespace: OwnedFd,
    /// The process that it was made with: killed once that is held open, and waited for when this is dropped, for a
    /// process takes a while to end.
    _holder: Companion,
}

/// What a process that does nothing needs.
const PAUSED_STACK: usize = 16 << 10;

/// Waits to be killed, or for the end of its parent, whose id the argument is. No libc here: its errno is the parent's.
extern "C" fn pause(parent: *mut libc::c_void) -> libc::c_int {
    crate::clone::die_with(parent.addr() as i32);
    loop {
        rustix::event::pause();
    }
}

impl MapNamespace {
    pub fn new(uids: &[MapLine], gids: &[MapLine]) -> io::Result<Self> {
        let own = std::ptr::without_provenance_mut(std::process::id() as usize);
        // SAFETY: `pause` touches no memory.
        let holder = unsafe { Companion::start(libc::CLONE_NEWUSER, PAUSED_STACK, pause, own) }?;
        write_maps(holder.child.pid, uids, gids, false)?;
        let namespace = std::fs::File::open(format!("/proc/{}/ns/user", holder.child.pid))?;
        crate::process::kill(&holder.child);
        Ok(MapNamespace {
            namespace: namespace.into(),
            _holder: holder,
        })
    }
}

impl AsFd for MapNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const ATTR_RDONLY: u64 = 0x1;
const ATTR_NOSUID: u64 = 0x2;
const ATTR_NODEV: u64 = 0x4;
const ATTR_NOEXEC: u64 = 0x8;
const ATTR_IDMAP: u64 = 0x10_0000;

/// The mount attribute bits of `flags`; fsmount(2) and mount_setattr(2) share them.
pub(crate) fn attributes(flags: MountFlags) -> u64 {
    let mut bits = ATTR_NOSUID;
    if flags.read_only {
        bits |= ATTR_RDONLY;
    }
    if flags.no_exec {
        bits |= ATTR_NOEXEC;
    }
    if !flags.devices {
        bits |= ATTR_NODEV;
    }
    bits
}

/// Lets device nodes of a detached mount open, whatever the mount says that it was cloned from.
pub fn clear_nodev(tree: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_clr: ATTR_NODEV,
        ..MountAttr::default()
    };
    change_mount(tree, &attr, false)
}

/// Sets attributes, and with `map` the id map, on a detached mount.
pub fn set_mount(tree: BorrowedFd<'_>, flags: MountFlags, map: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attr = MountAttr {
        attr_set: attributes(flags),
        ..MountAttr::default()
    };
    if let Some(ns) = map {
        attr.attr_set |= ATTR_IDMAP;
        attr.userns_fd = ns.as_raw_fd() as u64;
    }
    change_mount(tree, &attr, flags.recursive)
}

fn change_mount(tree: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let at_flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and `attr` a live struct mount_attr of the given size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at_flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
