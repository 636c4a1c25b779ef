//! The control group of one run: made within the ceilings, entered by the caller's own processes, killed, removed. Nothing
//! is done to a process that the caller could not do to it as well.

use crate::config::Config;
use crate::slot::{Made, Slot};
use crate::wire::{Amounts, Wanted};
use rustix::event::{PollFd, PollFlags, Timespec};
use sr_common::facts::CgroupController;
use sr_common::{ByteSize, RunId};
use sr_kernel::cgroup::{self, CgroupError, Clause, Limits, PREFIX, RunGroup};
use sr_kernel::peer::Peer;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How far down from the caller a process may be.
const MOST_GENERATIONS: u32 = 64;

/// The parents of the groups of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parents {
    pub memory: CgroupController,
    pub cpu: CgroupController,
    pub pids: CgroupController,
}

impl Parents {
    pub fn of(config: &Config, uid: u32) -> Parents {
        let below = |at: &CgroupController| CgroupController {
            version: at.version,
            parent: format!("{}/user-{uid}", at.parent.trim_end_matches('/')),
        };
        Parents {
            memory: below(&config.memory),
            cpu: below(&config.cpu),
            pids: below(&config.pids),
        }
    }

    fn limits(&self, wanted: Wanted) -> Limits {
        let clause = |at: &CgroupController, limit: Option<u64>| {
            limit.map(|limit| Clause {
                at: at.clone(),
                limit: Some(limit),
            })
        };
        Limits {
            memory: clause(&self.memory, wanted.memory),
            cpu: clause(&self.cpu, wanted.cpu),
            pids: clause(&self.pids, wanted.pids),
        }
    }

    /// Each controller that has its directory of the group `name` among `held`.
    fn of_held(&self, held: &[PathBuf], name: &str) -> Limits {
        let clause = |at: &CgroupController| {
            let there = held.contains(&Path::new(&at.parent).join(name));
            there.then(|| Clause {
                at: at.clone(),
                limit: None,
            })
        };
        Limits {
            memory: clause(&self.memory),
            cpu: clause(&self.cpu),
            pids: clause(&self.pids),
        }
    }

    /// A process that enters a directory leaves another, with all the limits that were there: so there is one for each
    /// controller of the directory.
    fn whole(&self, wanted: Wanted) -> Result<(), String> {
        let all = [
            ("memory", &self.memory, wanted.memory),
            ("cpu", &self.cpu, wanted.cpu),
            ("pids", &self.pids, wanted.pids),
        ];
        for (name, at, _) in all.iter().filter(|(.., limit)| limit.is_none()) {
            if let Some((other, ..)) = all.iter().find(|(_, is, limit)| is == at && limit.is_some()) {
                return Err(format!("{other} without {name}: one group holds both"));
            }
        }
        match all.iter().all(|(.., limit)| limit.is_none()) {
            true => Err("no limit is asked for".into()),
            false => Ok(()),
        }
    }

    /// Removes the directories of the user, where they are empty.
    pub fn remove_empty(&self) {
        let all = Amounts {
            memory: 0,
            cpu: 0,
            pids: 0,
        };
        cgroup::remove_empty_parents(&self.limits(all.into()));
    }
}

/// Refuses what is more than the operator allows.
pub fn within(asked: Wanted, most: Amounts) -> Result<(), String> {
    let over = |name: &str, asked: String, most: String| {
        Err(format!(
            "{name}: {asked} is more than {most}, the most that helper.toml allows a run"
        ))
    };
    let size = |bytes| ByteSize(bytes).to_string();
    let cpus = |thousandths: u64| format!("{} CPUs", thousandths as f64 / 1000.0);
    let count = |n: u64| n.to_string();
    let all: [(_, _, _, &dyn Fn(u64) -> String); 3] = [
        ("memory", asked.memory, most.memory, &size),
        ("cpu", asked.cpu, most.cpu, &cpus),
        ("pids", asked.pids, most.pids, &count),
    ];
    for (name, asked, most, shown) in all {
        match asked {
            Some(asked) if asked > most => return over(name, shown(asked), shown(most)),
            Some(0) => return Err("a limit of 0 lets nothing run".into()),
            _ => {}
        }
    }
    Ok(())
}

/// A group that is there.
#[derive(Debug)]
pub struct Group {
    group: RunGroup,
    /// Something else than the caller's may have come into it: nothing more enters.
    spoilt: bool,
}

fn shown(error: CgroupError) -> String {
    error.to_string()
}

