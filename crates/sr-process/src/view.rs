//! From the filesystem plan to the steps that build it: a staging tmpfs on the old root's `/tmp`, the new root on it or
//! kept from an earlier run, every mount attached below that root without following a symbolic link, then the pivot.

use crate::kept;
use crate::sandbox::Options;
use crate::skeleton::{Item, What};
use crate::stage::{self, DEVICES, Devices};
use crate::trees::{Tree, Trees};
use sr_common::{Code, Fault};
use sr_compiler::bundle::{
    Backing, FilesystemPlan, IdMap, LandlockAccess, LandlockLinks, LayerMask, Owner, ProcessPlan, ViewKind,
};
use sr_kernel::landlock::{Access, Rule, Ruleset, Scope};
use sr_kernel::step::{Fd, MountFlags, Step};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

/// Slots with a meaning; the others are numbered as needed.
pub const SLOT_EXECUTABLE: u16 = 0;
pub const SLOT_SCRIPT: u16 = 1;
pub const SLOT_LANDLOCK: u16 = 2;
pub const SLOT_PTY: u16 = 3;
pub const SLOT_STAGE: u16 = 4;
const SLOT_SKELETON: u16 = 5;
pub const SLOT_ROOT: u16 = 6;
const SLOT_WRITABLE: u16 = 7;
pub const SLOT_GUEST: u16 = 8;
const FIRST_FREE_SLOT: u16 = 9;
/// For what is not of the view: the control groups.
const SLOTS_KEPT_FREE: usize = 8;

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The steps that build a view, and the mounts that the supervisor hands over.
#[derive(Debug)]
pub struct View {
    /// Up to where [`SLOT_ROOT`] is the view's root.
    pub steps: Vec<Step>,
    /// Those that enter it and leave the host's behind.
    pub entry: Vec<Step>,
    pub trees: Trees,
    /// What is handed over before the first of the steps, and where to.
    pub first: Option<(u16, OwnedFd)>,
    pub devices: Devices,
    /// To be held for as long as the view is used, where its root is a kept one; else why it is not.
    pub kept: io::Result<OwnedFd>,
    /// The first slot that the view does not use.
    pub next_slot: u16,
}

/// Builds the steps for `plan`. `channel` is init's end of the socket.
pub fn build(
    plan: &FilesystemPlan,
    process: &ProcessPlan,
    options: &Options<'_>,
    channel: RawFd,
) -> Result<View, Fault> {
    let (devices, dev) = stage::devices(plan, process);
    let (builder, root) = begin(plan, process, options, devices)?;
    let (IdMap::Range { base, .. }, Some(dev), Devices::Nodes, Err(_)) = (&process.user.map, dev, devices, &root)
    else {
        return builder.finish(plan, channel, root, None);
    };
    match stage::with_devices(*base, dev, builder.nodes())? {
        Some(stage) => builder.finish(plan, channel, root, Some(stage)),
        None => {
            let (builder, root) = begin(plan, process, options, Devices::Mounts)?;
            builder.finish(plan, channel, root, None)
        }
    }
}

/// All but the last, and the kept root if there is one, else why there is none.
fn begin<'a>(
    plan: &FilesystemPlan,
    process: &ProcessPlan,
    options: &Options<'a>,
    devices: Devices,
) -> Result<(Builder<'a>, io::Result<KeptRoot>), Fault> {
    let mut builder = Builder {
        devices,
        sources: Vec::new(),
        skeleton: Vec::new(),
        early: Vec::new(),
        proc: None,
        layers: Vec::new(),
        mounts: Vec::new(),
        trees: Vec::new(),
        made: BTreeSet::new(),
        links: Vec::new(),
        covered: Vec::new(),
        next_slot: FIRST_FREE_SLOT,
        scratch: Vec::new(),
        inside: process.user.inside,
        map: process.user.map.clone(),
        store: plan.writable.backing == Backing::Store,
        layer_root: options.layers,
        scratch_root: options.scratch,
        root_is_overlay: plan.entries.first().is_some_and(|e| e.target == "/"),
    };
    for entry in &plan.entries {
        builder.entry(&entry.target, &entry.what)?;
    }
    let root = builder.keep(options.kept)?;
    Ok((builder, root))
}

