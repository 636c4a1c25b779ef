//! Joining a running sandbox: a new process that carries out the same last steps as the program did, in the same
//! namespaces and groups, and is held at its exec. It is started by who joins, who holds no key and no log; that it stands
//! behind the same wall is looked at by the run's own supervisor.
//!
//! Three processes: one enters the namespaces and ends; its child, an init of the command's own, reports the end and ends
//! with who joined; the command is that one's child. None of the three can be looked into from inside: they are not
//! dumpable from before they can be seen there until the exec.

use crate::program::{self, Ends, Given};
use crate::sandbox::{CAP_KILL, Ended, Stdio, go, init_fault};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sr_common::{Code, Fault};
use sr_compiler::bundle::{CompileBundle, IdMap};
use sr_kernel::step::{Fd, Step};
use sr_kernel::wire::{self, Message};
use sr_kernel::{clone, ptrace};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The namespaces of a sandbox in the order in which they are entered: the rights over the others come with the first,
/// and the mount namespace takes the root away.
pub const NAMESPACES: [&str; 7] = ["user", "cgroup", "ipc", "uts", "net", "pid", "mnt"];

/// What a running sandbox is entered by.
#[derive(Debug)]
pub struct Handles {
    /// In the order of [`NAMESPACES`].
    pub namespaces: Vec<OwnedFd>,
    pub landlock: Option<OwnedFd>,
    /// The v2 group.
    pub cgroup: Option<OwnedFd>,
    /// `tasks` files of v1 groups.
    pub tasks: Vec<OwnedFd>,
}

/// A command in the sandbox, held before its first instruction. Dropping it kills the command.
#[derive(Debug)]
pub struct Stopped {
    joined: Joined,
    /// The pty's master.
    pub terminal: Option<OwnedFd>,
    /// On which calls that the filter denies are told.
    pub listener: Option<OwnedFd>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Known(Ended),
    /// It was killed together with its init: as a rule, with the whole run.
    Lost,
}

/// A command in the sandbox that runs.
#[derive(Debug)]
pub struct Joined {
    channel: OwnedFd,
    command: i32,
    pidfd: OwnedFd,
}

fn fault(what: &str, error: &io::Error) -> Fault {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied if what.contains("execute") => {
            "the run goes on; the file must be executable for others, and where the run's policy has `files`, named under read"
        }
        _ => "the run goes on; who joins must be the user who started it, with the same rights over its control group",
    };
    Fault::new(Code::Run002, "exec.join", format!("{what}: {error}"), remedy)
}

fn gone() -> Fault {
    Fault::new(
        Code::Run002,
        "exec.join",
        "the process that joins ended before it was ready",
        "the run may have ended meanwhile: `safe-run runs`",
    )
}

/// Starts `executable` in the sandbox that `handles` are of. `bundle` is the run's own, its arguments those of the
/// command. `close`: descriptors that the new processes have no use for. `enter` has the first process moved into the
/// groups that it cannot join by itself, while it is held.
pub fn join(
    bundle: &CompileBundle,
    handles: &Handles,
    executable: &File,
    stdio: &Stdio,
    close: &[BorrowedFd<'_>],
    enter: impl FnOnce(BorrowedFd<'_>) -> Result<(), Fault>,
) -> Result<Stopped, Fault> {
    if !bundle.process_plan.posture_at_exec {
        return Err(Fault::new(
            Code::Run001,
            "exec.join",
            "this run was started where ptrace is forbidden: a command cannot be held at its exec and looked at",
            "start another run; with --session NAME successive runs share their captured writes",
        ));
    }
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| init_fault("exec.join", "cannot make a socket pair", &e.into()))?;
    let steps = steps(bundle, handles, executable, stdio, theirs.as_raw_fd())?;
    sr_kernel::process::ignore_children().map_err(|e| fault("cannot ignore ended children", &e))?;
    let mut unused: Vec<i32> = close.iter().map(AsRawFd::as_raw_fd).collect();
    unused.push(ours.as_raw_fd());
    let group = handles.cgroup.as_ref().map(AsFd::as_fd);
    let first = clone::spawn(0, group, &steps, theirs.as_raw_fd(), &unused)
        .map_err(|e| fault("cannot start a process in the run's control group", &e))?;
    drop(theirs);
    let words: Vec<String> = steps.iter().map(Step::describe).collect();
    let command_words = steps.iter().find_map(|step| match step {
        Step::Spawn { program, .. } => Some(program.iter().map(Step::describe).collect::<Vec<_>>()),
        _ => None,
    });
    let why = || said(ours.as_fd(), &words, command_words.as_deref().unwrap_or_default());
    let trace = |e: io::Error| fault("cannot follow the command to its exec stop", &e);

    // Seized while it can be: once it is not dumpable only who holds it already may.
    ptrace::seize(first.pid).map_err(trace)?;
    enter(first.pidfd.as_fd())?;
    go(ours.as_fd(), &[])?;
    let Some(init) = ptrace::to_fork(first.pid).map_err(trace)? else {
        return Err(why());
    };
    ptrace::detach(first.pid).map_err(trace)?;
    let Some(command) = ptrace::to_fork(init).map_err(trace)? else {
        return Err(why());
    };
    ptrace::detach(init).map_err(trace)?;
    if !ptrace::to_exec(command).map_err(trace)? {
        return Err(why());
    }
    let pid = Pid::from_raw(command).ok_or_else(gone)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| fault("pidfd_open", &e.into()))?;
    let mut stopped = Stopped {
        joined: Joined {
            channel: ours,
            command,
            pidfd,
        },
        terminal: None,
        listener: None,
    };
    let told = bundle.syscalls_plan.tells();
    let terminal = matches!(stdio, Stdio::Terminal);
    while (terminal && stopped.terminal.is_none()) || (told && stopped.listener.is_none()) {
        match wire::receive(stopped.joined.channel.as_fd()) {
            Ok(Some((message, Some(fd)))) if message.tag == wire::TAG_PTY => stopped.terminal = Some(fd),
            Ok(Some((message, Some(fd)))) if message.tag == wire::TAG_LISTENER => stopped.listener = Some(fd),
            _ => return Err(gone()),
        }
    }
    Ok(stopped)
}

