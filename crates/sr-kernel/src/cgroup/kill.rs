//! Killing every process of a group: `cgroup.kill` where the kernel has it, else SIGKILL by pidfd in bounded rounds.

use super::file::{CgroupError, Problem, read, write};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::{Duration, Instant};

/// Whose processes are killed: everybody's, or those that this user may kill, by the kernel's rule for signals: its real
/// or saved uid is his.
pub(super) type Whose = Option<u32>;

/// Kills everything in `dirs` and waits until they are empty, a second at most. A directory that is gone is empty.
pub(super) fn all<'a>(dirs: impl Iterator<Item = &'a Path>, whose: Whose) -> Result<(), CgroupError> {
    let dirs: Vec<&Path> = dirs.collect();
    for dir in &dirs {
        // Nothing new is born while the rest dies. Not every directory has the file, and `cgroup.kill` needs no help.
        let _ = write(&dir.join("pids.max"), "0");
        if whose.is_none() {
            let _ = write(&dir.join("cgroup.kill"), "1");
        }
    }
    let end = Instant::now() + Duration::from_secs(1);
    for dir in dirs {
        let mut pause = Duration::from_micros(200);
        loop {
            let left = kill_listed(dir, whose)?;
            if left == 0 {
                break;
            }
            if Instant::now() >= end {
                return Err(CgroupError::new("kill", dir, Problem::StillAlive(left)));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// One round; the number of processes that were listed. A pid is signalled only if it is still in the group after its
/// pidfd was opened, so that a number that was used again is never hit.
fn kill_listed(dir: &Path, whose: Whose) -> Result<usize, CgroupError> {
    let listed = members(dir)?;
    let handles: Vec<_> = listed
        .iter()
        .filter_map(|pid| pidfd_open(*pid, PidfdFlags::empty()).ok().map(|fd| (*pid, fd)))
        .collect();
    if !handles.is_empty() {
        let still = members(dir)?;
        for (pid, fd) in &handles {
            if still.contains(pid) && *pid != getpid() && whose.is_none_or(|uid| belongs(*pid, uid)) {
                // It may have died in between; whether the group is empty is what counts.
                let _ = pidfd_send_signal(fd, Signal::KILL);
            }
        }
    }
    Ok(listed.len())
}

/// Asked while a pidfd is open: what became of the number meanwhile is never signalled.
pub(super) fn belongs(pid: Pid, uid: u32) -> bool {
    let status = crate::pseudo::text(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let mut uids = uids.unwrap_or_default().split_ascii_whitespace().map(str::parse);
    // Real, effective, saved.
    uids.next() == Some(Ok(uid)) || uids.nth(1) == Some(Ok(uid))
}

pub(super) fn members(dir: &Path) -> Result<Vec<Pid>, CgroupError> {
    match read(&dir.join("cgroup.procs")) {
        // 0 stands for a process of another pid namespace, which cannot be named from here.
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
            .collect()),
        Err(CgroupError {
            problem: Problem::Errno(Errno::NOENT | Errno::NODEV),
            ..
        }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
