//! The view: what the program sees, from the root down, and where its writes go.
//!
//! Layers, later ones over earlier: the system (or a root directory of the policy's own), what every view has,
//! the command's installation, the policy's mounts. Then what must not be seen is taken out.

mod etc;
mod landlock;
mod masks;
mod mounts;
mod sources;
mod tree;

pub(crate) use etc::USER;

use crate::bundle::{FilesystemPlan, Owner, ViewEntry, ViewKind};
use crate::compile::Input;
use crate::resources;
use crate::wall;
use sr_common::path;
use sr_common::{Code, Fault};
use sr_policy::spec::{Installation, RootWritable, RootfsSource};
use tree::{Cover, Tree};

/// The home directory inside. It has no place of its own: `/home` is absent.
pub(crate) const HOME: &str = "/tmp";

pub(crate) fn plan(input: Input<'_>, faults: &mut Vec<Fault>) -> FilesystemPlan {
    let mut tree = Tree::default();
    // Layers are numbered by the policy's mounts first: a session finds its own again when the system's list changes.
    let mut layers = 0;
    let policy_mounts = mounts::kinds(input, &mut layers, faults);
    let on_disk = input.policy.guest_root().is_some();
    match input.policy.rootfs.source {
        // The guest's own, or none at all.
        _ if on_disk || input.engine => {}
        RootfsSource::Host => host_root(input, &mut layers, &mut tree),
        RootfsSource::Dir => own_root(input, &mut layers, &mut tree, faults),
    }
    let prefixes = match input.engine {
        true => {
            tree.set("/tmp", ViewKind::Scratch { mode: 0o1777 });
            Vec::new()
        }
        false => {
            everywhere(&mut tree);
            installation(input, &mut tree, faults)
        }
    };
    mounts::place(policy_mounts, &mut tree, faults);
    if !on_disk {
        add_workdir(input, &mut tree);
    }
    tree.add_parents();
    let mut entries = tree.into_entries();
    let (masked, hidden) = masks::apply(input, &mut entries);
    FilesystemPlan {
        landlock: landlock::plan(input, &entries, faults),
        entries,
        writable: resources::store(input),
        masked,
        read_only_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"]
            .map(str::to_owned)
            .to_vec(),
        hidden,
        prefixes,
        session: input.policy.session.clone(),
    }
}

/// The view of a monitor: the host's system directories read-only, `places` and what is there, and below `root` the
/// program's view, but for what its own kernel has. `input` is the monitor's.
pub(crate) fn around(
    input: Input<'_>,
    inside: &FilesystemPlan,
    places: Vec<(String, ViewKind)>,
    root: &str,
    faults: &mut Vec<Fault>,
) -> FilesystemPlan {
    let read_only = |source: &str, directory| ViewKind::ReadOnly {
        source: source.to_owned(),
        directory,
    };
    let mut tree = Tree::default();
    // A static program needs nothing of the host's.
    let system = input.facts.system.iter().filter(|_| !input.engine);
    for dir in system {
        let what = match &dir.link {
            Some(to) => ViewKind::Symlink { to: to.clone() },
            None => read_only(&dir.path, true),
        };
        tree.set(&dir.path, what);
    }
    for member in input
        .facts
        .etc
        .iter()
        .filter(|member| !input.engine && LOADER.contains(&member.as_str()))
    {
        let source = member.clone();
        tree.set(member, ViewKind::Copy { source });
    }
    // Neither /proc nor /dev: its worker opens nothing but what it is shown.
    if !input.engine {
        everywhere(&mut tree);
    }
    for (target, what) in places {
        tree.set(&target, what);
    }
    let below = |target: &str| path::join(root, target.trim_start_matches('/'));
    tree.set(root, ViewKind::Directory { mode: 0o755 });
    for entry in &inside.entries {
        let what = match &entry.what {
            // On the `/dev` of the guest.
            what if !input.engine
                && wall::is_guests(what)
                && path::relative(&entry.target, "/dev").is_some_and(|rest| !rest.is_empty()) =>
            {
                continue;
            }
            what if !input.engine && wall::is_guests(what) => ViewKind::Directory { mode: 0o755 },
            what => what.clone(),
        };
        tree.set(&below(&entry.target), what);
    }
    tree.add_parents();
    let entries = tree.into_entries();
    let own = masks::OF_PROC.iter().map(|path| (*path).to_owned());
    let theirs = inside.masked.iter().filter(|path| !path::within(path, "/proc"));
    FilesystemPlan {
        landlock: landlock::plan(input, &entries, faults),
        entries,
        masked: own.chain(theirs.map(|path| below(path))).collect(),
        hidden: Vec::new(),
        prefixes: Vec::new(),
        ..inside.clone()
    }
}

/// What every start of a dynamic program on the host reads.
const LOADER: [&str; 2] = ["/etc/ld.so.cache", "/etc/ld.so.conf"];

/// The policy's working directory; else where the caller's is shown; else `/`.
pub(crate) fn workdir(input: Input<'_>, view: &FilesystemPlan, faults: &mut Vec<Fault>) -> String {
    if let Some(workdir) = &input.policy.runtime.workdir {
        if !path::is_normal(workdir) {
            let found = format!("{workdir:?} is not a plain absolute path");
            faults.push(Fault::new(
                Code::Cmp001,
                "runtime.workdir",
                found,
                "write it without `.`, `..` and `//`",
            ));
        }
        return workdir.clone();
    }
    let cwd = &input.subject.cwd;
    let shown = input.subject.mounts.iter().filter(|mount| mount.directory);
    let best = shown
        .filter(|mount| path::within(cwd, &mount.source))
        .max_by_key(|mount| mount.source.len());
    let inside = best.and_then(|mount| Some((mount, path::join(&mount.target, path::relative(cwd, &mount.source)?))));
    match inside {
        // Only if nothing else of the view lies over it there.
        Some((mount, path)) if tree::covering(&view.entries, &path).is_some_and(|e| e.target == mount.target) => path,
        _ => "/".to_owned(),
    }
}

