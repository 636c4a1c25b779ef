//! The virtual machine monitor as a child process, and the sockets that lead to it.

use super::Failure;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_millis(5);

/// The numbers at which the monitor finds its sockets: to the agent, for QMP, for the console.
const AGENT: i32 = 10;
const QMP: i32 = 11;
const CONSOLE: i32 = 12;
/// Above these, and all else that is open, lies what is this process's own.
const OWN: i32 = 32;

/// One that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ended: Option<ExitStatus>,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Our ends of what leads to it, non-blocking.
#[derive(Debug)]
pub struct Ends {
    pub agent: OwnedFd,
    pub console: OwnedFd,
    pub qmp: OwnedFd,
    /// What the program itself says.
    pub complaints: OwnedFd,
}

impl Running {
    /// `argv` is complete; the first is the program. `alone`: it is given the agent's socket and nothing else.
    pub fn start(argv: &[String], alone: bool) -> Result<(Running, Ends), Failure> {
        let own = |what: &'static str| move |e: rustix::io::Errno| Failure::own(what, e);
        let (program, words) = argv
            .split_first()
            .ok_or_else(|| Failure::own("the machine's command", "it is empty"))?;
        let pair = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(own("a socket"))?;
            let up = |fd| high(fd).map_err(|e| Failure::own("a socket", e));
            Ok::<_, Failure>((up(ours)?, up(theirs)?))
        };
        let ((agent, agent_there), (console, console_there), (qmp, qmp_there)) = (pair()?, pair()?, pair()?);
        let (complaints, complaints_there) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(own("a pipe"))?;
        let up = |fd| high(fd).map_err(|e| Failure::own("a pipe", e));
        let (complaints, complaints_there) = (up(complaints)?, up(complaints_there)?);
        rustix::fs::fcntl_setfl(&complaints, OFlags::NONBLOCK).map_err(own("a pipe"))?;
        let mut there = vec![at(&agent_there, AGENT)?];
        if !alone {
            there.extend([at(&qmp_there, QMP)?, at(&console_there, CONSOLE)?]);
        }
        let mut command = Command::new(program);
        command
            .args(words.iter().map(|word| filled_in(word)))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(complaints_there.try_clone().map_err(|e| Failure::own("a pipe", e))?)
            .stderr(complaints_there)
            // A signal for the program in the guest is sent to this process's group.
            .process_group(0);
        let started = command.spawn();
        drop((there, command, agent_there, qmp_there, console_there));
        let child = started.map_err(|e| {
            Failure::new(
                match alone {
                    true => "launch.preflight.runsc",
                    false => "launch.preflight.vmm",
                },
                format!("{program}: {e}"),
                "install the virtual machine monitor that the policy names, and see `safe-run doctor`",
            )
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(pidfd)) => pidfd,
            _ => {
                let mut child = child;
                // Nothing may be left of it, whatever this says.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(Failure::own("the machine's process", "it cannot be watched"));
            }
        };
        let running = Running {
            child,
            ended: None,
            pidfd,
        };
        Ok((
            running,
            Ends {
                agent,
                console,
                qmp,
                complaints,
            },
        ))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits for its end, for so long; then it is killed.
    pub fn end(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        while self.ended().is_none() && Instant::now() < until {
            std::thread::sleep(AGAIN);
        }
        if self.ended().is_none() {
            // Only a process that has ended cannot be killed.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// The number that a command line for a guest's kernel leaves to be filled in: how fast this machine's counter counts, which
/// a guest without other clocks must know.
const COUNTER: &str = "tsc_early_khz=HOST";

/// A word of the command as it is started. A kernel that is told nothing measures it, as well as it can.
fn filled_in(word: &str) -> String {
    if !word.contains(COUNTER) {
        return word.to_owned();
    }
    let known = sr_kernel::counter::kilohertz().map(|khz| format!("tsc_early_khz={khz}"));
    word.replace(COUNTER, &known.unwrap_or_default())
}

/// The same where no number is of use to anyone else.
pub fn high(fd: OwnedFd) -> std::io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, OWN)?)
}

/// A copy at exactly `number`, which the child inherits.
fn at(fd: &OwnedFd, number: i32) -> Result<OwnedFd, Failure> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, number).map_err(|e| Failure::own("a descriptor", e))?;
    if copy.as_raw_fd() != number {
        return Err(Failure::own("a descriptor", format!("{number} is in use")));
    }
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).map_err(|e| Failure::own("a descriptor", e))?;
    Ok(copy)
}
