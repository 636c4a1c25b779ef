//! What is executed, hashed where it is: the host's digests are of what its view had under the same names before, and the two
//! are compared there.

use crate::failure::{Failure, failure};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sr_common::guest::{GuestPlan, GuestRoot};
use sr_common::{Control, Digest, Observed};
use std::fs::File;
use std::io::{self, Seek};

/// A line for the file that is executed, which is hashed on the descriptor that was, and one for its script, by its name.
pub fn observe(plan: &GuestPlan, pid: i32, executable: &File) -> Result<Vec<Observed>, Failure> {
    let hashed = |path: &str, file: io::Result<File>, mechanism: &str| {
        let digest = file.and_then(|mut file| {
            file.rewind()?;
            Ok(Digest::of_reader(file)?.0)
        });
        let digest = digest.map_err(|e| failure(format!("hash {path}"), e.to_string()))?;
        Ok(Observed {
            control: Control::ExecutableDigest,
            requested: path.to_owned(),
            mechanism: format!("{mechanism}, in the guest"),
            observed: digest.to_string(),
            holds: true,
        })
    };
    let mut seen = vec![hashed(
        &plan.executable,
        executable.try_clone(),
        "hashed on the descriptor that is executed",
    )?];
    if let Some(script) = &plan.script {
        seen.push(hashed(script, open(plan, pid, script), "hashed by its name")?);
    }
    Ok(seen)
}

/// As the program finds it.
fn open(plan: &GuestPlan, pid: i32, path: &str) -> io::Result<File> {
    if plan.root == GuestRoot::Own {
        return File::open(path);
    }
    let root = File::open(format!("/proc/{pid}/root"))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat2(&root, path, flags, Mode::empty(), resolve)?.into())
}
