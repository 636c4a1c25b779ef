//! The supervisor's side of `safe-run-helper`, which makes and removes the control group of an ordinary user's run. It is
//! started only where a command for it is named. What it says of the group is not believed but read from the kernel.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags};
use sr_common::facts::{CgroupFacts, DiskCeilings, HelperCeilings};
use sr_common::{Code, Fault, HostFacts, RunId};
use sr_helper::wire::{self, Answer, Ask, Ready, Request, Say, VERSION, Wanted};
use sr_kernel::cgroup::Limits;
use sr_policy::PolicySpec;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long an answer, or its end, may take. It may have to kill what another helper left.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of what it, or sudo, says as it gives up.
const MOST_SAID: u64 = 2048;

/// A helper that serves this process. Dropping it has it remove what it made.
#[derive(Debug)]
pub struct Helper {
    socket: Option<OwnedFd>,
    process: Child,
}

fn fault(found: impl Into<String>) -> Fault {
    Fault::new(
        Code::Run001,
        "launch.preflight.helper",
        found,
        "see \"The helper\" in OPERATIONS.md; without SAFE_RUN_HELPER, and `helper` in host.yaml, the limits are those of \
         an ordinary user",
    )
}

/// Where an ordinary user lacks a controller that a limit of `asked` needs, and `command` names a helper, the facts become
/// those of its groups, for each controller that is missing. In version 2 one group has all: then it is the helper's. And
/// where a project quota can hold the limit on disk they say so, for root too: it gives up the right to take one away.
pub fn complete(facts: &mut HostFacts, command: &[OsString], policy: &PolicySpec) -> Result<Option<Helper>, Fault> {
    let asked = &policy.resources;
    let CgroupFacts { memory, cpu, pids, .. } = &facts.cgroup;
    let lacking = (asked.memory.is_some() && memory.is_none())
        || (asked.cpu.is_some() && cpu.is_none())
        || (asked.pids.is_some() && pids.is_none());
    let lacking = lacking && !facts.privileged;
    if command.is_empty() {
        return Ok(None);
    }
    let device = match sr_compiler::wants_quota(policy, facts) {
        true => quotas(Path::new(&facts.store)),
        false => None,
    };
    if !lacking && device.is_none() {
        return Ok(None);
    }
    let (helper, ready) = Helper::start(command)?;
    let disk = ready
        .disk
        .as_ref()
        .filter(|disk| device.is_some_and(|device| disk.devices.contains(&device)));
    facts.disk = disk.map(|disk| DiskCeilings {
        bytes: disk.bytes,
        files: disk.files,
    });
    if lacking {
        add(&mut facts.cgroup, ready);
    }
    Ok(Some(helper).filter(|_| lacking || facts.disk.is_some()))
}