fn host_root(input: Input<'_>, layers: &mut u32, tree: &mut Tree) {
    for dir in &input.facts.system {
        let what = match &dir.link {
            Some(to) => ViewKind::Symlink { to: to.clone() },
            // Not mapped: a file of the host's that others may not read stays unreadable.
            None => system_directory(input, dir.path.clone(), None, layers),
        };
        tree.set(&dir.path, what);
    }
    for target in ["/etc", "/sys"] {
        tree.set(target, ViewKind::Directory { mode: 0o755 });
    }
    etc::add(input, tree);
}

fn own_root(input: Input<'_>, layers: &mut u32, tree: &mut Tree, faults: &mut Vec<Fault>) {
    let Some(root) = &input.subject.root else {
        let found = "rootfs.source is dir, and no directory was found for it";
        faults.push(Fault::new(Code::Cmp001, "rootfs.path", found, "write rootfs.path"));
        return;
    };
    let path = root.source.as_str();
    let wanted = match input.policy.rootfs.writable {
        RootWritable::ReadOnly => sources::Use::Shown,
        RootWritable::Overlay => sources::Use::CapturedRoot,
    };
    let refused = if path::is_normal(path) && path != "/" {
        sources::refusal(input.facts, path, wanted)
    } else {
        Some((
            format!("{path:?} is not a plain absolute path of a root directory"),
            "write rootfs.path".to_owned(),
        ))
    };
    if let Some((found, remedy)) = refused {
        faults.push(Fault::new(Code::Cmp001, "rootfs.path", found, remedy));
        return;
    }
    // As with a captured mount: an ordinary user's single id already owns what it owns.
    let owner = input.facts.privileged.then_some(Owner {
        uid: root.uid,
        gid: root.gid,
    });
    tree.set("/", system_directory(input, path.to_owned(), owner, layers));
}

fn system_directory(input: Input<'_>, source: String, owner: Option<Owner>, layers: &mut u32) -> ViewKind {
    match input.policy.rootfs.writable {
        RootWritable::ReadOnly => ViewKind::ReadOnly {
            source,
            directory: true,
        },
        RootWritable::Overlay => {
            let layer = *layers;
            *layers += 1;
            ViewKind::Captured {
                source,
                layer,
                owner,
                hidden: Vec::new(),
            }
        }
    }
}

fn everywhere(tree: &mut Tree) {
    tree.set("/proc", ViewKind::Proc);
    tree.set("/dev", ViewKind::Dev);
    tree.set("/dev/pts", ViewKind::Devpts);
    tree.set("/dev/shm", ViewKind::Scratch { mode: 0o1777 });
    tree.set("/tmp", ViewKind::Scratch { mode: 0o1777 });
}

// The command's installation outside the system directories; the prefixes that were added.
fn installation(input: Input<'_>, tree: &mut Tree, faults: &mut Vec<Fault>) -> Vec<String> {
    let Input {
        policy, facts, subject, ..
    } = input;
    let mut shown = Vec::new();
    for prefix in &subject.command.prefixes {
        let by_mount = subject.mounts.iter().any(|mount| {
            mount.directory
                && path::relative(prefix, &mount.source).is_some_and(|rest| path::join(&mount.target, rest) == *prefix)
        });
        // A venv in the workspace stays as writable as the workspace.
        if by_mount || shown.iter().any(|other: &String| path::within(prefix, other)) {
            continue;
        }
        let refused = if policy.rootfs.installation == Installation::Refuse {
            let found = format!(
                "{} needs {prefix}, which lies outside the system directories",
                subject.command.written
            );
            Some((found, "write rootfs.installation: readOnly, or mount it".to_owned()))
        } else {
            sources::refusal(facts, prefix, sources::Use::Installation)
        };
        match refused {
            Some((found, remedy)) => faults.push(Fault::new(Code::Cmp001, "rootfs.installation", found, remedy)),
            None => {
                tree.set(
                    prefix,
                    ViewKind::ReadOnly {
                        source: prefix.clone(),
                        directory: true,
                    },
                );
                shown.push(prefix.clone());
            }
        }
    }
    shown
}

// A written working directory that nothing in the view provides is an empty one of the run's own.
fn add_workdir(input: Input<'_>, tree: &mut Tree) {
    let Some(workdir) = input
        .policy
        .runtime
        .workdir
        .as_deref()
        .filter(|path| path::is_normal(path) && *path != "/")
    else {
        return;
    };
    if !tree.has(workdir)
        && matches!(tree.cover(workdir), Cover::Nothing | Cover::Skeleton)
        && !tree.passes_through(workdir)
    {
        tree.set(workdir, ViewKind::Scratch { mode: 0o755 });
    }
}

/// Entries as the other modules read them.
pub(crate) fn entry_source(entry: &ViewEntry) -> Option<&str> {
    match &entry.what {
        ViewKind::ReadOnly { source, .. } | ViewKind::Captured { source, .. } => Some(source),
        ViewKind::Writable { source, .. } => Some(source.as_str()),
        _ => None,
    }
}
