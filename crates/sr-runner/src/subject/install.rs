//! Which directory an installation outside the system directories is: what must be shown, read-only, for a program in
//! it to run. Never the root, a home directory or what holds one, nor anything with Safe-Run's own folders in it.

use super::fault::{COMMAND, run};
use sr_common::{Fault, HostFacts};
use std::path::{Path, PathBuf};

/// Directories of which only these parts are shown: they hold much else, some of it secret.
const PARTS: [(&str, &[&str]); 2] = [
    (".cargo/bin", &[".cargo/bin"]),
    (".local/bin", &[".local/bin", ".local/lib"]),
];

/// What must be shown for the file at `path` (its parent canonical) to run.
pub(super) fn prefixes(path: &Path, facts: &HostFacts) -> Result<Vec<PathBuf>, Fault> {
    let Some(dir) = path.parent() else {
        return Err(refused(path, facts));
    };
    for store in ["/nix/store", "/gnu/store"] {
        if path.starts_with(store) {
            return Ok(vec![store.into()]);
        }
    }
    for (place, parts) in PARTS {
        if dir.ends_with(place) {
            let home = dir.ancestors().nth(2).unwrap_or(dir);
            let found: Vec<_> = parts.iter().map(|p| home.join(p)).filter(|p| p.is_dir()).collect();
            return if found.iter().all(|p| acceptable(p, facts)) {
                Ok(found)
            } else {
                Err(refused(path, facts))
            };
        }
    }
    let bin = dir.file_name().is_some_and(|name| name == "bin" || name == "sbin");
    [dir.parent().filter(|_| bin), Some(dir)]
        .into_iter()
        .flatten()
        .find(|candidate| acceptable(candidate, facts))
        .map(|found| vec![found.to_owned()])
        .ok_or_else(|| refused(path, facts))
}

/// What must be shown for a directory link in the middle of a path to resolve: the directory that holds it.
pub(super) fn holder(link: &Path, facts: &HostFacts) -> Result<PathBuf, Fault> {
    link.parent()
        .filter(|dir| acceptable(dir, facts))
        .map(Path::to_owned)
        .ok_or_else(|| refused(link, facts))
}

fn acceptable(dir: &Path, facts: &HostFacts) -> bool {
    let depth = dir.components().count().saturating_sub(1);
    // `/opt`, `/tmp`, `/root`; and other people's homes.
    if depth < 2 || dir.parent() == Some(Path::new("/home")) {
        return false;
    }
    if facts.home.as_deref().is_some_and(|home| real(home).starts_with(dir)) {
        return false;
    }
    own_folder(dir, facts).is_none()
}

/// The folder of Safe-Run's own that `dir` holds or lies in.
fn own_folder<'a>(dir: &Path, facts: &'a HostFacts) -> Option<&'a str> {
    std::iter::once(&facts.store)
        .chain(&facts.private)
        .find(|own| {
            let own = real(own);
            own.starts_with(dir) || dir.starts_with(own)
        })
        .map(String::as_str)
}

fn real(path: &str) -> PathBuf {
    Path::new(path).canonicalize().unwrap_or_else(|_| path.into())
}

fn refused(path: &Path, facts: &HostFacts) -> Fault {
    let holds_home = |dir: &Path| facts.home.as_deref().is_some_and(|home| real(home).starts_with(dir));
    let why = match path
        .parent()
        .filter(|dir| !holds_home(dir))
        .and_then(|dir| own_folder(dir, facts))
    {
        Some(own) => format!("showing its directory would show {own}, a folder of Safe-Run's own"),
        None => "showing its directory would show a home directory or much of the host".to_owned(),
    };
    run(
        COMMAND,
        format!("{} is not in the sandbox, and {why}", path.display()),
        "install the program in a directory of its own, or mount what it needs with --mount",
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use sr_common::facts::{CgroupFacts, SystemDir};

    pub fn facts(home: &Path) -> HostFacts {
        let system = ["bin", "lib", "lib64", "sbin", "usr"]
            .map(|name| SystemDir {
                path: format!("/{name}"),
                link: None,
            })
            .to_vec();
        HostFacts {
            arch: "x86_64".into(),
            kernel: "6".into(),
            privileged: false,
            uid: rustix::process::geteuid().as_raw(),
            gid: 0,
            cpus: 1,
            memory_bytes: 1,
            user_namespaces_blocked: None,
            landlock_abi: 0,
            seccomp: true,
            ptrace: true,
            cgroup: CgroupFacts::default(),
            system,
            etc: vec!["/etc/alternatives".into()],
            store: home.join(".local/share/safe-run").display().to_string(),
            private: vec![home.join(".config/safe-run").display().to_string()],
            home: Some(home.display().to_string()),
            id_base: 1,
            disk: None,
            mac: None,
            walls: None,
        }
    }

    #[test]
    fn the_smallest_directory_that_works_and_is_harmless() {
        let facts = facts(Path::new("/home/u"));
        let ok = |path: &str| prefixes(Path::new(path), &facts).map(|p| p[0].display().to_string());
        for (path, expected) in [
            (
                "/home/u/.nvm/versions/node/v20/bin/node",
                "/home/u/.nvm/versions/node/v20",
            ),
            ("/home/u/miniconda3/bin/python", "/home/u/miniconda3"),
            ("/home/u/bin/tool", "/home/u/bin"),
            ("/opt/node/bin/node", "/opt/node"),
            ("/opt/bin/tool", "/opt/bin"),
            ("/opt/tool/tool", "/opt/tool"),
            ("/nix/store/abc-x/bin/x", "/nix/store"),
        ] {
            assert_eq!(ok(path).as_deref(), Ok(expected), "{path}");
        }
        for path in [
            "/home/u/tool",
            "/tmp/tool",
            "/opt/tool",
            "/home/v/tool",
            "/home/u/.config/safe-run/bin/x",
            "/home/u/.local/share/safe-run/runs/x/tool",
            "/home/u/.config/tool",
        ] {
            let fault = prefixes(Path::new(path), &facts).unwrap_err();
            assert_eq!(fault.path, "runtime.command", "{path}");
        }
    }
}
