//! Programs that only stand for others: pyenv's shims and rustup's proxies. The program that would be run in the end
//! is looked up here, so that the sandbox needs neither tool nor its settings.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a shim leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shim {
    To(PathBuf),
    /// "system": the rest of PATH decides, without shims.
    Pass,
}

/// For a `PATH` entry that is a pyenv shim directory: what `name` means there. `None`: not a shim directory.
pub(super) fn pyenv(entry: &Path, name: &OsStr, cwd: &Path, version: Option<&OsStr>) -> Option<Shim> {
    let root = entry
        .parent()
        .filter(|_| entry.file_name() == Some(OsStr::new("shims")))?;
    let versions = root.join("versions");
    if !versions.is_dir() || !entry.join(name).is_file() {
        return None;
    }
    let asked = match version.filter(|v| !v.is_empty()) {
        Some(list) => list.to_string_lossy().replace(':', " "),
        None => cwd
            .ancestors()
            .map(|dir| dir.join(".python-version"))
            .chain(std::iter::once(root.join("version")))
            .find_map(|file| std::fs::read_to_string(file).ok())
            .unwrap_or_else(|| "system".to_owned()),
    };
    let wanted = asked
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .flat_map(str::split_whitespace);
    for version in wanted {
        if version == "system" {
            return Some(Shim::Pass);
        }
        // One plain name: the file is the project's, and must not lead out of the versions.
        if version.contains('/') || version.starts_with('.') {
            continue;
        }
        let Some(dir) = installed(&versions, version) else {
            continue;
        };
        let program = dir.join("bin").join(name);
        if program.is_file() {
            return Some(Shim::To(program));
        }
    }
    Some(Shim::Pass)
}

/// The version's directory; `3.11` stands for the latest `3.11.x`.
fn installed(versions: &Path, version: &str) -> Option<PathBuf> {
    let exact = versions.join(version);
    if exact.is_dir() {
        return Some(exact);
    }
    let prefix = format!("{version}.");
    std::fs::read_dir(versions)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let numbers: Option<Vec<u32>> = name.strip_prefix(&prefix)?.split('.').map(|n| n.parse().ok()).collect();
            Some((numbers?, entry.path()))
        })
        .max()
        .map(|(_, path)| path)
}

/// For a rustup proxy: the program of the toolchain that is in force in `cwd`. `None`: not a proxy, or not known.
pub(super) fn rustup(program: &Path, cwd: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let name = program.file_name()?;
    let proxy = program.metadata().ok()?;
    let rustup = program.parent()?.join("rustup").metadata().ok()?;
    if name == "rustup" || (proxy.dev(), proxy.ino()) != (rustup.dev(), rustup.ino()) {
        return None;
    }
    let root = rustup_root(program, home)?;
    let settings = std::fs::read_to_string(root.join("settings.toml")).ok()?;
    let toolchains = root.join("toolchains");
    let wanted = overridden(&settings, cwd)
        .or_else(|| cwd.ancestors().find_map(toolchain_file))
        .or_else(|| value(&settings, "default_toolchain"))?;
    if wanted.contains('/') || wanted.starts_with('.') {
        return None;
    }
    let dir = if toolchains.join(&wanted).is_dir() {
        toolchains.join(&wanted)
    } else {
        let prefix = format!("{wanted}-{}-", std::env::consts::ARCH);
        let entries = std::fs::read_dir(&toolchains).ok()?.flatten();
        entries.map(|e| e.path()).find(|p| {
            p.file_name()
                .is_some_and(|n| n.as_bytes().starts_with(prefix.as_bytes()))
        })?
    };
    Some(dir.join("bin").join(name)).filter(|p| p.is_file())
}

/// `.rustup` beside the `.cargo` that holds the proxy, else in the home directory.
pub(super) fn rustup_root(program: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let beside = program.ancestors().nth(3);
    [beside, home]
        .into_iter()
        .flatten()
        .map(|dir| dir.join(".rustup"))
        .find(|dir| dir.join("toolchains").is_dir())
}

/// What a proxy needs if its toolchain is not known.
pub(super) fn rustup_needs(program: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let root = program
        .parent()
        .filter(|dir| dir.join("rustup").exists())
        .and_then(|_| rustup_root(program, home));
    root.map(|root| {
        ["toolchains", "settings.toml"]
            .map(|p| root.join(p))
            .into_iter()
            .filter(|p| p.exists())
            .collect()
    })
    .unwrap_or_default()
}

fn toolchain_file(dir: &Path) -> Option<String> {
    for name in ["rust-toolchain", "rust-toolchain.toml"] {
        let Ok(text) = std::fs::read_to_string(dir.join(name)) else {
            continue;
        };
        if let Some(channel) = value(&text, "channel") {
            return Some(channel);
        }
        let first = text.lines().next().unwrap_or_default().trim();
        if name == "rust-toolchain" && !first.is_empty() && !first.starts_with('[') {
            return Some(first.to_owned());
        }
    }
    None
}