impl Group {
    pub fn make(parents: &Parents, id: &RunId, wanted: Wanted, slot: &mut Slot) -> Result<Group, String> {
        parents.whole(wanted)?;
        let limits = parents.limits(wanted);
        let name = format!("{PREFIX}{id}");
        let planned = RunGroup::plan(&name, &limits).map_err(shown)?;
        slot.will_make(&planned.into_iter().map(Made::Group).collect::<Vec<_>>())?;
        let made = slot.alone(|| {
            cgroup::make_parents(&limits).map_err(shown)?;
            RunGroup::create(&name, &limits)
                .map_err(shown)
                .inspect_err(|_| parents.remove_empty())
        })?;
        match made {
            Ok(group) => Ok(Group { group, spoilt: false }),
            Err(why) => {
                // What it made it has removed again; what was there before is somebody else's.
                slot.removed();
                Err(why)
            }
        }
    }

    /// Moves the process of a pidfd into the group.
    pub fn enter(&mut self, pidfd: &OwnedFd, caller: &Peer) -> Result<(), String> {
        if self.spoilt {
            return Err("the group is given up: a process ended while it was moved".into());
        }
        match moved(&self.group, pidfd, caller)? {
            Moved::In => Ok(()),
            Moved::Lost(_) => {
                self.spoilt = true;
                self.group.put_back_strangers(caller.uid, None);
                self.kill(caller.uid)?;
                Err("the process ended while it was moved".into())
            }
        }
    }

    pub fn kill(&self, uid: u32) -> Result<(), String> {
        self.group.kill_all_of(uid).map_err(shown)
    }

    /// Kills and removes. On failure the slot keeps what is left, for the user's next helper.
    pub fn remove(self, parents: &Parents, uid: u32, slot: &mut Slot) -> Result<(), String> {
        if !self.group.remove_empty() {
            self.kill(uid)?;
            self.group
                .remove()
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        }
        slot.removed();
        slot.alone(|| parents.remove_empty())
    }
}

/// Moves the process of a pidfd into the group of a run that another helper of the same user holds.
pub fn join(parents: &Parents, id: &RunId, pidfd: &OwnedFd, caller: &Peer, slot: &Slot) -> Result<(), String> {
    let name = format!("{PREFIX}{id}");
    let held = slot.held(&name)?;
    if held.is_empty() {
        return Err(format!("no helper of uid {} holds a group for run {id}", caller.uid));
    }
    let limits = parents.of_held(&held, &name);
    let planned = RunGroup::plan(&name, &limits).map_err(shown)?;
    if !held.iter().all(|dir| planned.contains(dir)) {
        return Err(format!(
            "run {id} has groups where helper.toml names no parent any more"
        ));
    }
    let group = RunGroup::attach(&name, &limits).map_err(shown)?;
    match moved(&group, pidfd, caller)? {
        Moved::In => Ok(()),
        Moved::Lost(pid) => {
            // The run goes on: nobody is killed for it.
            group.put_back_strangers(caller.uid, Some(pid));
            Err("the process ended while it was moved".into())
        }
    }
}

enum Moved {
    In,
    /// The process ended meanwhile, and who has its number now may be in the group.
    Lost(u32),
}

fn moved(group: &RunGroup, pidfd: &OwnedFd, caller: &Peer) -> Result<Moved, String> {
    let pid = pid_of(pidfd)?;
    let status = status(pid)?;
    if !all_uids_are(&status, caller.uid) {
        return Err(format!("process {pid} is not of uid {} alone", caller.uid));
    }
    if !descends(pid, caller.pid)? {
        return Err(format!(
            "process {pid} does not descend from the caller, {}",
            caller.pid
        ));
    }
    // Until here the number was this process's.
    if ended(pidfd) {
        return Err("the process has ended".into());
    }
    let number = pid.unsigned_abs();
    let added = group.add_as(caller.uid, number).map_err(shown);
    // Now it could be another's, who was moved in its stead.
    if ended(pidfd) {
        return Ok(Moved::Lost(number));
    }
    added?;
    match group.contains(number).map_err(shown)? {
        true => Ok(Moved::In),
        false => Err(format!("process {pid} is not in the group, by its own account")),
    }
}

/// The number of a living process, in this pid namespace.
fn pid_of(pidfd: &OwnedFd) -> Result<i32, String> {
    let fd = pidfd.as_raw_fd();
    let link = rustix::fs::readlink(format!("/proc/self/fd/{fd}"), Vec::new()).map_err(|e| e.to_string())?;
    // The first before Linux 6.9. No file's path begins so.
    if link.as_bytes() != b"anon_inode:[pidfd]" && !link.as_bytes().starts_with(b"pidfd:[") {
        return Err("the descriptor is no pidfd".into());
    }
    let text = sr_kernel::pseudo::text(format!("/proc/self/fdinfo/{fd}")).map_err(|e| e.to_string())?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    match pid.and_then(|pid| pid.trim().parse().ok()) {
        Some(pid) if pid > 0 => Ok(pid),
        Some(0) => Err("the process is in another pid namespace".into()),
        _ => Err("the process has ended".into()),
    }
}

