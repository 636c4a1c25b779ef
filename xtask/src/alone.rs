//! Programs of ours that are linked statically, because they begin where there is nothing else: the agent in a guest, and the
//! worker for WebAssembly. Built beside everything else, so that flags for them alone do not have all else built anew.

use crate::{Outcome, needs, tree};
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(Clone, Copy)]
pub struct Alone {
    package: &'static str,
    program: &'static str,
    /// The profile, and the folder of its own below `target/`.
    profile: &'static str,
}

pub const GUEST: Alone = Alone {
    package: "sr-guest",
    program: "sr-guest",
    profile: "guest",
};
pub const WASM: Alone = Alone {
    package: "sr-wasm",
    program: "safe-run-wasm",
    profile: "wasm",
};

impl Alone {
    pub fn build(self) -> Outcome<PathBuf> {
        needs::run(self.cargo("build").args(["--quiet", "--bin", self.program]))?;
        Ok(tree::target()
            .join(self.profile)
            .join(TARGET)
            .join(self.profile)
            .join(self.program))
    }

    /// `cargo COMMAND` for its package, as it is built.
    pub fn cargo(self, command: &str) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .arg(command)
            .args([
                "--package",
                self.package,
                "--profile",
                self.profile,
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(tree::target().join(self.profile))
            .current_dir(tree::root())
            // With a target that is named, what runs while it is built is not built like this.
            // The random bytes of a static program: else it looks for a function by its name, finds none, and opens a device.
            .env(
                "RUSTFLAGS",
                "-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\"",
            )
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo
    }

    /// `cargo xtask guest`, `cargo xtask wasm`: builds it, puts it beside each `safe-run` that was built here, and says where
    /// it is and how large.
    pub fn install(self) -> Outcome {
        let built = self.build()?;
        for profile in ["debug", "release"] {
            let beside = tree::target().join(profile);
            if beside.join("safe-run").exists() {
                let to = beside.join(self.program);
                std::fs::copy(&built, &to).map_err(|e| format!("   {}: {e}", to.display()))?;
            }
        }
        let size = std::fs::metadata(&built)
            .map_err(|e| format!("   {}: {e}", built.display()))?
            .len();
        println!("{} ({} KiB)", built.display(), size.div_ceil(1024));
        Ok(())
    }
}
