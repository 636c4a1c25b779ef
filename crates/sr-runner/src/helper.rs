//! The supervisor's side of `safe-run-helper`, which makes and removes the control group of an ordinary user's run. It is
//! started only where a command for it is named. What it says of the group is not believed but read from the kernel.

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags};
use sr_common::facts::{CgroupFacts, HelperCeilings};
use sr_common::{Code, Fault, HostFacts, RunId};
use sr_helper::wire::{self, Amounts, Answer, Ask, Ready, Request, Say, VERSION};
use sr_kernel::cgroup::Limits;
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
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

/// Where an ordinary user has no control groups and `command` names a helper, the facts become those of its groups.
pub fn complete(facts: &mut HostFacts, command: &[OsString]) -> Result<Option<Helper>, Fault> {
    let CgroupFacts { memory, cpu, pids, .. } = &facts.cgroup;
    if facts.privileged || command.is_empty() || memory.is_some() || cpu.is_some() || pids.is_some() {
        return Ok(None);
    }
    let (helper, ready) = Helper::start(command)?;
    facts.cgroup = CgroupFacts {
        memory: Some(ready.memory),
        cpu: Some(ready.cpu),
        pids: Some(ready.pids),
        helper: Some(HelperCeilings {
            memory: ready.ceilings.memory,
            cpu: ready.ceilings.cpu,
            pids: ready.ceilings.pids,
        }),
    };
    Ok(Some(helper))
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

    /// Has the group of a run made: every limit has a value.
    pub fn make_group(&self, id: &RunId, limits: &Limits) -> Result<(), Fault> {
        let all = [&limits.memory, &limits.cpu, &limits.pids].map(|clause| clause.as_ref().and_then(|c| c.limit));
        let [Some(memory), Some(cpu), Some(pids)] = all else {
            return Err(fault("a group of the helper's limits memory, cpu and pids"));
        };
        let limits = Amounts { memory, cpu, pids };
        self.ask(Ask::MakeGroup { id: id.clone(), limits }, None)
    }

    /// Has a process of this one's moved into the group.
    pub fn enter(&self, pidfd: BorrowedFd<'_>) -> Result<(), Fault> {
        self.ask(Ask::Enter, Some(pidfd))
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
        self.socket = None;
        let Ok(end) = rustix::process::pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty()) else {
            return;
        };
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
    fn what_is_no_helper_is_a_fault() {
        assert!(started(&["/no/such/sudo", "-n"]).contains("`/no/such/sudo -n` cannot be started"));
        let found = started(&["/bin/sh", "-c", "echo a password is required >&2"]);
        assert!(found.ends_with("(it is gone): a password is required"), "{found}");
        assert!(started(&["/bin/sh", "-c", "echo hello >&0; exec sleep 0.1"]).contains("not a message"));
    }
}