/// A skeleton that is kept: locked, and for a privileged supervisor its mount.
struct KeptRoot {
    lock: OwnedFd,
    mount: Option<OwnedFd>,
}

struct Builder<'a> {
    /// Nodes are the supervisor's to make: in the kept skeleton, or on the stage.
    devices: Devices,
    /// Opens sources, before the staging area hides the old root's `/tmp`.
    sources: Vec<Step>,
    skeleton: Vec<Item>,
    /// Mounts on the skeleton that need nothing of the supervisor's.
    early: Vec<Step>,
    /// The target of a proc file system among them.
    proc: Option<String>,
    layers: Vec<Step>,
    mounts: Vec<Step>,
    /// Sources that a privileged supervisor opens, and maps to the sandbox's user.
    trees: Vec<Tree>,
    /// Skeleton paths already made.
    made: BTreeSet<String>,
    /// Its symbolic links.
    links: Vec<String>,
    /// Targets of mounts: what stands below them is not the skeleton's.
    covered: Vec<String>,
    next_slot: u16,
    /// Scratch directories so far: their targets; the place of number N is `w/sN`.
    scratch: Vec<String>,
    inside: u32,
    map: IdMap,
    store: bool,
    layer_root: Option<&'a Path>,
    scratch_root: Option<&'a Path>,
    root_is_overlay: bool,
}

