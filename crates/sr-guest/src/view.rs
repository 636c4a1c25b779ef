//! The steps that make what the program sees: the root, which is shared or on a disk, and the guest's own file systems on it.

use crate::failure::{Failure, failure};
use sr_common::guest::{DiskFormat, GuestMountKind, GuestPlan, GuestRoot, GuestShare};
use sr_kernel::step::{Fd, MountFlags, Step};
use sr_kernel::wire;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// The root directory of the view.
pub const SLOT_ROOT: u16 = 0;
const SLOT_TREE: u16 = 1;
/// Between these are the program's file and its terminal.
const SLOT_OVERLAY: u16 = 4;
const FIRST_SLOT: u16 = 16;

/// The source of what the monitor's driver serves, in the list of mounts.
pub const SERVED: &str = "host";

/// Where what is shared is mounted, where a disk is, and where the root is until it is the root.
const SHARE: &str = "/share";
const DISK: &str = "/disk";
const ROOT: &str = "/root";
/// Where things are made that are mounted elsewhere then.
const STAGE: &CStr = c"/stage";
const EMPTY_FILE: &CStr = c"/stage/empty/file";
const EMPTY_DIRECTORY: &CStr = c"/stage/empty/directory";
const DEV: &CStr = c"/stage/dev";

/// The numbers are Linux's (devices.txt).
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

pub fn text(text: &str) -> Result<CString, Failure> {
    CString::new(text).map_err(|_| failure("read the plan", format!("{text:?} has a zero byte")))
}

/// Options of a file system; those without a value are empty.
fn options(list: &[(&str, &str)]) -> Result<Vec<(CString, CString)>, Failure> {
    list.iter().map(|(key, value)| Ok((text(key)?, text(value)?))).collect()
}

/// A path of the view without its first `/`; the steps resolve it below the root.
fn below_root(path: &str) -> Result<CString, Failure> {
    match path.strip_prefix('/') {
        Some(path) if !path.is_empty() => text(path),
        _ => Err(failure("read the plan", format!("{path:?} is no place below the root"))),
    }
}

