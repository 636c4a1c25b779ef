//! The virtual machine monitor as a child process.

use super::Failure;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_millis(5);

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

impl Running {
    /// `argv` is complete; the first is the program. `preflight`: where it is missed, if it is.
    pub fn start(
        argv: &[String],
        inherited: Vec<OwnedFd>,
        output: Stdio,
        complaints: OwnedFd,
        preflight: &'static str,
    ) -> Result<Running, Failure> {
        let (program, words) = argv
            .split_first()
            .ok_or_else(|| Failure::own("the machine's command", "it is empty"))?;
        let mut command = Command::new(program);
        command
            .args(words.iter().map(|word| filled_in(word)))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(complaints)
            // A signal for the program in the guest is sent to this process's group.
            .process_group(0);
        let started = command.spawn();
        drop((inherited, command));
        let child = started.map_err(|e| {
            Failure::new(
                preflight,
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
        Ok(Running {
            child,
            ended: None,
            pidfd,
        })
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
pub fn at(fd: &OwnedFd, number: i32) -> Result<OwnedFd, Failure> {
    let copy = rustix::io::fcntl_dupfd_cloexec(fd, number).map_err(|e| Failure::own("a descriptor", e))?;
    if copy.as_raw_fd() != number {
        return Err(Failure::own("a descriptor", format!("{number} is in use")));
    }
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).map_err(|e| Failure::own("a descriptor", e))?;
    Ok(copy)
}
