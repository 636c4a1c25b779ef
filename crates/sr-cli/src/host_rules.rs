//! The operator's rules of this host, narrowed by the person's own, and a policy judged by them.

use crate::environment::Environment;
use crate::read;
use rustix::fs::Stat;
use sr_common::{Code, Fault};
use sr_policy::{HostContext, HostRules, PolicySpec, parse_host, validate_host};
use std::path::{Path, PathBuf};

/// The rules of both files; of a file that does not exist, none.
pub fn load(env: &Environment) -> Result<HostRules, Vec<Fault>> {
    let operator = one(&env.operator_rules, 0)?;
    let own = match &env.user_rules {
        Some(path) => one(path, rustix::process::geteuid().as_raw())?,
        None => HostRules::default(),
    };
    Ok(operator.narrow(own))
}

fn one(path: &Path, owner: u32) -> Result<HostRules, Vec<Fault>> {
    match rustix::fs::stat(path) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(HostRules::default()),
        // The home of another user, where one is left in HOME: those rules are not this user's.
        Err(rustix::io::Errno::ACCESS) if owner != 0 => return Ok(HostRules::default()),
        _ => {}
    }
    let document = read::document(path, "host.yaml").map_err(|f| vec![f])?;
    trusted(path, &document.stat, owner).map_err(|f| vec![f])?;
    parse_host(&path.to_string_lossy(), &document.bytes)
}

/// A file of rules counts only if nobody else could have written it.
fn trusted(path: &Path, stat: &Stat, owner: u32) -> Result<(), Fault> {
    let shown = path.display();
    let refuse = |found: String| {
        let remedy = format!("chown {owner} {shown} && chmod go-w {shown}");
        Err(Fault::new(Code::Pol002, "host.yaml", found, remedy))
    };
    if stat.st_uid != owner && stat.st_uid != 0 {
        return refuse(format!("{shown} belongs to uid {}, not to {owner}", stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse(format!(
            "{shown} may be written by others (mode {:04o})",
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

/// Judges `spec` by what holds on this host, before anything is done for it. The runner does so again with the paths that it
/// found by itself, which are those that it mounts: a link in a path may be exchanged meanwhile.
pub fn check(
    spec: &PolicySpec,
    files: &[PathBuf],
    rules: HostRules,
    env: &Environment,
) -> Result<HostContext, Vec<Fault>> {
    let mut policy_files: Vec<String> = files.iter().map(|f| f.to_string_lossy().into_owned()).collect();
    policy_files.push(env.operator_rules.to_string_lossy().into_owned());
    policy_files.extend(env.user_rules.iter().map(|f| f.to_string_lossy().into_owned()));
    let context = HostContext {
        cwd: env.cwd.to_string_lossy().into_owned(),
        store: env.store.to_string_lossy().into_owned(),
        keys: vec![env.keys.to_string_lossy().into_owned()],
        policy_files,
        sources: spec.mounts.iter().map(|m| canonical(&m.source, env)).collect(),
        root: spec.rootfs.path.as_deref().and_then(|path| canonical(path, env)),
        operator: rules,
    };
    let faults = validate_host(spec, &context);
    if faults.is_empty() { Ok(context) } else { Err(faults) }
}

/// `None`: it does not exist, which the run itself reports.
fn canonical(written: &str, env: &Environment) -> Option<String> {
    let path = if Path::new(written) == Path::new(".") {
        work_tree(env)
    } else {
        env.cwd.join(written)
    };
    Some(path.canonicalize().ok()?.to_str()?.to_owned())
}

/// The top of the git work tree that holds the current directory, or that directory itself; by the same rule as the
/// runner's, which shows it.
fn work_tree(env: &Environment) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let uid = rustix::process::geteuid().as_raw();
    let here = env.cwd.metadata().map_or(uid, |m| m.uid());
    env.cwd
        .ancestors()
        .take_while(|dir| dir.parent().is_some() && env.home.as_deref() != Some(dir))
        .find(|dir| {
            dir.join(".git")
                .symlink_metadata()
                .is_ok_and(|git| git.uid() == here || git.uid() == uid)
        })
        .unwrap_or(&env.cwd)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn rules_that_others_may_write_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("host.yaml");
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(one(&path, uid).unwrap(), HostRules::default());
        std::fs::write(&path, "apiVersion: safe-run/v1\nkind: Host\nceilings: {memory: 1GiB}\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(one(&path, uid).unwrap().ceilings.memory.is_some());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        assert!(one(&path, uid).unwrap_err()[0].found.contains("written by others"));
    }
}
