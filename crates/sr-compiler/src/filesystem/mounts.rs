//! The policy's mounts: what each becomes, and where it may stand.

use super::sources::{self, Use};
use super::tree::{Cover, Tree};
use crate::bundle::{Owner, ViewKind, WritableSource};
use crate::compile::Input;
use sr_common::facts::ResolvedMount;
use sr_common::path;
use sr_common::{Code, Fault};
use sr_policy::spec::Mount;

/// A mount that may be placed: its index in the policy, its target, what it is.
pub(crate) struct Placed<'a> {
    index: usize,
    target: &'a str,
    what: ViewKind,
}

/// The mounts whose sources may serve; the others are faults.
pub(crate) fn kinds<'a>(input: Input<'a>, layers: &mut u32, faults: &mut Vec<Fault>) -> Vec<Placed<'a>> {
    let Input { policy, subject, .. } = input;
    if policy.mounts.len() != subject.mounts.len() {
        let found = format!(
            "{} mounts in the policy, {} resolved",
            policy.mounts.len(),
            subject.mounts.len()
        );
        faults.push(Fault::new(
            Code::Cmp002,
            "mounts",
            found,
            "this is a defect of Safe-Run: please report it",
        ));
        return Vec::new();
    }
    let mut placed = Vec::new();
    for (index, (mount, resolved)) in policy.mounts.iter().zip(&subject.mounts).enumerate() {
        match kind(input, mount, resolved, layers) {
            Ok(what) => placed.push(Placed {
                index,
                target: &resolved.target,
                what,
            }),
            Err((found, remedy)) => {
                faults.push(Fault::new(
                    Code::Cmp001,
                    format!("mounts[{index}].source"),
                    found,
                    remedy,
                ));
            }
        }
    }
    placed
}

fn kind(
    input: Input<'_>,
    mount: &Mount,
    resolved: &ResolvedMount,
    layers: &mut u32,
) -> Result<ViewKind, (String, String)> {
    let ResolvedMount { source, directory, .. } = resolved;
    let wanted = match mount {
        Mount { read_only: true, .. } => Use::Shown,
        Mount { captured: true, .. } => Use::Captured,
        _ => Use::Writable,
    };
    if !path::is_normal(source) {
        return Err((
            format!("{source:?} is not a canonical path"),
            "this is a defect of Safe-Run: please report it".to_owned(),
        ));
    }
    if let Some(refused) = sources::refusal(input.facts, source, wanted) {
        return Err(refused);
    }
    // An ordinary user's single id already owns what it owns.
    let owner = input.facts.privileged.then_some(Owner {
        uid: resolved.uid,
        gid: resolved.gid,
    });
    match wanted {
        Use::Captured if *directory => {
            let layer = *layers;
            *layers += 1;
            Ok(ViewKind::Captured {
                source: source.clone(),
                layer,
                owner,
                hidden: Vec::new(),
            })
        }
        Use::Captured => Err((
            format!("{source} is a file: only a directory can be captured"),
            "mount the directory that holds it".to_owned(),
        )),
        // Shown as the sandbox user's own, such a directory would take setuid files that are root's on the host.
        Use::Writable if owner.is_some_and(|owner| owner.uid == 0) => Err((
            format!("{source} belongs to root: a program could leave setuid programs of root's in it"),
            "give the directory to an ordinary user, or capture its changes (`captured: true`)".to_owned(),
        )),
        Use::Writable => match WritableSource::new(source) {
            Some(source) => Ok(ViewKind::Writable {
                source,
                directory: *directory,
                owner,
            }),
            None => Err((
                format!("{source} cannot be mounted writable"),
                "mount a directory of its own".to_owned(),
            )),
        },
        Use::Shown | Use::Installation | Use::CapturedRoot => Ok(ViewKind::ReadOnly {
            source: source.clone(),
            directory: *directory,
        }),
    }
}

/// Puts the mounts into the tree, over what is there, parents first.
pub(crate) fn place(mut mounts: Vec<Placed<'_>>, tree: &mut Tree, faults: &mut Vec<Fault>) {
    for pair in duplicates(&mounts) {
        let found = format!("{} is the target of two mounts", mounts[pair].target);
        let path = format!("mounts[{}].target", mounts[pair].index);
        faults.push(Fault::new(
            Code::Cmp001,
            path,
            found,
            "give each mount a target of its own",
        ));
    }
    // What stands at or below a target gives way to it, so outer mounts go first.
    mounts.sort_by_key(|mount| mount.target.len());
    for Placed { index, target, what } in mounts {
        match refusal(target, tree) {
            Some((found, remedy)) => faults.push(Fault::new(
                Code::Cmp001,
                format!("mounts[{index}].target"),
                found,
                remedy,
            )),
            None => {
                tree.remove_below(target);
                tree.set(target, what);
            }
        }
    }
}

fn duplicates(mounts: &[Placed<'_>]) -> Vec<usize> {
    (1..mounts.len())
        .filter(|at| mounts[..*at].iter().any(|other| other.target == mounts[*at].target))
        .collect()
}

fn refusal(target: &str, tree: &Tree) -> Option<(String, String)> {
    if !path::is_normal(target) {
        return Some((
            format!("{target:?} is not a plain absolute path"),
            "write it without `.`, `..` and `//`".to_owned(),
        ));
    }
    if target == "/" {
        return Some((
            "a mount cannot replace the root".to_owned(),
            "use rootfs: {source: dir, path: …}".to_owned(),
        ));
    }
    let own = ["/proc", "/sys", "/dev"]
        .into_iter()
        .find(|dir| path::within(target, dir));
    if let Some(dir) = own {
        return Some((
            format!("{target} lies in {dir}, which is the sandbox's own"),
            "choose another target".to_owned(),
        ));
    }
    let link = path::ancestors(target)
        .chain([target])
        .find_map(|dir| match tree.get(dir) {
            Some(ViewKind::Symlink { to }) => Some((dir, to)),
            _ => None,
        });
    if let Some((dir, to)) = link {
        return Some((
            format!("{dir} is a symbolic link to {to} in the view"),
            "write the target without the link".to_owned(),
        ));
    }
    (tree.cover(target) == Cover::Closed).then(|| {
        (
            format!("{target} lies below something that is not a directory"),
            "choose another target".to_owned(),
        )
    })
}
