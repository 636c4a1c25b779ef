//! Where things are: the workspace, its target directory, the programs that were built.

use crate::Outcome;
use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The escape corpus.
pub fn corpus() -> PathBuf {
    root().join("tests/escape")
}

pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Programs that the checks need and that are built or fetched once.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// The words for cargo that name the programs of a release.
pub const RELEASE: &[&str] = &["--release", "--package", "sr-cli", "--package", "sr-helper"];

/// The release build of `safe-run`, and of its helper beside it, built if they are not there or not fresh.
pub fn safe_run() -> Outcome<PathBuf> {
    let built = std::process::Command::new("cargo")
        .args([&["build", "--quiet"][..], RELEASE].concat())
        .current_dir(root())
        .status()
        .map_err(|e| format!("cargo: {e}"))?;
    if !built.success() {
        return Err("safe-run and safe-run-helper cannot be built".into());
    }
    Ok(target().join("release/safe-run"))
}

/// The first `name` on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian keeps programs for administrators where an ordinary user's PATH does not look.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Whether root started this.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