/// The `key = "value"` of a small TOML file.
fn value(toml: &str, key: &str) -> Option<String> {
    toml.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// `[overrides]` of rustup's settings: the nearest directory above `cwd`.
fn overridden(settings: &str, cwd: &Path) -> Option<String> {
    let mut lines = settings.lines().skip_while(|line| line.trim() != "[overrides]").skip(1);
    let mut found: Vec<(Reverse<usize>, String)> = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.trim_start().starts_with('[')) {
        let Some((dir, toolchain)) = line.split_once('=') else {
            continue;
        };
        let dir = dir.trim().trim_matches('"');
        if cwd.starts_with(dir) {
            found.push((Reverse(dir.len()), toolchain.trim().trim_matches('"').to_owned()));
        }
    }
    found.into_iter().min().map(|(_, toolchain)| toolchain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn pyenv_takes_the_version_that_pyenv_would() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(".pyenv");
        for version in ["3.9.2", "3.11.9", "3.11.10"] {
            fs::create_dir_all(root.join("versions").join(version).join("bin")).unwrap();
            fs::write(root.join("versions").join(version).join("bin/python3"), "").unwrap();
        }
        fs::write(root.join("versions/3.9.2/bin/only39"), "").unwrap();
        fs::create_dir_all(root.join("shims")).unwrap();
        for shim in ["python3", "only39"] {
            fs::write(root.join("shims").join(shim), "").unwrap();
        }
        let project = dir.path().join("a/b");
        fs::create_dir_all(&project).unwrap();
        let shims = root.join("shims");
        let ask = |name: &str, env: Option<&str>| pyenv(&shims, OsStr::new(name), &project, env.map(OsStr::new));
        let to = |version: &str, name: &str| Some(Shim::To(root.join("versions").join(version).join("bin").join(name)));

        assert_eq!(
            ask("python3", None),
            Some(Shim::Pass),
            "no version anywhere is the system's"
        );
        fs::write(root.join("version"), "3.9.2\n").unwrap();
        assert_eq!(ask("python3", None), to("3.9.2", "python3"));
        fs::write(dir.path().join("a/.python-version"), "# mine\n3.11\n3.9.2\n").unwrap();
        assert_eq!(ask("python3", None), to("3.11.10", "python3"));
        assert_eq!(ask("only39", None), to("3.9.2", "only39"));
        assert_eq!(ask("python3", Some("system:3.9.2")), Some(Shim::Pass));
        assert_eq!(ask("python3", Some("3.9.2")), to("3.9.2", "python3"));
        assert_eq!(ask("python3", Some("../../..")), Some(Shim::Pass));
        assert_eq!(ask("other", None), None);
        assert_eq!(pyenv(&project, OsStr::new("python3"), &project, None), None);
    }

    #[test]
    fn rustup_takes_the_toolchain_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let (bin, root) = (dir.path().join(".cargo/bin"), dir.path().join(".rustup"));
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join("rustup"), "").unwrap();
        fs::write(bin.join("other"), "").unwrap();
        std::os::unix::fs::symlink("rustup", bin.join("cargo")).unwrap();
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        for name in ["stable", "nightly", "1.70.0"] {
            let at = root.join("toolchains").join(format!("{name}-{host}")).join("bin");
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("cargo"), "").unwrap();
        }
        let project = dir.path().join("p");
        fs::create_dir_all(&project).unwrap();
        let settings = format!("version = \"12\"\ndefault_toolchain = \"stable-{host}\"\n\n[overrides]\n");
        fs::write(root.join("settings.toml"), &settings).unwrap();
        let got = |name: &str| {
            let found = rustup(&bin.join(name), &project, None)?;
            Some(
                found
                    .strip_prefix(root.join("toolchains"))
                    .unwrap()
                    .iter()
                    .next()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned(),
            )
        };
        assert_eq!(got("cargo"), Some(format!("stable-{host}")));
        assert_eq!(got("other"), None);
        assert_eq!(got("rustup"), None);
        fs::write(
            project.join("rust-toolchain.toml"),
            "[toolchain]\nchannel = \"nightly\"\n",
        )
        .unwrap();
        assert_eq!(got("cargo"), Some(format!("nightly-{host}")));
        fs::write(project.join("rust-toolchain"), "1.70.0\n").unwrap();
        assert_eq!(got("cargo"), Some(format!("1.70.0-{host}")));
        fs::write(
            root.join("settings.toml"),
            format!("{settings}\"{}\" = \"stable\"\n", project.display()),
        )
        .unwrap();
        assert_eq!(got("cargo"), Some(format!("stable-{host}")));
    }
}
