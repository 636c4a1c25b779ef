//! The agent in a guest: the one program of ours that is linked statically, because a guest begins with nothing else. Built
//! beside everything else, so that flags for it alone do not have all else built anew.

use crate::{Outcome, needs, tree};
use sr_artifact::{Artifacts, Kind, Wanted};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// `cargo xtask guest`: builds it, puts it beside each `safe-run` that was built here, and says where it is and how large.
pub fn guest() -> Outcome {
    let agent = build()?;
    for profile in ["debug", "release"] {
        let beside = tree::target().join(profile);
        if beside.join("safe-run").exists() {
            let to = beside.join("sr-guest");
            std::fs::copy(&agent, &to).map_err(|e| format!("   {}: {e}", to.display()))?;
        }
    }
    let size = std::fs::metadata(&agent)
        .map_err(|e| format!("   {}: {e}", agent.display()))?
        .len();
    println!("{} ({} KiB)", agent.display(), size.div_ceil(1024));
    Ok(())
}

/// A run store with a kernel among its artifacts: made of Debian's once, and linked into the one at `store`, or copied.
pub fn kernel(store: &Path) -> Outcome<Artifacts> {
    let plain = |fault: sr_common::Fault| format!("   {}: {}", fault.path, fault.found);
    let kept = tree::tools().join("kernel-4");
    let all = Artifacts::open(&kept).map_err(plain)?;
    let wanted = Wanted::named(Kind::Kernel, "default").map_err(plain)?;
    if all.resolve(&wanted, Some(Kind::Kernel)).is_err() {
        sr_artifact::kernel::build(&all, None, "default").map_err(plain)?;
    }
    let artifacts = Artifacts::open(store).map_err(plain)?;
    for kind in ["sha256", "names/kernel", "names/modules"] {
        let (from, to) = (kept.join("artifacts").join(kind), store.join("artifacts").join(kind));
        let failed = |e: std::io::Error| format!("   {}: {e}", from.display());
        for entry in std::fs::read_dir(&from).map_err(failed)?.flatten() {
            match std::fs::hard_link(entry.path(), to.join(entry.file_name())) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                // As in the rig.
                Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
                    std::fs::copy(entry.path(), to.join(entry.file_name())).map_err(failed)?;
                }
                Err(e) => return Err(failed(e)),
            }
        }
    }
    Ok(artifacts)
}

pub fn build() -> Outcome<PathBuf> {
    let dir = tree::target().join("guest");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--quiet",
            "--package",
            "sr-guest",
            "--profile",
            "guest",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&dir)
        .current_dir(tree::root())
        // With a target that is named, what runs while it is built is not built like this.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    needs::run(&mut cargo)?;
    Ok(dir.join(TARGET).join("guest").join("sr-guest"))
}
