//! What the policy shows of the host, hashed before the launch: by the very places that are mounted, so that no other
//! file can be put under a name in between. These and the script are looked at once more at the exec stop.

use super::tree::{self, Problem};
use crate::store::Store;
use rustix::fs::FileType;
use sr_common::{Code, Control, Digest, Fault, Observed};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::MountEvidence;
use sr_evidence::report::MountDigest;
use sr_process::posture::Identity;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const UNREADABLE: &str = "make it readable for the user who starts the run: what cannot be read cannot be vouched for";
const BUSY: &str = "run it again when nothing else writes there; or mount a copy";

/// Files and trees whose content is known, to be compared at the exec stop.
#[derive(Debug, Default)]
pub struct Watched(Vec<One>);

#[derive(Debug)]
struct One {
    /// The policy's field that names it.
    field: String,
    /// On the host, or where that is not known in the view.
    name: String,
    target: String,
    place: OwnedFd,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    File(Identity),
    Tree { stamp: Digest, others: BTreeSet<Vec<u8>> },
}

/// Every mount of the plan with its digest, `None` where the plan wants none. `places` are those that it wants hashed.
pub fn hash(
    store: &Store,
    bundle: &CompileBundle,
    mut places: BTreeMap<u32, OwnedFd>,
    signals: BorrowedFd<'_>,
) -> Result<(Vec<MountDigest>, Watched), Fault> {
    let mut ended = || {
        const ENDS: [i32; 4] = [1, 2, 3, 15];
        std::iter::from_fn(|| sr_kernel::process::next_signal(signals)).any(|signal| ENDS.contains(&signal))
    };
    let mut digests = Vec::new();
    let mut watched = Vec::new();
    for (number, mount) in (0u32..).zip(&bundle.evidence_plan.mounts) {
        let mut digest = None;
        if mount.hashed {
            let field = match mount.target.as_str() {
                "/" => "rootfs.path".to_owned(),
                _ => format!("mounts[{number}].source"),
            };
            let place = places.remove(&number).ok_or_else(|| {
                Fault::new(
                    Code::Run001,
                    &field,
                    format!("{} was not found in the view", mount.target),
                    "this is a defect of Safe-Run: please report it",
                )
            })?;
            let (found, state) = match mount.directory {
                false => file(store, mount, &place, &field, &mut ended)?,
                true => directory(bundle, mount, &place, &field, &mut ended)?,
            };
            digest = Some(found);
            watched.push(One {
                field,
                name: mount.source.clone(),
                target: mount.target.clone(),
                place,
                state,
            });
        }
        digests.push(MountDigest {
            source: Some(mount.source.clone()),
            target: mount.target.clone(),
            digest,
        });
    }
    Ok((digests, Watched(watched)))
}

fn file(
    store: &Store,
    mount: &MountEvidence,
    place: &OwnedFd,
    field: &str,
    ended: &mut dyn FnMut() -> bool,
) -> Result<(Digest, State), Fault> {
    let fault = |e: std::io::Error| {
        let found = format!("{} cannot be hashed: {e}", mount.source);
        Fault::new(Code::Run001, field, found, UNREADABLE)
    };
    let stat = rustix::fs::fstat(place).map_err(|e| fault(e.into()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(fault(std::io::Error::other("it is not a regular file any more")));
    }
    // The place itself, not what now has its name.
    let file = File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map_err(fault)?;
    let digest = super::of_file(store, &file, &stat, ended).map_err(|e| match e.kind() {
        std::io::ErrorKind::TimedOut => problem_fault(mount, field, &Problem::Ended),
        _ => fault(e),
    })?;
    Ok((digest, State::File(Identity::of(&stat))))
}

fn directory(
    bundle: &CompileBundle,
    mount: &MountEvidence,
    place: &OwnedFd,
    field: &str,
    ended: &mut dyn FnMut() -> bool,
) -> Result<(Digest, State), Fault> {
    let top = mount.target.trim_end_matches('/');
    let entries = bundle.filesystem_plan.entries.iter();
    let others: BTreeSet<Vec<u8>> = entries
        .filter_map(|entry| entry.target.strip_prefix(top)?.strip_prefix('/'))
        .filter(|below| !below.is_empty())
        .map(|below| below.as_bytes().to_vec())
        .collect();
    match tree::of(place.as_fd(), &others, true, ended) {
        Ok(found) => Ok((
            found.digest,
            State::Tree {
                stamp: found.stamp,
                others,
            },
        )),
        Err(problem) => Err(problem_fault(mount, field, &problem)),
    }
}

fn problem_fault(mount: &MountEvidence, field: &str, problem: &Problem) -> Fault {
    let below = |path: &[u8]| match path {
        [] => mount.source.clone(),
        path => format!(
            "{}/{}",
            mount.source.trim_end_matches('/'),
            String::from_utf8_lossy(path)
        ),
    };
    let (found, remedy) = match problem {
        Problem::Unreadable(path, e) => (
            format!("{} cannot be hashed: {}", below(path), std::io::Error::from(*e)),
            format!("{UNREADABLE}; or write evidence.hash: files"),
        ),
        Problem::Changed(path) => (format!("{} changed while it was hashed", below(path)), BUSY.to_owned()),
        Problem::Ended => (
            format!("the run was asked to end while {} was hashed", mount.source),
            "nothing was started; directories are not hashed with evidence.hash: files".to_owned(),
        ),
    };
    Fault::new(Code::Run001, field, found, remedy)
}

impl Watched {
    /// Besides, the script that is run by its path.
    pub fn add_script(&mut self, path: &str, file: File, identity: Identity) {
        self.0.push(One {
            field: "runtime.command".to_owned(),
            name: path.to_owned(),
            target: path.to_owned(),
            place: file.into(),
            state: State::File(identity),
        });
    }

    /// Looks once more, by the same places: one line of posture for each, and the fault if something changed.
    pub fn observe(&self) -> (Vec<Observed>, Option<Fault>) {
        let mut fault = None;
        let lines = self.0.iter().map(|one| {
            let (mechanism, same) = one.unchanged();
            if !same && fault.is_none() {
                let found = format!("{} changed between its hashing and the program's start", one.name);
                fault = Some(Fault::new(Code::Run002, &one.field, found, BUSY));
            }
            Observed {
                control: Control::ExecutableDigest,
                requested: format!("{} as it was hashed", one.target),
                mechanism: mechanism.into(),
                observed: if same { "unchanged" } else { "changed" }.into(),
                holds: same,
            }
        });
        (lines.collect(), fault)
    }
}

impl One {
    fn unchanged(&self) -> (&'static str, bool) {
        match &self.state {
            State::File(identity) => {
                let now = rustix::fs::fstat(&self.place).map(|stat| Identity::of(&stat));
                ("inode, size and ctime", now.is_ok_and(|now| now == *identity))
            }
            State::Tree { stamp, others } => {
                let now = tree::of(self.place.as_fd(), others, false, &mut || false);
                (
                    "names, modes, inodes, sizes, mtimes and ctimes",
                    now.is_ok_and(|now| now.stamp == *stamp),
                )
            }
        }
    }
}