fn steps(
    bundle: &CompileBundle,
    handles: &Handles,
    executable: &File,
    stdio: &Stdio,
    channel: i32,
) -> Result<Vec<Step>, Fault> {
    let mut steps = vec![Step::Await {
        channel,
        slots: Vec::new(),
    }];
    steps.extend(handles.tasks.iter().map(|tasks| Step::JoinGroup {
        tasks: Fd::Inherited(tasks.as_raw_fd()),
    }));
    steps.extend(handles.namespaces.iter().map(|namespace| Step::EnterNamespace {
        namespace: namespace.as_raw_fd(),
    }));
    let range = matches!(bundle.process_plan.user.map, IdMap::Range { .. });
    if range {
        steps.push(Step::Identity {
            uid: 0,
            gid: 0,
            clear_groups: true,
        });
    }
    steps.extend([Step::NotDumpable, Step::Respawn, Step::DieWithParent, Step::NewSession]);
    // Who joins ignores its children's ends; this process waits for one.
    steps.extend(program::inherited());
    let ends = Ends::of(stdio, bundle.process_plan.user.inside, channel, &mut steps);
    let given = Given {
        executable: Fd::Inherited(executable.as_raw_fd()),
        landlock: Fd::Inherited(handles.landlock.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
        gate: None,
        extra: None,
    };
    steps.push(Step::Spawn {
        program: program::steps(bundle, &ends, &given, channel)?,
        shared: true,
    });
    steps.push(Step::Init {
        channel,
        filter: sr_kernel::seccomp::allow_list(&sr_kernel::process::INIT_CALLS),
        keep_capabilities: if range { CAP_KILL } else { 0 },
    });
    Ok(steps)
}

/// Why there is no command: what its processes said before they ended.
fn said(channel: BorrowedFd<'_>, init: &[String], command: &[String]) -> Fault {
    loop {
        match wire::receive(channel) {
            Ok(Some((message, _))) if message.tag == wire::TAG_FAILED => {
                let error = io::Error::from_raw_os_error(message.b as i32);
                let (list, index) = match message.a.checked_sub(wire::PROGRAM_STEPS) {
                    Some(index) => (command, index),
                    None => (init, message.a),
                };
                let what = list.get(index as usize).map_or("take a step", String::as_str);
                return fault(&format!("cannot {what}"), &error);
            }
            Ok(Some((message, _))) if message.tag != wire::TAG_ENDED => {}
            _ => return gone(),
        }
    }
}

impl Stopped {
    /// The command, for the supervisor to look at.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.joined.pidfd.as_fd()
    }

    /// Lets the command run its first instruction.
    pub fn resume(self) -> Result<Joined, Fault> {
        // It fails if the command was killed while it was held.
        ptrace::detach(self.joined.command).map_err(|_| gone())?;
        Ok(self.joined)
    }
}

impl Joined {
    /// Readable when the command has ended.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// How the command ended; `None` while it runs.
    pub fn ended(&self) -> Option<End> {
        match wire::receive(self.channel.as_fd()) {
            Ok(Some((message, _))) if message.tag == wire::TAG_ENDED => Some(End::Known(Ended::with(message.a as i32))),
            Ok(Some(_)) => None,
            _ => {
                // The run's program may have killed the command's init, which is no PID 1: then the command still runs.
                self.kill();
                Some(End::Lost)
            }
        }
    }

    /// Kills the command, and waits (a second at most) until it is gone.
    pub fn kill(&self) {
        const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
        // Both fail where the command has ended, which is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&PATIENCE));
    }

    /// Sends a signal to the command's process group.
    pub fn signal(&self, signal: i32) {
        let message = Message {
            tag: wire::TAG_SIGNAL,
            a: signal as u32,
            b: 0,
        };
        // If its init is gone the command is ending anyway.
        let _ = wire::send(self.channel.as_fd(), message, None);
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // It fails where the command has ended, which is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}
