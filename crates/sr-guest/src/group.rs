//! The control group of the program (version 2) with the plan's limits: made, read back, looked at, ended.

use crate::failure::{Failure, failure};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};
use sr_common::guest::GuestLimits;
use sr_common::{Control, Observed, Usage};
use sr_kernel::cgroup::quota_and_period;
use std::os::fd::OwnedFd;

const ROOT: &str = "/cgroup";
const DIR: &str = "/cgroup/program";

/// What holds the limits of a plan.
pub trait Limits {
    /// The limits as they were read back.
    fn held(&self) -> &[Observed];
    /// What a process joins it by, where there is something to join.
    fn door(&self) -> Result<Option<OwnedFd>, Failure>;
    /// What is in use now.
    fn usage(&mut self) -> Usage;
    /// The most that was used at once.
    fn peaks(&mut self) -> Usage;
    /// How often its limit of memory could not be kept without ending processes.
    fn limit_of_memory(&self) -> u64;
    /// How often a process could not be made.
    fn limit_of_processes(&self) -> u64;
    /// How many of its processes were ended because all memory was used up, and not its limit.
    fn out_of_memory(&self) -> u64;
    /// Ends all that is in it.
    fn kill(&self) -> Result<(), Failure>;
}

pub struct Group {
    held: Vec<Observed>,
    peaks: Usage,
}

impl Group {
    pub fn make(limits: &GuestLimits) -> Result<Group, Failure> {
        let mut group = Group {
            held: Vec::new(),
            peaks: Usage::default(),
        };
        let failed = |e: String| failure("mount the control groups", e);
        std::fs::create_dir_all(ROOT).map_err(|e| failed(e.to_string()))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("cgroup2", ROOT, "cgroup2", flags, None).map_err(|e| failed(e.to_string()))?;
        write(&format!("{ROOT}/cgroup.subtree_control"), "+memory +pids +cpu")?;
        match std::fs::create_dir(DIR) {
            Ok(()) => {}
            Err(e) => return Err(failure(format!("make {DIR}"), e.to_string())),
        }
        if let Some(bytes) = limits.memory {
            let page = rustix::param::page_size() as u64;
            group.limit(
                Control::Memory,
                "memory.max",
                &bytes.to_string(),
                &(bytes - bytes % page).to_string(),
            )?;
            if std::fs::exists(format!("{DIR}/memory.swap.max")).unwrap_or(false) {
                group.limit(Control::Memory, "memory.swap.max", "0", "0")?;
            }
            // The program ends whole when it is out of memory, not a process of the kernel's choice.
            group.limit(Control::Memory, "memory.oom.group", "1", "1")?;
        }
        if let Some(pids) = limits.pids {
            group.limit(Control::Pids, "pids.max", &pids.to_string(), &pids.to_string())?;
        }
        if let Some(cpu) = limits.cpu {
            let (quota, period) = quota_and_period(cpu);
            let text = format!("{quota} {period}");
            group.limit(Control::Cpu, "cpu.max", &text, &text)?;
        }
        Ok(group)
    }

    fn limit(&mut self, control: Control, file: &str, value: &str, expected: &str) -> Result<(), Failure> {
        write(&format!("{DIR}/{file}"), value)?;
        let found = text(file).unwrap_or_default();
        self.held.push(Observed {
            control,
            requested: format!("{file} {value}"),
            mechanism: "control group of version 2 in the guest".into(),
            holds: found == expected,
            observed: format!("{file}: {found}"),
        });
        Ok(())
    }
}

impl Limits for Group {
    fn held(&self) -> &[Observed] {
        &self.held
    }

    fn door(&self) -> Result<Option<OwnedFd>, Failure> {
        let path = format!("{DIR}/cgroup.procs");
        let opened = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        opened
            .map(Some)
            .map_err(|e| failure(format!("open {path}"), e.to_string()))
    }

    fn usage(&mut self) -> Usage {
        let now = Usage {
            cpu_micros: keyed("cpu.stat", "usage_usec"),
            memory_bytes: number("memory.current"),
            pids: number("pids.current"),
            disk_bytes: None,
            waited: None,
        };
        self.peaks = self.peaks.max(now);
        now
    }

    fn peaks(&mut self) -> Usage {
        self.usage();
        self.peaks.max(Usage {
            memory_bytes: number("memory.peak"),
            pids: number("pids.peak"),
            ..Usage::default()
        })
    }

    fn limit_of_memory(&self) -> u64 {
        keyed("memory.events", "oom").unwrap_or(0)
    }

    fn limit_of_processes(&self) -> u64 {
        keyed("pids.events", "max").unwrap_or(0)
    }

    fn out_of_memory(&self) -> u64 {
        match self.limit_of_memory() {
            0 => keyed("memory.events", "oom_kill").unwrap_or(0),
            _ => 0,
        }
    }

    fn kill(&self) -> Result<(), Failure> {
        write(&format!("{DIR}/cgroup.kill"), "1")
    }
}

fn write(path: &str, value: &str) -> Result<(), Failure> {
    std::fs::write(path, value).map_err(|e| failure(format!("write {value:?} to {path}"), e.to_string()))
}

fn text(file: &str) -> Option<String> {
    let text = sr_kernel::pseudo::text(format!("{DIR}/{file}")).ok()?;
    Some(text.trim().to_owned())
}

fn number(file: &str) -> Option<u64> {
    text(file)?.parse().ok()
}

fn keyed(file: &str, key: &str) -> Option<u64> {
    let text = text(file)?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}
