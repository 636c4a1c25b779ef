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
use sr_common::{Control, Observed, Usage};
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The descriptor that leads to the host.
const PORT: i32 = 3;
/// Where groups are mounted for as long as it takes to make one.
const GROUPS: &str = "/dev/.groups";

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

/// The control group of the program, which counts processes alone: memory is counted outside.
pub struct Group {
    held: Vec<Observed>,
    door: OwnedFd,
    count: OwnedFd,
    limits: GuestLimits,
    peaks: Usage,
    full: u64,
    was_full: bool,
}

impl Group {
    pub fn make(limits: &GuestLimits) -> Result<Group, Failure> {
        std::fs::create_dir(GROUPS).map_err(at("make a place for control groups"))?;
        mount("cgroup", GROUPS, "cgroup", MountFlags::empty(), c"pids").map_err(at("mount the control groups"))?;
        let group = Self::made(limits);
        unmount(GROUPS, UnmountFlags::DETACH).map_err(at("unmount the control groups"))?;
        std::fs::remove_dir(GROUPS).map_err(at("remove the place of the control groups"))?;
        group
    }

    fn made(limits: &GuestLimits) -> Result<Group, Failure> {
        let dir = format!("{GROUPS}/program");
        std::fs::create_dir(&dir).map_err(at("make the control group"))?;
        let mut held = Vec::new();
        if let Some(most) = limits.pids {
            let path = format!("{dir}/pids.max");
            std::fs::write(&path, most.to_string()).map_err(at("set pids.max"))?;
            let found = std::fs::read_to_string(&path).map_err(at("read pids.max"))?;
            let found = found.trim();
            held.push(Observed {
                control: Control::Pids,
                requested: format!("pids.max {most}"),
                mechanism: "control group of gVisor's kernel".into(),
                holds: found.parse() == Ok(most),
                observed: format!("pids.max: {found}"),
            });
        }
        let open = |name: &str, flags: OFlags| {
            rustix::fs::open(format!("{dir}/{name}"), flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| failure(format!("open {name}"), e.to_string()))
        };
        Ok(Group {
            held,
            door: open("cgroup.procs", OFlags::WRONLY)?,
            count: open("pids.current", OFlags::RDONLY)?,
            limits: limits.clone(),
            peaks: Usage::default(),
            full: 0,
            was_full: false,
        })
    }

    fn count(&self) -> Option<u64> {
        let mut text = [0u8; 32];
        let read = rustix::io::pread(&self.count, &mut text, 0).ok()?;
        std::str::from_utf8(text.get(..read)?).ok()?.trim().parse().ok()
    }
}

impl Limits for Group {
    fn held(&self) -> &[Observed] {
        &self.held
    }

    fn door(&self) -> Result<OwnedFd, Failure> {
        self.door.as_fd().try_clone_to_owned().map_err(at("copy a descriptor"))
    }

    fn usage(&mut self) -> Usage {
        let now = Usage {
            pids: self.count(),
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

    fn limit_of_memory(&self) -> u64 {
        0
    }

    /// That kernel does not count what it refuses: how often the group was seen full.
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
