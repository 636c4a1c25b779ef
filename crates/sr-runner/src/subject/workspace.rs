//! The working directory and the top of the git work tree that holds it.

use super::fault::run;
use sr_common::{Fault, HostFacts};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) struct Place {
    /// Canonical.
    pub cwd: PathBuf,
    pub workspace: PathBuf,
    pub uid: u32,
    pub gid: u32,
}

pub(super) fn find(cwd: &Path, facts: &HostFacts) -> Result<Place, Fault> {
    let unreadable = |path: &Path, e: &std::io::Error| {
        run(
            "cwd",
            format!("cannot use the current directory {}: {e}", path.display()),
            "change to another directory",
        )
    };
    let cwd = cwd.canonicalize().map_err(|e| unreadable(cwd, &e))?;
    let here = cwd.metadata().map_err(|e| unreadable(&cwd, &e))?;
    if !here.is_dir() {
        return Err(run(
            "cwd",
            format!("{} is not a directory", cwd.display()),
            "change to a directory",
        ));
    }
    let home = facts.home.as_deref().map(Path::new);
    let workspace = cwd
        .ancestors()
        .take_while(|dir| dir.parent().is_some() && home != Some(dir))
        .find(|dir| {
            // As git does, nothing is believed of a stranger's `.git` (in `/tmp`, say).
            dir.join(".git")
                .symlink_metadata()
                .is_ok_and(|git| git.uid() == here.uid() || git.uid() == facts.uid)
        })
        .unwrap_or(&cwd)
        .to_owned();
    let top = workspace.metadata().map_err(|e| unreadable(&workspace, &e))?;
    Ok(Place {
        cwd,
        uid: top.uid(),
        gid: top.gid(),
        workspace,
    })
}
