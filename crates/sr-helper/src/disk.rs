//! The project quota of one run: a directory of the caller's, given as a descriptor, and what is made in it are limited by the
//! kernel. A project is a number of the operator's range that nothing is charged to and that has no limits.

use crate::config::Disk;
use crate::slot::{Made, Slot};
use crate::trusted;
use rustix::fs::{FileType, OFlags, SeekFrom, fstat};
use sr_common::ByteSize;
use sr_kernel::peer::Peer;
use sr_kernel::process::with_file_system_uid;
use sr_kernel::quota;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

const OTHERS_WRITE: u32 = 0o022;

/// A project that has limits. The file system is named by the descriptor that came.
#[derive(Debug)]
pub struct Limited {
    dir: OwnedFd,
    id: u32,
}

/// Refuses what is more than the operator allows.
pub fn within(bytes: u64, inodes: u64, most: &Disk) -> Result<(), String> {
    if bytes > most.bytes {
        let (asked, most) = (ByteSize(bytes), ByteSize(most.bytes));
        return Err(format!(
            "disk: {asked} is more than {most}, the most that helper.toml allows a run"
        ));
    }
    if inodes > most.inodes {
        return Err(format!(
            "disk: {inodes} files are more than {}, the most that helper.toml allows a run",
            most.inodes
        ));
    }
    match bytes < quota::BLOCK || inodes == 0 {
        // For the kernel it would be no limit.
        true => Err("a limit on disk is 1 KiB and one file at least".into()),
        false => Ok(()),
    }
}

impl Limited {
    pub fn make(
        config: &Disk,
        dir: OwnedFd,
        (bytes, inodes): (u64, u64),
        caller: &Peer,
        slot: &mut Slot,
    ) -> Result<Limited, String> {
        let device = judge(config, &dir, caller)?;
        let shown = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
        let chosen = slot.alone_with_projects(|slot| {
            let id = free(config, &dir)?;
            slot.will_make(&[Made::Project { device, id }])?;
            match quota::limit(dir.as_fd(), id, bytes, inodes) {
                Ok(()) => Ok(id),
                Err(e) => {
                    let _ = quota::limit(dir.as_fd(), id, 0, 0);
                    slot.removed();
                    Err(format!("the limits of project {id}: {e}"))
                }
            }
        })?;
        let limited = Limited { dir, id: chosen? };
        // As the caller: the kernel lets nobody but its owner do this.
        let assigned = with_file_system_uid(caller.uid, || quota::assign(limited.dir.as_fd(), limited.id))
            .and_then(|done| done)
            .and_then(|()| quota::project(limited.dir.as_fd()))
            .map_err(shown("the directory's project"));
        match assigned {
            Ok((id, true)) if id == limited.id => Ok(limited),
            other => {
                limited.remove(slot)?;
                Err(match other {
                    Err(why) => why,
                    Ok(found) => format!("the directory has another project than it was given: {found:?}"),
                })
            }
        }
    }

    /// Takes the limits away. What the directory holds stays charged to the project, which nobody gets before it is gone.
    pub fn remove(self, slot: &mut Slot) -> Result<(), String> {
        quota::limit(self.dir.as_fd(), self.id, 0, 0).map_err(|e| format!("the limits of project {}: {e}", self.id))?;
        slot.removed();
        Ok(())
    }
}

/// The device of the file system, if the directory is one that may be limited.
fn judge(config: &Disk, dir: &OwnedFd, caller: &Peer) -> Result<u64, String> {
    let stat = fstat(dir).map_err(|e| e.to_string())?;
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err("the descriptor is no directory".into());
    }
    if stat.st_uid != caller.uid {
        return Err(format!(
            "the directory belongs to uid {}, not to {}",
            stat.st_uid, caller.uid
        ));
    }
    if stat.st_mode & OTHERS_WRITE != 0 {
        return Err("others may write to the directory".into());
    }
    if !config.mounts.iter().any(|(_, device)| *device == stat.st_dev) {
        return Err("the directory is on none of the file systems of helper.toml".into());
    }
    if !quota::has_projects(dir.as_fd()) {
        return Err("the file system has no project quotas: it is to be mounted with prjquota".into());
    }
    match quota::project(dir.as_fd()) {
        Ok((0, false)) => {}
        Ok((id, _)) => return Err(format!("the directory is of project {id} already")),
        Err(e) => return Err(format!("the directory's project: {e}")),
    }
    match is_empty(dir) {
        Ok(true) => Ok(stat.st_dev),
        // What is there already would not count.
        Ok(false) => Err("the directory is not empty".into()),
        Err(e) => Err(format!("the directory cannot be read: {e}")),
    }
}

fn is_empty(dir: &OwnedFd) -> rustix::io::Result<bool> {
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut entries = rustix::fs::RawDir::new(dir, &mut space);
    while let Some(entry) = entries.next() {
        if ![c".", c".."].contains(&entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A project that nobody has.
fn free(config: &Disk, dir: &OwnedFd) -> Result<u32, String> {
    for id in config.first..=config.last {
        let held = quota::read(dir.as_fd(), id).map_err(|e| format!("project {id}: {e}"))?;
        if held == quota::Held::default() {
            return Ok(id);
        }
    }
    Err(format!(
        "every project from {} to {} has limits, or files charged to it",
        config.first, config.last
    ))
}

/// Takes away the limits that a killed helper left.
pub fn clear(config: Option<&Disk>, device: u64, id: u32) -> Result<(), String> {
    let named = config.filter(|disk| (disk.first..=disk.last).contains(&id));
    let mount = named.and_then(|disk| disk.mounts.iter().find(|(_, is)| *is == device));
    let Some((path, _)) = mount else {
        return Err(format!("helper.toml has no project {id} on device {device} any more"));
    };
    let at = trusted::open(path, OFlags::PATH | OFlags::DIRECTORY)?;
    match fstat(&at) {
        Ok(stat) if stat.st_dev == device => {}
        _ => return Err(format!("{} is another file system now", path.display())),
    }
    quota::limit(at.as_fd(), id, 0, 0).map_err(|e| format!("the limits of project {id}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        Disk {
            mounts: vec![("/x".into(), 7)],
            first: 100,
            last: 200,
            bytes: 1 << 20,
            inodes: 50,
        }
    }

    #[test]
    fn nothing_is_above_a_ceiling_or_no_limit() {
        within(1 << 20, 50, &disk()).unwrap();
        for (bytes, inodes) in [
            ((1 << 20) + 1, 50),
            (1 << 20, 51),
            (0, 50),
            (1023, 50),
            (1 << 20, 0),
            (u64::MAX, 1),
        ] {
            within(bytes, inodes, &disk()).unwrap_err();
        }
    }

    #[test]
    fn only_projects_of_the_operators_are_cleared() {
        for (config, device, id) in [
            (None, 7, 100),
            (Some(disk()), 8, 100),
            (Some(disk()), 7, 99),
            (Some(disk()), 7, 201),
        ] {
            assert!(clear(config.as_ref(), device, id).unwrap_err().contains("any more"));
        }
    }
}
