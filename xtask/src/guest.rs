//! The agent in a guest: the one program of ours that is linked statically, because a guest begins with nothing else. Built
//! beside everything else, so that flags for it alone do not have all else built anew.

use crate::{Outcome, needs, tree};
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// `cargo xtask guest`: builds it, and says where it is and how large.
pub fn guest() -> Outcome {
    let agent = build()?;
    let size = std::fs::metadata(&agent)
        .map_err(|e| format!("   {}: {e}", agent.display()))?
        .len();
    println!("{} ({} KiB)", agent.display(), size.div_ceil(1024));
    Ok(())
}

fn build() -> Outcome<PathBuf> {
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