impl Builder<'_> {
    fn privileged(&self) -> bool {
        matches!(self.map, IdMap::Range { .. })
    }

    fn slot(&mut self) -> u16 {
        self.next_slot += 1;
        self.next_slot - 1
    }

    /// Where the skeleton is made, relative to the stage.
    fn skeleton_root(&self) -> &'static str {
        if self.root_is_overlay { "k" } else { stage::ROOT }
    }

    fn skeleton_path(&self, target: &str) -> String {
        format!("{}{target}", self.skeleton_root())
    }

    fn in_mount(&self, target: &str) -> bool {
        self.covered.iter().any(|c| lies_below(target, c))
    }

    fn directory(&mut self, target: &str, mode: u32) -> Result<(), Fault> {
        if target == "/" || target.is_empty() || self.in_mount(target) || !self.made.insert(target.to_owned()) {
            return Ok(());
        }
        self.parents(target)?;
        self.item(target, What::Directory { mode });
        Ok(())
    }

    fn parents(&mut self, target: &str) -> Result<(), Fault> {
        match target.rfind('/') {
            Some(0) | None => Ok(()),
            Some(end) => self.directory(&target[..end], 0o755),
        }
    }

    /// Makes the place on which a mount is attached, unless it lies in another mount, which must hold it.
    fn mount_point(&mut self, target: &str, directory: bool) -> Result<(), Fault> {
        if let Some((number, rest)) = self.in_scratch(target) {
            return self.scratch_mount_point(number, &rest, directory);
        }
        if self.in_mount(target) || target == "/" {
            return Ok(());
        }
        if directory {
            return self.directory(target, 0o755);
        }
        self.parents(target)?;
        if self.made.insert(target.to_owned()) {
            self.item(target, What::Place);
        }
        Ok(())
    }

    /// The scratch directory in which `target` lies, if that is the innermost mount above it, and the path in it.
    fn in_scratch(&self, target: &str) -> Option<(usize, String)> {
        let above = self.covered.iter().filter(|c| lies_below(target, c));
        let innermost = above.max_by_key(|c| c.len())?;
        let number = self.scratch.iter().position(|s| s == innermost)?;
        Some((number, target[innermost.len() + 1..].to_owned()))
    }

    /// Makes a mount point in a scratch directory (a project below `/tmp`, say).
    fn scratch_mount_point(&mut self, number: usize, rest: &str, directory: bool) -> Result<(), Fault> {
        let mut path = format!("w/s{number}");
        let mut parts = rest.split('/').peekable();
        while let Some(part) = parts.next() {
            path = format!("{path}/{part}");
            if !self.made.insert(path.clone()) {
                continue;
            }
            if parts.peek().is_some() || directory {
                self.layers.push(Step::Mkdir {
                    path: c_string(&path)?,
                    mode: 0o755,
                });
            } else {
                self.layers.push(Step::File {
                    path: c_string(&path)?,
                    content: Vec::new(),
                    writable: true,
                });
            }
            self.own(&path)?;
        }
        Ok(())
    }

    fn attach(&mut self, tree: Fd, target: &str) -> Result<(), Fault> {
        let attached = self.attached(tree, target)?;
        self.mounts.push(attached);
        Ok(())
    }

    /// For what `make` makes without the supervisor: on the skeleton, before its mounts are waited for.
    fn attach_early(&mut self, make: impl IntoIterator<Item = Step>, tree: Fd, target: &str) -> Result<(), Fault> {
        let on_skeleton = self.on_skeleton(target);
        let attached = self.attached(tree, target)?;
        let steps = if on_skeleton { &mut self.early } else { &mut self.mounts };
        steps.extend(make);
        steps.push(attached);
        Ok(())
    }

    fn attached(&mut self, tree: Fd, target: &str) -> Result<Step, Fault> {
        let step = if self.on_skeleton(target) {
            Step::AttachAt {
                tree,
                path: c_string(&self.skeleton_path(target))?,
            }
        } else {
            Step::AttachIn {
                tree,
                root: Fd::Slot(SLOT_ROOT),
                path: c_string(target.trim_start_matches('/'))?,
            }
        };
        self.covered.push(target.to_owned());
        Ok(step)
    }

    /// Whether all of the way to `target` was made by these steps, without a symbolic link: nothing can lead astray there.
    fn on_skeleton(&self, target: &str) -> bool {
        let through_link = self.links.iter().any(|link| lies_below(target, link));
        !self.root_is_overlay && !self.in_mount(target) && !through_link
    }

    /// A detached mount of a host path with `flags`; with `owner`, idmapped to the sandbox's user.
    fn source(&mut self, path: &str, flags: MountFlags, owner: Option<Owner>) -> Result<Fd, Fault> {
        // The allow-listed members of /etc and /dev are often links by design; everything else was canonicalised.
        let no_symlinks = !path.starts_with("/etc/") && !path.starts_with("/dev/");
        let slot = self.slot();
        if self.privileged() {
            self.trees.push(Tree {
                path: path.to_owned(),
                no_symlinks,
                flags,
                owner,
                slot,
            });
        } else {
            self.sources.push(Step::OpenTree {
                path: c_string(path)?,
                recursive: flags.recursive,
                no_symlinks,
                slot,
            });
            self.sources.push(Step::Flags {
                tree: Fd::Slot(slot),
                flags,
            });
        }
        Ok(Fd::Slot(slot))
    }

    fn entry(&mut self, target: &str, what: &ViewKind) -> Result<(), Fault> {
        match what {
            ViewKind::Directory { mode } => self.directory(target, *mode),
            ViewKind::Symlink { to } => {
                self.parents(target)?;
                if self.made.insert(target.to_owned()) {
                    self.links.push(target.to_owned());
                    self.item(target, What::Symlink { to: to.clone() });
                }
                Ok(())
            }
            ViewKind::File { content } => {
                let content = content.clone().into_bytes();
                self.file(target, What::File { content })
            }
            ViewKind::Copy { source } => self.file(target, What::Copy { source: source.clone() }),
            ViewKind::ReadOnly { source, directory } => {
                let flags = MountFlags {
                    read_only: true,
                    recursive: true,
                    ..Default::default()
                };
                let tree = self.source(source, flags, None)?;
                if target == "/" {
                    return self.root_layers(tree, None);
                }
                self.mount_point(target, *directory)?;
                self.attach(tree, target)
            }
            ViewKind::Writable {
                source,
                directory,
                owner,
            } => {
                // Not recursive with an owner: mounts below may be of file systems that cannot be idmapped.
                let flags = MountFlags {
                    recursive: owner.is_none(),
                    ..Default::default()
                };
                let tree = self.source(source.as_str(), flags, *owner)?;
                self.mount_point(target, *directory)?;
                self.attach(tree, target)
            }
            ViewKind::Captured {
                source,
                layer,
                owner,
                hidden,
            } => self.captured(target, source, *layer, *owner, hidden),
            ViewKind::Scratch { mode } => {
                self.mount_point(target, true)?;
                let number = self.scratch.len();
                let directory = format!("w/s{number}");
                self.scratch.push(target.to_owned());
                if let Some(root) = self.scratch_root {
                    return self.scratch_on_disk(target, &root.join(number.to_string()), &directory);
                }
                let slot = self.slot();
                let make = [
                    Step::Mkdir {
                        path: c_string(&directory)?,
                        mode: *mode,
                    },
                    self.owned(&directory)?,
                    Step::OpenTree {
                        path: c_string(&directory)?,
                        recursive: false,
                        no_symlinks: true,
                        slot,
                    },
                    Step::Flags {
                        tree: Fd::Slot(slot),
                        flags: MountFlags::default(),
                    },
                ];
                if self.on_skeleton(target) {
                    return self.attach_early(make, Fd::Slot(slot), target);
                }
                // Before the places for mounts that are made in it.
                self.layers.extend(make);
                self.attach(Fd::Slot(slot), target)
            }
            ViewKind::Proc => {
                self.proc = self.on_skeleton(target).then(|| target.to_owned());
                self.fresh(target, c"proc", &[], false)
            }
            ViewKind::Devpts => {
                let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
                self.fresh(target, c"devpts", &options, true)
            }
            ViewKind::Dev => self.dev(target),
            ViewKind::Kvm => self.device(target, stage::KVM),
        }
    }

    /// A scratch directory that the supervisor has made: attached at its place among the others, where mount points are made
    /// in it, and shown from there.
    fn scratch_on_disk(&mut self, target: &str, path: &Path, directory: &str) -> Result<(), Fault> {
        let path = path.to_str().ok_or_else(|| not_utf8(&path.to_string_lossy()))?;
        let tree = self.source(path, MountFlags::default(), None)?;
        let slot = self.slot();
        self.layers.extend([
            Step::Mkdir {
                path: c_string(directory)?,
                mode: 0o755,
            },
            Step::AttachAt {
                tree,
                path: c_string(directory)?,
            },
            Step::OpenTree {
                path: c_string(directory)?,
                recursive: false,
                no_symlinks: true,
                slot,
            },
        ]);
        self.attach(Fd::Slot(slot), target)
    }

    fn file(&mut self, target: &str, what: What) -> Result<(), Fault> {
        self.parents(target)?;
        if self.made.insert(target.to_owned()) {
            self.item(target, what);
        }
        Ok(())
    }

    fn item(&mut self, target: &str, what: What) {
        let target = target.to_owned();
        self.skeleton.push(Item { target, what });
    }

    fn fresh(
        &mut self,
        target: &str,
        fs: &'static std::ffi::CStr,
        options: &[(&str, &str)],
        devices: bool,
    ) -> Result<(), Fault> {
        self.mount_point(target, true)?;
        let slot = self.slot();
        let options = options
            .iter()
            .map(|(k, v)| Ok((c_string(k)?, c_string(v)?)))
            .collect::<Result<_, Fault>>()?;
        let flags = MountFlags {
            no_exec: true,
            devices,
            ..Default::default()
        };
        let make = Step::NewFs {
            fs,
            options,
            flags,
            slot,
        };
        self.attach_early([make], Fd::Slot(slot), target)
    }

    fn dev(&mut self, target: &str) -> Result<(), Fault> {
        self.directory(target, 0o755)?;
        for (name, to) in DEVICE_LINKS {
            self.entry(&format!("{target}/{name}"), &ViewKind::Symlink { to: to.into() })?;
        }
        for device in DEVICES {
            self.device(&format!("{target}/{}", device.0), device)?;
        }
        Ok(())
    }

    fn device(&mut self, place: &str, (name, major, minor): stage::Device) -> Result<(), Fault> {
        if self.devices == Devices::Nodes {
            self.item(place, What::Node { major, minor });
            return Ok(());
        }
        let flags = MountFlags {
            no_exec: true,
            devices: true,
            ..Default::default()
        };
        let tree = self.source(&format!("/dev/{name}"), flags, None)?;
        self.mount_point(place, false)?;
        self.attach(tree, place)
    }

    /// Of those that the supervisor makes: place, major and minor number.
    fn nodes(&self) -> impl Iterator<Item = (&str, u32, u32)> {
        self.skeleton.iter().filter_map(|item| match item.what {
            What::Node { major, minor } => Some((item.target.as_str(), major, minor)),
            _ => None,
        })
    }

    fn own(&mut self, path: &str) -> Result<(), Fault> {
        let owned = self.owned(path)?;
        self.layers.push(owned);
        Ok(())
    }

    fn owned(&self, path: &str) -> Result<Step, Fault> {
        Ok(Step::Owner {
            path: c_string(path)?,
            uid: self.inside,
            gid: self.inside,
        })
    }

    fn captured(
        &mut self,
        target: &str,
        source: &str,
        layer: u32,
        owner: Option<Owner>,
        hidden: &[LayerMask],
    ) -> Result<(), Fault> {
        let tree = self.source(
            source,
            MountFlags {
                read_only: true,
                ..Default::default()
            },
            owner,
        )?;
        let lower = format!("l{layer}");
        self.layers.push(Step::Mkdir {
            path: c_string(&lower)?,
            mode: 0o755,
        });
        self.layers.push(Step::AttachAt {
            tree,
            path: c_string(&lower)?,
        });
        let mut lowers = lower.clone();
        if !hidden.is_empty() {
            let mask = self.mask_layer(layer, &lower, hidden)?;
            lowers = format!("{mask}:{lower}");
        }
        let (upper, work) = self.upper(layer, &lower)?;
        if target == "/" {
            return self.root_overlay(&lowers, Some((upper, work)));
        }
        self.mount_point(target, true)?;
        let slot = self.slot();
        self.mounts.push(overlay(&lowers, Some((&upper, &work)), slot)?);
        self.attach(Fd::Slot(slot), target)
    }

    /// A layer above the lower one that makes `hidden` absent or gives it other text. Its directories merge with the
    /// lower ones but show their own attributes, so these are copied.
    fn mask_layer(&mut self, layer: u32, lower: &str, hidden: &[LayerMask]) -> Result<String, Fault> {
        let mask = format!("m{layer}");
        let mut made = BTreeSet::new();
        self.layers.push(Step::Mkdir {
            path: c_string(&mask)?,
            mode: 0o755,
        });
        for item in hidden {
            let mut at = 0;
            while let Some(next) = item.path[at..].find('/') {
                let directory = &item.path[..at + next];
                at += next + 1;
                if made.insert(directory.to_owned()) {
                    self.layers.push(Step::Mkdir {
                        path: c_string(&format!("{mask}/{directory}"))?,
                        mode: 0o755,
                    });
                }
            }
            let path = c_string(&format!("{mask}/{}", item.path))?;
            match &item.replacement {
                None => self.layers.push(Step::Whiteout { path }),
                Some(text) => {
                    self.layers.push(Step::File {
                        path,
                        content: text.clone().into_bytes(),
                        writable: false,
                    });
                    self.own(&format!("{mask}/{}", item.path))?;
                }
            }
        }
        // Times last, children before parents: making a name changes its directory's time.
        for directory in made.iter().rev().map(|d| format!("/{d}")).chain([String::new()]) {
            let to = format!("{mask}{directory}");
            self.own(&to)?;
            self.layers.push(Step::MirrorDirectory {
                from: c_string(&format!("{lower}{directory}"))?,
                to: c_string(&to)?,
            });
        }
        Ok(mask)
    }

    /// The upper and work directories of a captured layer, relative to the stage.
    fn upper(&mut self, layer: u32, lower: &str) -> Result<(String, String), Fault> {
        let (upper, work) = if self.store {
            let root = self.layer_root.ok_or_else(|| {
                Fault::new(
                    Code::Run001,
                    "launch.prepare.layers",
                    "no folder for the captured layers",
                    "",
                )
            })?;
            let path = root.join(layer.to_string());
            let path = path.to_str().ok_or_else(|| not_utf8(&path.to_string_lossy()))?;
            let tree = self.source(path, MountFlags::default(), None)?;
            let place = format!("c{layer}");
            self.layers.push(Step::Mkdir {
                path: c_string(&place)?,
                mode: 0o755,
            });
            self.layers.push(Step::AttachAt {
                tree,
                path: c_string(&place)?,
            });
            (format!("{place}/upper"), format!("{place}/work"))
        } else {
            let (upper, work) = (format!("w/u{layer}"), format!("w/k{layer}"));
            self.layers.push(Step::Mkdir {
                path: c_string(&upper)?,
                mode: 0o755,
            });
            self.layers.push(Step::Mkdir {
                path: c_string(&work)?,
                mode: 0o755,
            });
            self.own(&upper)?;
            (upper, work)
        };
        self.layers.push(Step::MirrorDirectory {
            from: c_string(lower)?,
            to: c_string(&upper)?,
        });
        Ok((upper, work))
    }

    /// The root is a directory of the host: shown through an overlay, so that the skeleton's mount points exist.
    fn root_layers(&mut self, tree: Fd, upper: Option<(String, String)>) -> Result<(), Fault> {
        self.layers.push(Step::Mkdir {
            path: c"lr".into(),
            mode: 0o755,
        });
        self.layers.push(Step::AttachAt {
            tree,
            path: c"lr".into(),
        });
        self.root_overlay("lr", upper)
    }

    fn root_overlay(&mut self, lowers: &str, upper: Option<(String, String)>) -> Result<(), Fault> {
        let lowers = format!("k:{lowers}");
        let pair = upper.as_ref().map(|(u, w)| (u.as_str(), w.as_str()));
        self.layers.push(overlay(&lowers, pair, SLOT_SKELETON)?);
        self.layers.push(Step::AttachAt {
            tree: Fd::Slot(SLOT_SKELETON),
            path: c"r".into(),
        });
        Ok(())
    }

    /// Finds the skeleton in `folder`, where all of it is kept from run to run.
    fn keep(&mut self, folder: Option<&Path>) -> Result<io::Result<KeptRoot>, Fault> {
        if self.root_is_overlay {
            return Ok(Err(io::Error::other("the root is an overlay")));
        }
        let Some(folder) = folder else {
            return Ok(Err(io::Error::other("there is no private runtime directory")));
        };
        let owner = match self.map {
            IdMap::Range { base, .. } => Some(base),
            IdMap::Single { .. } => None,
        };
        let tree = match kept::tree(folder, &self.skeleton, owner) {
            Ok(tree) => tree,
            Err(e) => return Ok(Err(e)),
        };
        let flags = MountFlags {
            read_only: true,
            devices: self.devices == Devices::Nodes,
            ..Default::default()
        };
        if self.privileged() {
            return Ok(kept::mount(&tree.lock, flags).map(|mount| KeptRoot {
                lock: tree.lock,
                mount: Some(mount),
            }));
        }
        self.sources.push(Step::OpenTree {
            path: c_string(&tree.path)?,
            recursive: false,
            no_symlinks: true,
            slot: SLOT_SKELETON,
        });
        self.sources.push(Step::Flags {
            tree: Fd::Slot(SLOT_SKELETON),
            flags,
        });
        Ok(Ok(KeptRoot {
            lock: tree.lock,
            mount: None,
        }))
    }

    /// `stage`: with the device nodes, where the skeleton is not a kept one.
    fn finish(
        self,
        plan: &FilesystemPlan,
        channel: RawFd,
        kept: io::Result<KeptRoot>,
        stage: Option<OwnedFd>,
    ) -> Result<View, Fault> {
        let tmpfs = |size: Option<(u64, u64)>, slot, read_only| -> Result<Step, Fault> {
            let mut options = vec![(c"mode".to_owned(), c"0755".to_owned())];
            if let Some((bytes, inodes)) = size {
                options.push((c"size".to_owned(), c_string(&bytes.to_string())?));
                options.push((c"nr_inodes".to_owned(), c_string(&inodes.to_string())?));
            }
            Ok(Step::NewFs {
                fs: c"tmpfs",
                options,
                flags: MountFlags {
                    read_only,
                    ..Default::default()
                },
                slot,
            })
        };
        let at = |slot, path: &std::ffi::CStr| Step::AttachAt {
            tree: Fd::Slot(slot),
            path: path.to_owned(),
        };
        let mkdir = |path: &std::ffi::CStr| Step::Mkdir {
            path: path.to_owned(),
            mode: 0o755,
        };

        let skeleton_root = self.skeleton_root();
        let mut steps = vec![Step::PrivateMounts];
        steps.extend(self.sources);
        let size = (plan.writable.bytes.0, plan.writable.inodes);
        if kept.is_ok() {
            // All that is made beside the writable directory is no part of what the program may write.
            let beside = self
                .layers
                .iter()
                .filter_map(|step| step.makes())
                .filter(|(path, _)| !path.to_bytes().starts_with(b"w/"));
            let itself: (u64, u64) = (size.0, size.1.saturating_add(4));
            let sum = beside.fold(itself, |(bytes, inodes), (_, more)| {
                (bytes.saturating_add(more), inodes.saturating_add(1))
            });
            steps.push(tmpfs(Some(sum), SLOT_STAGE, false)?);
        } else if stage.is_none() {
            steps.push(tmpfs(None, SLOT_STAGE, false)?);
        }
        steps.push(at(SLOT_STAGE, c"/tmp"));
        steps.push(Step::ChangeDir(c"/tmp".into()));
        for name in [c"r", c"w", c"e"] {
            steps.push(mkdir(name));
        }
        steps.push(Step::File {
            path: c"f".into(),
            content: Vec::new(),
            writable: false,
        });
        if kept.is_ok() {
            steps.push(Step::OpenDir {
                path: c"w".into(),
                slot: SLOT_WRITABLE,
            });
        } else {
            steps.push(tmpfs(Some(size), SLOT_WRITABLE, false)?);
            steps.push(at(SLOT_WRITABLE, c"w"));
        }
        steps.push(Step::Send {
            fd: Fd::Slot(SLOT_WRITABLE),
            channel,
            tag: sr_kernel::wire::TAG_WRITABLE,
        });
        if self.root_is_overlay {
            steps.push(mkdir(c"k"));
        } else if kept.is_ok() {
            steps.push(at(SLOT_SKELETON, c"r"));
        } else {
            // A mount of its own, to be made read-only.
            steps.push(Step::OpenTree {
                path: c"r".into(),
                recursive: false,
                no_symlinks: false,
                slot: SLOT_SKELETON,
            });
            steps.push(at(SLOT_SKELETON, c"r"));
        }
        if kept.is_err() {
            for item in self.skeleton {
                steps.extend(item.into_step(skeleton_root)?);
            }
        }
        steps.extend(self.early);
        let root = Fd::Slot(SLOT_ROOT);
        let open_root = || Step::OpenDir {
            path: c"r".into(),
            slot: SLOT_ROOT,
        };
        let (mut on_proc, mut elsewhere) = (Vec::new(), Vec::new());
        let masks = plan.masked.iter().map(|path| (path, true));
        for (path, masked) in masks.chain(plan.read_only_paths.iter().map(|path| (path, false))) {
            let of_proc = self.proc.as_ref().is_some_and(|proc| lies_below(path, proc));
            let path = c_string(path.trim_start_matches('/'))?;
            let cover = match masked {
                true => Step::Mask {
                    root,
                    path,
                    file: c"f".into(),
                    directory: c"e".into(),
                    links: !of_proc,
                },
                false => Step::MakeReadOnly {
                    root,
                    path,
                    links: !of_proc,
                },
            };
            if of_proc { &mut on_proc } else { &mut elsewhere }.push(cover);
        }
        let wait = Step::Await {
            channel,
            slots: self.trees.iter().map(|tree| tree.slot).collect(),
        };
        // All that can be comes before the wait.
        if !self.root_is_overlay {
            steps.push(open_root());
            steps.extend(on_proc);
        }
        steps.push(wait);
        steps.extend(self.layers);
        if self.root_is_overlay {
            steps.push(open_root());
        }
        steps.extend(self.mounts);
        steps.extend(elsewhere);
        if !self.root_is_overlay && kept.is_err() {
            let flags = MountFlags {
                read_only: true,
                devices: self.devices == Devices::Nodes,
                ..Default::default()
            };
            steps.push(Step::Flags {
                tree: Fd::Slot(SLOT_SKELETON),
                flags,
            });
        }
        let mut entry = vec![Step::ChangeDirTo(root), Step::PivotHere];
        if let Some(landlock) = &plan.landlock {
            let (mut rules, mut places) = (Vec::new(), Vec::new());
            for rule in &landlock.rules {
                let path = c_string(&rule.path)?;
                let access = match rule.access {
                    LandlockAccess::List => Access::List,
                    LandlockAccess::Read => Access::Read,
                    LandlockAccess::Write => Access::Write,
                    LandlockAccess::Device => Access::Device,
                };
                match rule.links {
                    // Once they are open.
                    LandlockLinks::Hashed => {}
                    LandlockLinks::Refused => places.push(Step::AllowPlace {
                        ruleset: Fd::Slot(SLOT_LANDLOCK),
                        abi: landlock.abi,
                        path,
                        access,
                    }),
                    links => rules.push(Rule {
                        path,
                        access,
                        file: links == LandlockLinks::ToFile,
                    }),
                }
            }
            let ruleset = Ruleset {
                abi: landlock.abi,
                deny_tcp: landlock.deny_network,
                scope: if landlock.scope {
                    Scope::Nothing
                } else {
                    Scope::Everything
                },
                rules,
            };
            entry.push(Step::PrepareLandlock {
                ruleset,
                slot: SLOT_LANDLOCK,
            });
            entry.extend(places);
        }
        if usize::from(self.next_slot) + SLOTS_KEPT_FREE > sr_kernel::step::SLOTS {
            return Err(Fault::new(
                Code::Run001,
                "launch.prepare.view",
                format!("{} mounts are more than a view can hold", self.next_slot),
                "name fewer mounts",
            ));
        }
        let (first, lock) = match kept {
            Ok(root) => (root.mount.map(|mount| (SLOT_SKELETON, mount)), Ok(root.lock)),
            Err(why) => (stage.map(|stage| (SLOT_STAGE, stage)), Err(why)),
        };
        let shown = match self.map {
            IdMap::Range { base, .. } => base + self.inside,
            IdMap::Single { host_uid, .. } => host_uid,
        };
        Ok(View {
            steps,
            entry,
            trees: Trees::new(self.trees, shown),
            first,
            devices: self.devices,
            kept: lock,
            next_slot: self.next_slot,
        })
    }
}

fn lies_below(target: &str, above: &str) -> bool {
    target.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

fn overlay(lowers: &str, upper: Option<(&str, &str)>, slot: u16) -> Result<Step, Fault> {
    let mut options = vec![(c"lowerdir".to_owned(), c_string(lowers)?)];
    if let Some((upper, work)) = upper {
        options.push((c"upperdir".to_owned(), c_string(upper)?));
        options.push((c"workdir".to_owned(), c_string(work)?));
    }
    options.push((c"userxattr".to_owned(), CString::default()));
    let flags = MountFlags {
        read_only: upper.is_none(),
        ..Default::default()
    };
    Ok(Step::NewFs {
        fs: c"overlay",
        options,
        flags,
        slot,
    })
}

pub(crate) fn c_string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| {
        Fault::new(
            Code::Run001,
            "launch.prepare",
            format!("{text:?} holds a NUL character"),
            "remove it",
        )
    })
}

fn not_utf8(path: &str) -> Fault {
    Fault::new(
        Code::Run001,
        "launch.prepare",
        format!("{path} is not UTF-8"),
        "choose a run store with a plain name",
    )
}
