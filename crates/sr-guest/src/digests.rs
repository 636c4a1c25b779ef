//! What is executed: where it may be on a disk, and its digest, made where it is. Of what is shared the host has digests too,
//! of what its view had under the same names before; the two are compared there. For what a disk has, the digest of the disk
//! stands, which the host has compared.

use crate::failure::{Failure, failure};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use sr_common::guest::{GuestPlan, GuestRoot};
use sr_common::{Control, Digest, Observed};
use std::fs::File;
use std::io::{self, Seek};

/// A line for the file that is executed, which is hashed on the descriptor that was, and one for its script, by its name.
pub fn observe(plan: &GuestPlan, pid: i32, executable: &File) -> Result<Vec<Observed>, Failure> {
    let disk = match plan.root {
        GuestRoot::Disk { .. } => File::open(format!("/proc/{pid}/root")).ok().as_ref().and_then(mount),
        GuestRoot::Shared | GuestRoot::Own => None,
    };
    let hashed = |path: &str, file: io::Result<File>, mechanism: &str| {
        let seen = file.and_then(|mut file| {
            // Of what is shared the file system tells its kind as the host's, which may be the same.
            if disk.is_some() && mount(&file) == disk {
                return Ok(("executed".to_owned(), "a file of the root's disk".to_owned()));
            }
            file.rewind()?;
            Ok((mechanism.to_owned(), Digest::of_reader(file)?.0.to_string()))
        });
        let (mechanism, observed) = seen.map_err(|e| failure(format!("hash {path}"), e.to_string()))?;
        Ok(Observed {
            control: Control::ExecutableDigest,
            requested: path.to_owned(),
            mechanism: format!("{mechanism}, in the guest"),
            observed,
            holds: true,
        })
    };
    let (path, script) = match plan.root {
        GuestRoot::Shared | GuestRoot::Own => (plan.executable.clone(), plan.script.clone()),
        GuestRoot::Disk { .. } => found(plan, pid)?,
    };
    let mut seen = vec![hashed(
        &path,
        executable.try_clone(),
        "hashed on the descriptor that is executed",
    )?];
    if let Some(script) = script {
        seen.push(hashed(&script, open(plan, pid, &script), "hashed by its name")?);
    }
    Ok(seen)
}

/// The mount that a file is on; `None`: its kernel does not tell.
fn mount(file: &File) -> Option<u64> {
    let seen = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    StatxFlags::from_bits_retain(seen.stx_mask)
        .contains(StatxFlags::MNT_ID)
        .then_some(seen.stx_mnt_id)
}

/// Where the program of a plan may be.
pub fn candidates(plan: &GuestPlan) -> Vec<String> {
    if plan.executable.contains('/') {
        return vec![plan.executable.clone()];
    }
    let dirs = plan.env.get("PATH").map(String::as_str).unwrap_or_default();
    dirs.split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| format!("{}/{}", dir.trim_end_matches('/'), plan.executable))
        .collect()
}

/// What a process that has just been executed is.
pub fn executed(pid: i32) -> Result<File, Failure> {
    let path = format!("/proc/{pid}/exe");
    File::open(&path).map_err(|e| failure(format!("open {path}"), e.to_string()))
}

/// The path of what was executed, by its kernel's account, and of the script that it was told to interpret, which is in its
/// arguments as it was found.
fn found(plan: &GuestPlan, pid: i32) -> Result<(String, Option<String>), Failure> {
    let read = |e: io::Error| failure(format!("read /proc/{pid}"), e.to_string());
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).map_err(read)?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).map_err(read)?;
    let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let written = plan.argv.first().map(String::as_str).unwrap_or_default();
    // The kernel puts the interpreter, and a word that its line may have for it, before the script.
    let script = match words.next() {
        Some(first) if first == written => None,
        _ => words.find(|word| candidates(plan).iter().any(|path| path == word)),
    };
    Ok((
        path.to_string_lossy().into_owned(),
        script.map(|word| word.into_owned()),
    ))
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