/// In the mount namespace of the program's process. At the end its root is the view's. `served`: what leads to the share of
/// the monitor's driver, where there is one. What is shared is sent through `channel`.
pub fn steps(plan: &GuestPlan, served: Option<RawFd>, channel: RawFd) -> Result<Vec<Step>, Failure> {
    let mut steps = vec![Step::PrivateMounts];
    let (share, root) = (text(SHARE)?, text(ROOT)?);
    let flags = MountFlags::default();
    for path in [&share, &text(DISK)?, &root, &STAGE.to_owned()] {
        steps.push(Step::Mkdir {
            path: path.clone(),
            mode: 0o755,
        });
    }
    let tree = Fd::Slot(SLOT_TREE);
    if let Some(by) = &plan.share {
        steps.extend([
            shared(by, served)?,
            Step::AttachAt {
                tree,
                path: share.clone(),
            },
            Step::OpenDir {
                path: share.clone(),
                slot: SLOT_ROOT,
            },
            Step::OpenAndSend {
                root: Fd::Slot(SLOT_ROOT),
                path: c".".to_owned(),
                channel,
                tag: wire::TAG_SHARE,
                slot: SLOT_TREE,
            },
        ]);
    }
    match &plan.root {
        GuestRoot::Own => return Ok(Vec::new()),
        GuestRoot::Shared => steps.extend([
            Step::OpenTree {
                path: share,
                recursive: false,
                no_symlinks: true,
                slot: SLOT_TREE,
            },
            Step::AttachAt {
                tree,
                path: root.clone(),
            },
        ]),
        GuestRoot::Disk { device, format } => disk(&mut steps, device, *format)?,
    }
    steps.extend([
        Step::OpenDir {
            path: root.clone(),
            slot: SLOT_ROOT,
        },
        Step::NewFs {
            fs: c"tmpfs",
            options: options(&[("mode", "0755"), ("size", "64k")])?,
            flags,
            slot: SLOT_TREE,
        },
        Step::AttachAt {
            tree,
            path: STAGE.to_owned(),
        },
        Step::Mkdir {
            path: c"/stage/empty".to_owned(),
            mode: 0o755,
        },
        Step::Mkdir {
            path: EMPTY_DIRECTORY.to_owned(),
            mode: 0o555,
        },
        Step::File {
            path: EMPTY_FILE.to_owned(),
            content: Vec::new(),
            writable: false,
        },
    ]);
    let top = root;
    for (slot, mount) in (FIRST_SLOT..).zip(&plan.mounts) {
        let path = below_root(&mount.target)?;
        let (tree, root) = (Fd::Slot(slot), Fd::Slot(SLOT_ROOT));
        let no_exec = MountFlags { no_exec: true, ..flags };
        if let (GuestRoot::Disk { .. }, GuestMountKind::Proc | GuestMountKind::Dev | GuestMountKind::Tmpfs { .. }) =
            (&plan.root, &mount.what)
        {
            // A disk is made without knowing what a policy mounts.
            place(&mut steps, &mount.target, true)?;
        }
        match &mount.what {
            // What is not the program's own is not its business.
            GuestMountKind::Proc => steps.extend([
                Step::NewFs {
                    fs: c"proc",
                    options: options(&[("hidepid", "invisible")])?,
                    flags: no_exec,
                    slot,
                },
                Step::AttachIn { tree, root, path },
            ]),
            GuestMountKind::Tmpfs { bytes, inodes, mode } => {
                let (bytes, inodes, mode) = (bytes.to_string(), inodes.to_string(), format!("{mode:o}"));
                let list = [("size", bytes.as_str()), ("nr_inodes", &inodes), ("mode", &mode)];
                steps.extend([
                    Step::NewFs {
                        fs: c"tmpfs",
                        options: options(&list)?,
                        flags,
                        slot,
                    },
                    Step::AttachIn { tree, root, path },
                ]);
            }
            GuestMountKind::Dev => {
                devices(&mut steps)?;
                let dev = MountFlags {
                    read_only: true,
                    no_exec: true,
                    devices: true,
                    recursive: false,
                };
                steps.extend([
                    Step::OpenTree {
                        path: DEV.to_owned(),
                        recursive: true,
                        no_symlinks: true,
                        slot,
                    },
                    Step::Flags { tree, flags: dev },
                    Step::AttachIn { tree, root, path },
                ]);
            }
            GuestMountKind::Shared { directory } => {
                place(&mut steps, &mount.target, *directory)?;
                steps.extend([
                    Step::OpenTree {
                        path: text(&format!("{SHARE}{}", mount.target))?,
                        recursive: false,
                        no_symlinks: true,
                        slot,
                    },
                    Step::AttachIn { tree, root, path },
                ]);
            }
            GuestMountKind::Masked => steps.push(Step::Mask {
                root,
                path,
                file: EMPTY_FILE.to_owned(),
                directory: EMPTY_DIRECTORY.to_owned(),
                links: true,
            }),
            GuestMountKind::ReadOnly => steps.push(Step::MakeReadOnly {
                root,
                path,
                links: true,
            }),
        }
    }
    if let GuestRoot::Disk { .. } = plan.root {
        // Now that all has its place.
        steps.push(Step::Flags {
            tree: Fd::Slot(SLOT_OVERLAY),
            flags: MountFlags {
                read_only: true,
                ..flags
            },
        });
    }
    steps.extend([Step::ChangeDir(top), Step::TakeRootHere]);
    Ok(steps)
}

/// As `mountinfo` names what is shared.
pub fn source(share: &GuestShare) -> &str {
    match share {
        GuestShare::Virtio { tag } => tag,
        GuestShare::Vsock { .. } => SERVED,
    }
}

/// The file system that the host shares.
fn shared(share: &GuestShare, served: Option<RawFd>) -> Result<Step, Failure> {
    let number = served.map(|fd| fd.to_string());
    let mut list = vec![("source", source(share))];
    match (share, &number) {
        (GuestShare::Virtio { .. }, _) => list.push(("trans", "virtio")),
        (GuestShare::Vsock { .. }, Some(number)) => {
            list.extend([("trans", "fd"), ("rfdno", number.as_str()), ("wfdno", number.as_str())]);
        }
        (GuestShare::Vsock { .. }, None) => {
            return Err(failure("mount what is shared", "nothing leads to it"));
        }
    }
    list.extend([
        ("version", "9p2000.L"),
        // What one request carries at most, near the most that the transport takes.
        ("msize", "500000"),
        // What is read is not kept, and what is written goes to the host at once, but for files in memory maps: with more of a
        // cache this kernel opens each file that is written a second time, which who may not write to it any more (a file
        // that git makes) cannot.
        ("cache", "mmap"),
        // The guest looks at owners and modes itself; the monitor is one user to its host.
        ("access", "client"),
    ]);
    Ok(Step::NewFs {
        fs: c"9p",
        options: options(&list)?,
        flags: MountFlags::default(),
        slot: SLOT_TREE,
    })
}