/// The device of the file system of `path`, if it holds projects to their limits.
fn quotas(path: &Path) -> Option<u64> {
    let dir = rustix::fs::open(
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let device = rustix::fs::fstat(&dir).ok()?.st_dev;
    sr_kernel::quota::has_projects(dir.as_fd()).then_some(device)
}

fn add(facts: &mut CgroupFacts, ready: Ready) {
    let CgroupFacts { memory, cpu, pids, .. } = facts;
    let mut all = [
        (memory, ready.memory, ready.ceilings.memory),
        (cpu, ready.cpu, ready.ceilings.cpu),
        (pids, ready.pids, ready.ceilings.pids),
    ];
    let missing = all.iter().filter(|(own, ..)| own.is_none());
    let taken: Vec<_> = missing.map(|(_, at, _)| at.clone()).collect();
    let [memory, cpu, pids] = all.each_mut().map(|(own, at, most)| {
        // A process that enters a directory is in no other of that hierarchy.
        taken.contains(at).then(|| {
            **own = Some(at.clone());
            *most
        })
    });
    facts.helper = Some(HelperCeilings { memory, cpu, pids });
}

impl Helper {
    fn start(command: &[OsString]) -> Result<(Helper, Ready), Fault> {
        let shown = command
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let failed = |e: &dyn std::fmt::Display| fault(format!("`{shown}` cannot be started: {e}"));
        let (program, arguments) = command.split_first().ok_or_else(|| failed(&"no command"))?;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed(&e))?;
        for side in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&ours, side, Some(PATIENCE)).map_err(|e| failed(&e))?;
        }
        let mut process = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // What a terminal sends to its whole group is the supervisor's to answer.
            .process_group(0)
            .spawn()
            .map_err(|e| failed(&e))?;
        let complaints = process.stderr.take();
        let helper = Helper {
            socket: Some(ours),
            process,
        };
        match helper.hear() {
            Ok(Say::Ready(ready)) => Ok((helper, ready)),
            Ok(Say::Refused { why }) => Err(fault(format!("safe-run-helper refuses: {why}"))),
            Ok(Say::Done) => Err(fault("safe-run-helper answers what nobody asked")),
            Err(gone) => {
                drop(helper);
                let mut said = Vec::new();
                // Where that fails there is one reason less.
                let _ = complaints.map(|pipe| pipe.take(MOST_SAID).read_to_end(&mut said));
                let said = String::from_utf8_lossy(&said);
                Err(fault(format!("`{shown}` does not serve ({gone}): {}", said.trim())))
            }
        }
    }

    fn hear(&self) -> Result<Say, String> {
        match wire::receive::<Answer>(self.socket()?) {
            Ok(Some((Answer { version: VERSION, say }, fds))) if fds.is_empty() => Ok(say),
            Ok(Some(_)) => Err("it speaks another version".into()),
            Ok(None) => Err("it is gone".into()),
            Err(wire::Fault::Malformed(why) | wire::Fault::Broken(why)) => Err(why),
        }
    }

    fn ask(&self, ask: Ask, fd: Option<BorrowedFd<'_>>) -> Result<(), Fault> {
        let request = Request { version: VERSION, ask };
        let sent = self
            .socket()
            .and_then(|socket| wire::send(socket, &request, fd).map_err(|e| e.to_string()));
        match sent.and_then(|()| self.hear()) {
            Ok(Say::Done) => Ok(()),
            Ok(Say::Refused { why }) => Err(fault(format!("safe-run-helper refuses: {why}"))),
            Ok(Say::Ready(_)) => Err(fault("safe-run-helper answers what nobody asked")),
            Err(why) => Err(fault(format!("safe-run-helper does not answer: {why}"))),
        }
    }

    /// Has the group of a run made.
    pub fn make_group(&self, id: &RunId, limits: &Limits) -> Result<(), Fault> {
        let [memory, cpu, pids] =
            [&limits.memory, &limits.cpu, &limits.pids].map(|clause| clause.as_ref().and_then(|c| c.limit));
        let limits = Wanted { memory, cpu, pids };
        self.ask(Ask::MakeGroup { id: id.clone(), limits }, None)
    }

    /// Has what will be made in an empty directory limited.
    pub fn limit_disk(&self, dir: BorrowedFd<'_>, bytes: u64, files: u64) -> Result<(), Fault> {
        self.ask(Ask::LimitDisk { bytes, files }, Some(dir))
    }

    /// Has that limit taken away.
    pub fn free_disk(&self) -> Result<(), Fault> {
        self.ask(Ask::FreeDisk, None)
    }

    /// Has a process of this one's moved into the group.
    pub fn enter(&self, pidfd: BorrowedFd<'_>) -> Result<(), Fault> {
        self.ask(Ask::Enter, Some(pidfd))
    }

    /// A helper for a command that joins a run whose groups another helper holds.
    pub fn for_guest(command: &[OsString]) -> Result<Helper, Fault> {
        if command.is_empty() {
            return Err(fault(
                "the run's control groups are safe-run-helper's, and none is named here",
            ));
        }
        Helper::start(command).map(|(helper, _)| helper)
    }

    /// Has a process of this one's moved into the groups of a run.
    pub fn join(&self, id: &RunId, pidfd: BorrowedFd<'_>) -> Result<(), Fault> {
        self.ask(Ask::Join { id: id.clone() }, Some(pidfd))
    }

    /// Has what is in the group killed, and the group removed.
    pub fn remove(&self) -> Result<(), Fault> {
        self.ask(Ask::Remove, None)
    }

    /// Readable, while nothing was asked, once the helper is gone.
    pub fn socket(&self) -> Result<BorrowedFd<'_>, String> {
        self.socket
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| "it is closed".into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // First: who joins has the kernel reap its children.
        let end = rustix::process::pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty());
        self.socket = None;
        let Ok(end) = end else { return };
        let patience = Timespec::try_from(PATIENCE).ok();
        if rustix::event::poll(&mut [PollFd::new(&end, PollFlags::IN)], patience.as_ref()) == Ok(1) {
            let _ = self.process.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(words: &[&str]) -> String {
        let command: Vec<OsString> = words.iter().map(OsString::from).collect();
        let fault = Helper::start(&command).unwrap_err();
        assert_eq!(
            (fault.code, fault.path.as_str()),
            (Code::Run001, "launch.preflight.helper")
        );
        fault.found
    }

    #[test]
    fn the_helper_has_what_is_missing_and_what_shares_its_group() {
        let at = |version, parent: &str| sr_common::facts::CgroupController {
            version,
            parent: parent.into(),
        };
        let ready = |version, places: [&str; 3]| Ready {
            memory: at(version, places[0]),
            cpu: at(version, places[1]),
            pids: at(version, places[2]),
            ceilings: sr_helper::wire::Amounts {
                memory: 1,
                cpu: 2,
                pids: 3,
            },
            disk: None,
        };
        let own = |version: u8| CgroupFacts {
            memory: Some(at(version, "/own")),
            cpu: None,
            pids: Some(at(version, "/own")),
            helper: None,
        };
        let mut apart = own(1);
        add(&mut apart, ready(1, ["/m", "/c", "/p"]));
        assert_eq!((&apart.memory, &apart.pids), (&own(1).memory, &own(1).pids));
        assert_eq!(apart.cpu, Some(at(1, "/c")));
        let most = |memory, cpu, pids| Some(HelperCeilings { memory, cpu, pids });
        assert_eq!(apart.helper, most(None, Some(2), None));
        let mut one = own(2);
        add(&mut one, ready(2, ["/x", "/x", "/x"]));
        assert_eq!(one.memory, Some(at(2, "/x")));
        assert_eq!((&one.cpu, &one.pids), (&one.memory, &one.memory));
        assert_eq!(one.helper, most(Some(1), Some(2), Some(3)));
        // CPU time has a hierarchy of its own beside one of version 2.
        let mut mixed = own(2);
        add(&mut mixed, ready(2, ["/x", "/c", "/x"]));
        assert_eq!((mixed.memory, mixed.helper), (own(2).memory, most(None, Some(2), None)));
    }

    #[test]
    fn what_is_no_helper_is_a_fault() {
        assert!(started(&["/no/such/sudo", "-n"]).contains("`/no/such/sudo -n` cannot be started"));
        let found = started(&["/bin/sh", "-c", "echo a password is required >&2"]);
        assert!(found.ends_with("(it is gone): a password is required"), "{found}");
        assert!(started(&["/bin/sh", "-c", "echo hello >&0; exec sleep 0.1"]).contains("not a message"));
    }
}
