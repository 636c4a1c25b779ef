//! The kernel that tests give to guests.

use crate::{Outcome, tree};
use sr_artifact::{Artifacts, Kind, Wanted};
use std::path::Path;

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
