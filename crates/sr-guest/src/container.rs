//! The agent as the first process of a gVisor container: the root and the mounts are there already, and that kernel lacks much
//! of what a virtual machine's has. The program is in a user namespace of its own, in which it is the plan's user: all that
//! the container's view has of the caller's belongs to the container's root, which is the agent.

use crate::failure::{Failure, at, failure};
use crate::group::Limits;
use crate::port::Port;
use crate::streams::{self, Streams};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use rustix::process::{Pid, Signal, kill_process_group};
use sr_common::guest::{GuestLimits, GuestMount, GuestMountKind, GuestPlan};
use sr_common::{Observed, Usage};
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The descriptor that leads to the host.
const PORT: i32 = 3;

/// The port, and nothing of the agent's left in the view.
pub fn port() -> Result<Port, Failure> {
    let step = "open the socket that leads to the host";
    let socket = sr_kernel::process::inherited(PORT).map_err(at(step))?;
    rustix::fs::fcntl_setfl(&socket, OFlags::NONBLOCK).map_err(at(step))?;
    let own = std::env::args_os().next().unwrap_or_default();
    unmount(&own, UnmountFlags::DETACH).map_err(at("unmount the agent"))?;
    std::fs::remove_dir(&own).map_err(at("remove the agent's place"))?;
    Port::new(socket)
}

/// What of the plan's mounts is to be kept from the program.
pub fn protect(mounts: &[GuestMount]) -> Result<(), Failure> {
    for GuestMount { target, what } in mounts {
        let path = Path::new(target);
        if !path.exists() {
            continue;
        }
        let covered = match what {
            GuestMountKind::ReadOnly => {
                mount_bind(path, path).and_then(|()| mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, c""))
            }
            GuestMountKind::Masked if path.is_dir() => mount("tmpfs", path, "tmpfs", MountFlags::RDONLY, None),
            GuestMountKind::Masked => mount_bind("/dev/null", path),
            _ => continue,
        };
        covered.map_err(|e| failure(format!("keep {target} from the program"), e.to_string()))?;
    }
    Ok(())
}

/// Makes `user` of a new user namespace of the container's root, which the program's files belong to.
pub fn map(pid: i32, user: u32) -> Result<(), Failure> {
    for name in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{name}");
        std::fs::write(&path, format!("{user} 0 1")).map_err(|e| failure(format!("write {path}"), e.to_string()))?;
    }
    Ok(())
}

/// A terminal of the container's, and its slave three times.
pub fn terminal() -> Result<(Streams, [OwnedFd; 3]), Failure> {
    let step = "open a terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |path: &CStr| rustix::fs::open(path, flags, Mode::empty());
    let master = open(c"/dev/pts/ptmx").map_err(at(step))?;
    rustix::pty::unlockpt(&master).map_err(at(step))?;
    let name = rustix::pty::ptsname(&master, Vec::new()).map_err(at(step))?;
    let slave = || open(&name).map_err(at(step));
    let slaves = [slave()?, slave()?, slave()?];
    Ok((streams::terminal(master)?, slaves))
}

/// The executable, by its place in the view.
pub fn executable(plan: &GuestPlan) -> Result<OwnedFd, Failure> {
    rustix::fs::open(&plan.executable, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failure(format!("open {} in the view", plan.executable), e.to_string()))
}

/// What the container runs besides this process. The control groups of that kernel do not count exactly (2024): how many
/// processes there are is held by `RLIMIT_NPROC`, which counts all of a user's, and all are one user's here. Memory is counted
/// outside.
pub struct All {
    limits: GuestLimits,
    peaks: Usage,
    full: u64,
    was_full: bool,
}

impl All {
    pub fn of(limits: &GuestLimits) -> All {
        All {
            limits: limits.clone(),
            peaks: Usage::default(),
            full: 0,
            was_full: false,
        }
    }
}

/// Threads of all processes but this one.
fn tasks() -> Option<u64> {
    let own = std::process::id().to_string();
    let mut all = 0;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| **name != own) else {
            continue;
        };
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            // One that has just ended has none.
            all += std::fs::read_dir(entry.path().join("task")).map_or(0, |tasks| tasks.count() as u64);
        }
    }
    Some(all)
}

impl Limits for All {
    /// What is read back of it is among the program's resource limits.
    fn held(&self) -> &[Observed] {
        &[]
    }

    fn door(&self) -> Result<Option<OwnedFd>, Failure> {
        Ok(None)
    }

    fn usage(&mut self) -> Usage {
        let now = Usage {
            pids: tasks(),
            ..Usage::default()
        };
        self.peaks = self.peaks.max(now);
        let full = now.pids.zip(self.limits.pids).is_some_and(|(pids, most)| pids >= most);
        self.full += u64::from(full && !self.was_full);
        self.was_full = full;
        now
    }

    fn peaks(&mut self) -> Usage {
        self.usage();
        self.peaks
    }

    /// The host counts the memory.
    fn limit_of_memory(&self) -> u64 {
        0
    }

    /// That kernel does not count what it refuses: how often there were seen to be as many as may be.
    fn limit_of_processes(&self) -> u64 {
        self.full
    }

    fn out_of_memory(&self) -> u64 {
        0
    }

    /// All but this process, which is the first.
    fn kill(&self) -> Result<(), Failure> {
        match kill_process_group(Pid::INIT, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(at("end what the program left")(e)),
        }
    }
}
