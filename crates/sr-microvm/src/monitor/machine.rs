//! The virtual machine monitor as a child process.

use super::Failure;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid};
use sr_common::monitor::Speech;
use sr_kernel::step::{CStringArray, Fd, Step};
use sr_kernel::wire::{self, Message};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_millis(5);

/// Above these, and all else that is open, lies what is this process's own.
const OWN: i32 = 32;

/// The number at which a process that is started as [`How::Rooted`] finds its own program. The kernel makes a table of
/// descriptors as large as what is inherited needs; one that grows while threads share it waits for a grace period of the kernel's
/// each time, as the Sentry's does at its start, and the gofer's as the program begins to open files.
const TABLE: i32 = 1023;

/// `CLONE_NEWUSER` and `CLONE_NEWNS`.
const NAMESPACES: u64 = 0x1000_0000 | 0x0002_0000;

const INSTALL: &str = "install the virtual machine monitor that the policy names, and see `safe-run doctor`";

/// What is started.
pub struct Command<'a> {
    /// Complete; the first is the program.
    pub argv: &'a [String],
    pub inherited: Vec<OwnedFd>,
    pub output: OwnedFd,
    pub complaints: OwnedFd,
    /// Where the program is missed, if it is.
    pub preflight: &'static str,
}

/// As whom it is started. Either leads a process group: a signal for the program in the guest is sent to this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As this process.
    Plain,
    /// As root of a user and a mount namespace of its own, below this process's, as `runsc` would start itself once more.
    Rooted,
}

impl How {
    pub fn of(speech: &Speech) -> How {
        match speech {
            Speech::Gvisor => How::Rooted,
            _ => How::Plain,
        }
    }
}

/// One that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    ended: Option<ExitStatus>,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

