//! The initramfs of the rig: a static busybox, the modules that lead to the root file system, and `init.sh`.

use crate::Outcome;
use sr_artifact::cpio::Archive;
use std::fs;
use std::path::{Path, PathBuf};

const INIT: &str = include_str!("init.sh");

/// The archive: `busybox`, and `modules` in the order in which they are loaded.
pub fn build(busybox: &Path, modules: &[PathBuf]) -> Outcome<Vec<u8>> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("   {}: {e}", path.display()));
    let mut archive = Archive::default();
    for name in ["bin", "dev", "modules", "proc", "root", "lower", "upper"] {
        archive.directory(name);
    }
    // The kernel opens it for the first process, before anything is mounted.
    archive.device("dev/console", 0o600, (5, 1));
    archive.file("bin/busybox", 0o755, &read(busybox)?);
    archive.file("init", 0o755, INIT.as_bytes());
    for (n, module) in modules.iter().enumerate() {
        archive.file(&format!("modules/{n:02}.ko"), 0o644, &read(module)?);
    }
    Ok(archive.end())
}
