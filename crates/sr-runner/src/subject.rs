//! Finds out what is to be run: the working directory, the mounts as they are on this host, the names that captured
//! mounts must not show, and the file that the command means. Looks only; what is allowed is the compiler's affair,
//! but a tree that no view may hold (`/`, the home directory) is refused here, before it is walked.

mod command;
mod fault;
mod gitconfig;
pub(crate) mod glob;
mod hidden;
mod install;
mod listing;
mod module;
mod mounts;
pub mod opened;
pub(crate) mod shebang;
mod shims;
mod view;
mod workspace;

use sr_common::{Fault, HostFacts, Subject};
use sr_policy::PolicySpec;
use std::ffi::OsStr;
use std::path::Path;

/// What the search for the subject must know besides the policy.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    pub facts: &'a HostFacts,
    /// `PYENV_VERSION` of the caller.
    pub pyenv_version: Option<&'a OsStr>,
    /// Where directory listings are remembered for the next search.
    pub cache: Option<&'a Path>,
}

/// What is to be run. `cwd` is the caller's current directory, `path_var` its `PATH`.
pub fn subject(
    policy: &PolicySpec,
    cwd: &Path,
    path_var: &OsStr,
    surroundings: &Surroundings<'_>,
) -> Result<Subject, Fault> {
    let facts = surroundings.facts;
    let place = workspace::find(cwd, facts)?;
    let root = mounts::root(&policy.rootfs)?;
    let mounts = mounts::resolve(&policy.mounts, &place, facts)?;
    let hidden = hidden::find(policy, &mounts, surroundings.cache)?;
    let view = view::View::new(root.as_ref(), &mounts, facts);
    let command = match (module::find(policy, &place.cwd, &view)?, policy.guest_root()) {
        (Some(module), _) => module,
        (None, None) => command::resolve(policy, &place.cwd, path_var, &view, surroundings)?,
        (None, Some(_)) => command::of_guest(policy, &place.cwd, &mounts)?,
    };
    Ok(Subject {
        cwd: fault::text(&place.cwd, "cwd")?,
        workspace: fault::text(&place.workspace, "cwd")?,
        workspace_uid: place.uid,
        workspace_gid: place.gid,
        hidden,
        command,
        root,
        mounts,
        wall: None,
    })
}

#[cfg(test)]
mod tests;