/// The module of a format, which has its name.
pub fn module(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Erofs => "erofs",
        DiskFormat::Squashfs => "squashfs",
        DiskFormat::Ext4 => "ext4",
    }
}

/// The disk on [`DISK`]; a layer in memory above it, for what is made to mount on; both together on [`ROOT`].
fn disk(steps: &mut Vec<Step>, device: &str, format: DiskFormat) -> Result<(), Failure> {
    let flags = MountFlags::default();
    let read_only = MountFlags {
        read_only: true,
        ..flags
    };
    let fs = match format {
        DiskFormat::Erofs => c"erofs",
        DiskFormat::Squashfs => c"squashfs",
        DiskFormat::Ext4 => c"ext4",
    };
    let source = format!("/dev/{device}");
    let mut list = vec![("source", source.as_str()), ("ro", "")];
    if format == DiskFormat::Ext4 {
        // A journal that was not played back is nothing that could be written now.
        list.push(("noload", ""));
    }
    let layer = [("size", "1m"), ("nr_inodes", "1k"), ("mode", "0755")];
    let overlay = [
        ("source", "overlay"),
        ("lowerdir", DISK),
        ("upperdir", "/layer/upper"),
        ("workdir", "/layer/work"),
        // Nothing of the layer outlives the machine.
        ("volatile", ""),
    ];
    let mkdir = |path: &CStr| Step::Mkdir {
        path: path.to_owned(),
        mode: 0o755,
    };
    let tree = Fd::Slot(SLOT_TREE);
    steps.extend([
        Step::NewFs {
            fs,
            options: options(&list)?,
            flags: read_only,
            slot: SLOT_TREE,
        },
        Step::AttachAt {
            tree,
            path: text(DISK)?,
        },
        mkdir(c"/layer"),
        Step::NewFs {
            fs: c"tmpfs",
            options: options(&layer)?,
            flags,
            slot: SLOT_TREE,
        },
        Step::AttachAt {
            tree,
            path: c"/layer".to_owned(),
        },
        mkdir(c"/layer/upper"),
        mkdir(c"/layer/work"),
        Step::NewFs {
            fs: c"overlay",
            options: options(&overlay)?,
            flags,
            slot: SLOT_OVERLAY,
        },
        Step::AttachAt {
            tree: Fd::Slot(SLOT_OVERLAY),
            path: text(ROOT)?,
        },
    ]);
    Ok(())
}

/// Something to mount on, in a file system of the guest's own that was mounted above it.
fn place(steps: &mut Vec<Step>, target: &str, directory: bool) -> Result<(), Failure> {
    for (end, _) in target.match_indices('/').skip(1) {
        steps.push(Step::Mkdir {
            path: text(&format!("{ROOT}{}", &target[..end]))?,
            mode: 0o755,
        });
    }
    let path = text(&format!("{ROOT}{target}"))?;
    steps.push(match directory {
        true => Step::Mkdir { path, mode: 0o755 },
        false => Step::Place { path },
    });
    Ok(())
}

/// On the stage: nodes, links, terminals of its own, and a place for shared memory.
fn devices(steps: &mut Vec<Step>) -> Result<(), Failure> {
    let flags = MountFlags {
        no_exec: true,
        devices: true,
        ..MountFlags::default()
    };
    steps.extend([
        Step::Mkdir {
            path: DEV.to_owned(),
            mode: 0o755,
        },
        Step::NewFs {
            fs: c"tmpfs",
            options: options(&[("mode", "0755"), ("size", "64k")])?,
            flags,
            slot: SLOT_TREE,
        },
        Step::AttachAt {
            tree: Fd::Slot(SLOT_TREE),
            path: DEV.to_owned(),
        },
    ]);
    for (name, major, minor) in DEVICES {
        steps.push(Step::Device {
            path: text(&format!("/stage/dev/{name}"))?,
            major,
            minor,
        });
    }
    for (name, to) in DEVICE_LINKS {
        steps.push(Step::Symlink {
            to: text(to)?,
            path: text(&format!("/stage/dev/{name}"))?,
        });
    }
    let terminals = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    steps.extend([
        Step::Mkdir {
            path: c"/stage/dev/shm".to_owned(),
            mode: 0o755,
        },
        Step::Mkdir {
            path: c"/stage/dev/pts".to_owned(),
            mode: 0o755,
        },
        Step::NewFs {
            fs: c"devpts",
            options: options(&terminals)?,
            flags,
            slot: SLOT_TREE,
        },
        Step::AttachAt {
            tree: Fd::Slot(SLOT_TREE),
            path: c"/stage/dev/pts".to_owned(),
        },
    ]);
    Ok(())
}
