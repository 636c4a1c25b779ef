//! The policy's mounts and its root directory, found on this host.

use super::fault::{run, text};
use super::workspace::Place;
use sr_common::facts::ResolvedMount;
use sr_common::{Fault, HostFacts};
use sr_policy::spec::{Mount, Rootfs, RootfsSource};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn resolve(mounts: &[Mount], place: &Place, facts: &HostFacts) -> Result<Vec<ResolvedMount>, Fault> {
    mounts
        .iter()
        .enumerate()
        .map(|(i, mount)| one(i, mount, place, facts))
        .collect()
}

/// The directory that is the root, for `rootfs.source: dir`.
pub(super) fn root(rootfs: &Rootfs) -> Result<Option<ResolvedMount>, Fault> {
    const FIELD: &str = "rootfs.path";
    let path = match (&rootfs.source, &rootfs.path) {
        (RootfsSource::Host, _) => return Ok(None),
        (RootfsSource::Dir, None) => {
            let found = "rootfs.source is dir, and no directory is named";
            return Err(run(FIELD, found, "write rootfs.path, an absolute path"));
        }
        (RootfsSource::Dir, Some(path)) => Path::new(path),
    };
    let unusable = |why: String| {
        let found = format!("cannot use {} as the root: {why}", path.display());
        run(FIELD, found, "name a directory that holds a root file system")
    };
    if !path.is_absolute() {
        return Err(unusable("it is no absolute path".into()));
    }
    let source = path.canonicalize().map_err(|e| unusable(e.to_string()))?;
    let meta = source.metadata().map_err(|e| unusable(e.to_string()))?;
    if !meta.is_dir() {
        return Err(unusable("it is not a directory".into()));
    }
    Ok(Some(ResolvedMount {
        source: text(&source, FIELD)?,
        target: "/".into(),
        directory: true,
        uid: meta.uid(),
        gid: meta.gid(),
    }))
}

fn one(i: usize, mount: &Mount, place: &Place, facts: &HostFacts) -> Result<ResolvedMount, Fault> {
    let field = format!("mounts[{i}].source");
    let whole_tree = Path::new(&mount.source) == Path::new(".");
    let wanted = if whole_tree {
        place.workspace.clone()
    } else {
        place.cwd.join(&mount.source)
    };
    let source = wanted.canonicalize().map_err(|e| {
        let remedy = "create it, or correct the path (it is relative to the directory where the run starts)";
        run(&field, format!("cannot mount {}: {e}", wanted.display()), remedy)
    })?;
    let meta = source.metadata().map_err(|e| {
        run(
            &field,
            format!("cannot mount {}: {e}", source.display()),
            "make it readable for the user who starts the run",
        )
    })?;
    if !meta.is_dir() && !meta.is_file() {
        let found = format!("{} is neither a directory nor a regular file", source.display());
        return Err(run(&field, found, "mount the directory that holds it, or leave it out"));
    }
    if mount.captured {
        refuse_whole_hosts(&field, &source, facts)?;
    }
    let source_text = text(&source, &field)?;
    let target = mount.target.clone().unwrap_or_else(|| source_text.clone());
    Ok(ResolvedMount {
        source: source_text,
        target,
        directory: meta.is_dir(),
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// A captured tree is walked for hidden names and shown to the program: never the root, a home directory or what
/// holds one, the operating system, or Safe-Run's own folders.
fn refuse_whole_hosts(field: &str, source: &Path, facts: &HostFacts) -> Result<(), Fault> {
    let shown = source.display();
    let remedy = "change to a project directory, or mount that directory with --mount";
    if facts
        .home
        .as_deref()
        .is_some_and(|home| canonical(home).starts_with(source))
        || source.parent().is_none()
    {
        return Err(run(
            field,
            format!("{shown} holds everything: it is no working directory"),
            remedy,
        ));
    }
    let system = ["/boot", "/dev", "/etc", "/proc", "/run", "/sys"].map(Path::new);
    if facts
        .system
        .iter()
        .map(|d| Path::new(&d.path))
        .chain(system)
        .any(|dir| source.starts_with(dir))
        || source == Path::new("/var")
    {
        return Err(run(field, format!("{shown} belongs to the operating system"), remedy));
    }
    for own in std::iter::once(&facts.store).chain(&facts.private) {
        if source.starts_with(canonical(own)) {
            return Err(run(
                field,
                format!("{shown} is inside {own}, a folder of Safe-Run's own"),
                remedy,
            ));
        }
    }
    Ok(())
}

fn canonical(path: &str) -> PathBuf {
    Path::new(path).canonicalize().unwrap_or_else(|_| path.into())
}
