//! What walls with a kernel of their own need of the tests' machine: the agent, and a kernel in a run store.

use super::{End, Ran, Test, skip};
use sr_artifact::modules::{self, Modules};
use sr_artifact::{Artifacts, Kind, Provenance};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// `target`, in which `debug/deps` has this very program.
pub fn target() -> PathBuf {
    let own = std::env::current_exe().expect("the own program");
    own.ancestors().nth(3).expect("target").to_owned()
}

/// The agent, built if this can build it.
pub fn agent() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        if let Some(given) = std::env::var_os("SAFE_RUN_GUEST") {
            return given.into();
        }
        if let Some(cargo) = std::env::var_os("CARGO") {
            let built = Command::new(cargo)
                .args(["xtask", "guest"])
                .stdout(Stdio::null())
                .status();
            assert!(built.is_ok_and(|status| status.success()), "the agent does not build");
        }
        let built = target().join("guest/x86_64-unknown-linux-gnu/guest/sr-guest");
        assert!(built.is_file(), "{} is not there: cargo xtask guest", built.display());
        built
    })
}

/// Puts the rig's kernel and modules among the artifacts of the run store at `store`.
pub fn kernel(store: &Path) -> Result<Artifacts, End> {
    let rig = target().join("tools/rig-6.1");
    let Ok(release) = fs::read_to_string(rig.join("release")) else {
        return skip(format!("no kernel in {}: `cargo xtask rig` fetches it", rig.display()));
    };
    let release = release.trim();
    let plain = |fault: sr_common::Fault| End::from(fault.to_string());
    let artifacts = Artifacts::open(store).map_err(plain)?;
    let all = Modules::read(&rig.join("lib/modules").join(release)).map_err(plain)?;
    let modules = modules::archive(release, &all.closure(&modules::GUEST).map_err(plain)?);
    let how = || Provenance {
        how: "test".into(),
        release: Some(release.to_owned()),
        ..Provenance::default()
    };
    let modules = artifacts
        .add(modules.as_slice(), Kind::Modules, "default", how())
        .map_err(plain)?;
    let with = [(Kind::Modules.as_str().to_owned(), modules.digest)].into();
    let image = fs::File::open(rig.join("vmlinux"))?;
    artifacts
        .add(image, Kind::Kernel, "default", Provenance { with, ..how() })
        .map_err(plain)?;
    Ok(artifacts)
}

/// The launch failed there, for that, and what to do is said.
pub fn failed(ran: &Ran, path: &str, what: &str) -> Test {
    ran.ended(125)?;
    let said = [path, what, "SR-RUN-002", "fix:"]
        .iter()
        .all(|word| ran.err.contains(word));
    crate::ensure!(said, "wanted {path}: {what}; {ran}");
    Ok(())
}