impl Running {
    pub fn start(command: Command<'_>, how: How) -> Result<Running, Failure> {
        let argv: Vec<String> = command.argv.iter().map(|word| filled_in(word)).collect();
        let program = argv
            .first()
            .ok_or_else(|| Failure::own("the machine's command", "it is empty"))?;
        let missed = |e: io::Error| Failure::new(command.preflight, format!("{program}: {e}"), INSTALL);
        let started = match how {
            How::Plain => {
                let child = std::process::Command::new(program)
                    .args(&argv[1..])
                    .env_clear()
                    .stdin(std::process::Stdio::null())
                    .stdout(command.output)
                    .stderr(command.complaints)
                    .process_group(0)
                    .spawn();
                child
                    .map(|child| i32::try_from(child.id()).ok().and_then(Pid::from_raw))
                    .map_err(missed)?
            }
            How::Rooted => {
                let file = File::open(program).map_err(missed)?;
                let pid = rooted(&file.into(), &argv, &command.output, &command.complaints).map_err(missed)?;
                Pid::from_raw(pid)
            }
        };
        drop(command.inherited);
        let watched = |pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
        let Some((pid, pidfd)) = started.and_then(watched) else {
            if let Some(pid) = started {
                // Nothing may be left of it, whatever this says.
                let _ = kill_process(pid, Signal::KILL).and_then(|()| reap(pid, WaitOptions::empty()));
            }
            return Err(Failure::own("the machine's process", "it cannot be watched"));
        };
        Ok(Running {
            pid,
            ended: None,
            pidfd,
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = reap(self.pid, WaitOptions::NOHANG).ok().flatten();
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
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            self.ended = reap(self.pid, WaitOptions::empty()).ok().flatten();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn reap(pid: Pid, options: WaitOptions) -> rustix::io::Result<Option<ExitStatus>> {
    loop {
        match waitpid(Some(pid), options) {
            Err(Errno::INTR) => {}
            other => return Ok(other?.map(|(_, status)| ExitStatus::from_raw(status.as_raw()))),
        }
    }
}

/// Starts `program` as [`How::Rooted`].
fn rooted(program: &OwnedFd, argv: &[String], output: &OwnedFd, complaints: &OwnedFd) -> io::Result<i32> {
    let null = File::open("/dev/null")?;
    // Where so many may not be open, tables grow.
    let program = match fcntl_dupfd_cloexec(program, TABLE) {
        Err(Errno::INVAL | Errno::MFILE) => fcntl_dupfd_cloexec(program, OWN)?,
        other => other?,
    };
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let channel = theirs.as_raw_fd();
    let words = argv.iter().map(|word| CString::new(word.as_str()));
    let words = words.collect::<Result<_, _>>()?;
    let fd = |fd: &OwnedFd| Fd::Inherited(fd.as_raw_fd());
    let steps = [
        Step::Await {
            channel,
            slots: Vec::new(),
        },
        Step::NewSession,
        Step::DieWithParent,
        Step::DefaultSignals,
        Step::Umask(0o022),
        Step::Stdio {
            stdin: Fd::Inherited(null.as_raw_fd()),
            stdout: fd(output),
            stderr: fd(complaints),
        },
        Step::KeepOpen(fd(&program)),
        Step::Execute {
            fd: fd(&program),
            argv: CStringArray::new(words),
            envp: CStringArray::new(Vec::new()),
        },
    ];
    let pid = sr_kernel::clone::spawn_child(NAMESPACES, &steps, channel, &[ours.as_raw_fd()])?;
    drop(theirs);
    let started = map(pid).and_then(|()| {
        let go = Message {
            tag: wire::TAG_GO,
            a: 0,
            b: 0,
        };
        wire::send(ours.as_fd(), go, None)?;
        // Its end is closed by the exec, or by its own end.
        match wire::receive(ours.as_fd())? {
            None => Ok(()),
            Some((said, _)) => Err(io::Error::from_raw_os_error(said.b as i32)),
        }
    });
    if let (Err(_), Some(pid)) = (&started, Pid::from_raw(pid)) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
        let _ = reap(pid, WaitOptions::empty());
    }
    started.map(|()| pid)
}

/// This process's user is root of the namespace of `pid`.
fn map(pid: i32) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    // Who has no capability above maps a group only where none can be dropped.
    for (name, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ] {
        std::fs::write(format!("/proc/{pid}/{name}"), text)?;
    }
    Ok(())
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
pub fn high(fd: OwnedFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(&fd, OWN)?)
}

/// A copy at exactly `number`, which the child inherits.
pub fn at(fd: &OwnedFd, number: i32) -> Result<OwnedFd, Failure> {
    let copy = fcntl_dupfd_cloexec(fd, number).map_err(|e| Failure::own("a descriptor", e))?;
    if copy.as_raw_fd() != number {
        return Err(Failure::own("a descriptor", format!("{number} is in use")));
    }
    rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).map_err(|e| Failure::own("a descriptor", e))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// What a script says that is started like this, and how it ends.
    fn said(how: How, program: &str, script: &str) -> Result<(String, Option<i32>), Failure> {
        let (mut from, to) = std::io::pipe().unwrap();
        let argv = [program, "-c", script].map(str::to_owned);
        let command = Command {
            argv: &argv,
            inherited: Vec::new(),
            output: to.try_clone().unwrap().into(),
            complaints: to.into(),
            preflight: "launch.preflight.vmm",
        };
        let mut running = Running::start(command, how)?;
        let mut text = String::new();
        from.read_to_string(&mut text).unwrap();
        running.end(Duration::from_secs(60));
        Ok((text, running.ended().and_then(|status| status.code())))
    }

    #[test]
    fn one_that_is_rooted_is_root_of_its_own() {
        let user = rustix::process::geteuid().as_raw();
        let script = "read inside outside count < /proc/self/uid_map; echo $inside $outside $count; id -u; \
                      cat /proc/self/setgroups; test -t 0 || echo no terminal; exit 7";
        let (text, status) = said(How::Rooted, "/bin/sh", script).unwrap();
        assert_eq!(
            (text.as_str(), status),
            (format!("0 {user} 1\n0\ndeny\nno terminal\n").as_str(), Some(7))
        );
        let (text, status) = said(How::Plain, "/bin/sh", "id -u; exit 7").unwrap();
        assert_eq!((text, status), (format!("{user}\n"), Some(7)));
    }

    #[test]
    fn its_table_is_large_from_the_beginning() {
        let (text, _) = said(How::Rooted, "/bin/sh", "grep FDSize /proc/self/status").unwrap();
        let size: i32 = text.trim_start_matches("FDSize:").trim().parse().unwrap();
        // Another test that starts one at the same time may have that very number.
        assert!(size > TABLE, "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_or_none_is_told() {
        for how in [How::Plain, How::Rooted] {
            let missed = said(how, "/nowhere/vmm", "").unwrap_err();
            assert_eq!(missed.path, "launch.preflight.vmm");
            assert!(missed.found.contains("/nowhere/vmm: No such file"), "{missed:?}");
            let none = said(how, "/etc/passwd", "").unwrap_err();
            assert_eq!(none.path, "launch.preflight.vmm", "{none:?}");
            assert!(none.found.contains("/etc/passwd: Permission denied"), "{none:?}");
        }
    }
}