fn ended(pidfd: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&at_once)) != Ok(0)
}

fn status(pid: i32) -> Result<String, String> {
    sr_kernel::pseudo::text(format!("/proc/{pid}/status")).map_err(|e| format!("process {pid}: {e}"))
}

fn field<'a>(status: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().split_ascii_whitespace()
}

/// Real, effective, saved and file system uid.
fn all_uids_are(status: &str, uid: u32) -> bool {
    let uids: Vec<_> = field(status, "Uid:").map(str::parse::<u32>).collect();
    uids.len() == 4 && uids.iter().all(|u| *u == Ok(uid))
}

fn descends(pid: i32, from: i32) -> Result<bool, String> {
    let mut at = pid;
    for _ in 0..MOST_GENERATIONS {
        if at == from {
            return Ok(true);
        }
        match field(&status(at)?, "PPid:").next().and_then(|n| n.parse().ok()) {
            Some(parent) if parent > 0 => at = parent,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    const MOST: Amounts = Amounts {
        memory: 100,
        cpu: 200,
        pids: 300,
    };

    #[test]
    fn nothing_is_above_a_ceiling() {
        within(MOST.into(), MOST).unwrap();
        within(Wanted::default(), MOST).unwrap();
        for (asked, name) in [
            (Amounts { memory: 101, ..MOST }, "memory: 101B"),
            (Amounts { cpu: 201, ..MOST }, "cpu: 0.201 CPUs"),
            (Amounts { pids: u64::MAX, ..MOST }, "pids: 18446744073709551615"),
            (Amounts { pids: 0, ..MOST }, "a limit of 0"),
        ] {
            let why = within(asked.into(), MOST).unwrap_err();
            assert!(why.starts_with(name), "{why}");
        }
    }

    #[test]
    fn a_directory_has_a_limit_for_each_of_its_controllers() {
        let at = |parent: &str| CgroupController {
            version: 1,
            parent: parent.into(),
        };
        let parents = |memory, cpu, pids| Parents {
            memory: at(memory),
            cpu: at(cpu),
            pids: at(pids),
        };
        let apart = parents("/m", "/c", "/p");
        let (one, some) = (parents("/x", "/x", "/x"), parents("/x", "/c", "/x"));
        let cpu = Wanted {
            cpu: Some(1),
            ..Wanted::default()
        };
        let pids = Wanted {
            pids: Some(1),
            ..Wanted::default()
        };
        for (parents, wanted) in [(&apart, cpu), (&apart, pids), (&some, cpu), (&one, MOST.into())] {
            parents.whole(wanted).unwrap();
        }
        for (parents, wanted) in [(&one, cpu), (&one, pids), (&some, pids)] {
            assert!(parents.whole(wanted).unwrap_err().contains("one group holds both"));
        }
        assert!(apart.whole(Wanted::default()).is_err());
    }

    #[test]
    fn a_pidfd_tells_its_process_and_its_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert_eq!(pid_of(&pidfd), Ok(pid));
        assert!(descends(pid, std::process::id() as i32).unwrap());
        assert!(!descends(std::process::id() as i32, pid).unwrap());
        assert!(descends(pid, pid).unwrap());
        let own = rustix::process::geteuid().as_raw();
        assert!(all_uids_are(&status(pid).unwrap(), own) && !all_uids_are(&status(pid).unwrap(), own + 1));
        assert!(!ended(&pidfd));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(ended(&pidfd));
        assert!(pid_of(&pidfd).unwrap_err().contains("ended"));
        let file: OwnedFd = std::fs::File::open("/proc/self/status").unwrap().into();
        assert!(pid_of(&file).unwrap_err().contains("no pidfd"));
    }

    #[test]
    fn a_process_with_one_other_uid_is_not_the_callers() {
        let line = |uids: &str| format!("Name:\tx\nUid:\t{uids}\nGid:\t7\n");
        assert!(all_uids_are(&line("7\t7\t7\t7"), 7));
        for bad in ["7\t0\t0\t0", "0\t7\t7\t7", "7\t7\t0\t7", "7\t7\t7", ""] {
            assert!(!all_uids_are(&line(bad), 7), "{bad}");
        }
    }
}
