//! Starting a sandbox: the socket, the clone, the id maps, and the way of the program to its exec stop.

use crate::program::{self, Ends, Given};
use crate::view::{self, SLOT_EXECUTABLE, SLOT_LANDLOCK, SLOT_PTY, SLOT_SCRIPT};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sr_common::{Code, Fault};
use sr_compiler::bundle::{CompileBundle, IdMap};
use sr_kernel::clone::{self, Child, SANDBOX_NAMESPACES};
use sr_kernel::idmap::{self, MapLine};
use sr_kernel::ptrace;
use sr_kernel::step::{Fd, Step};
use sr_kernel::wire::{self, Message};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

pub(crate) const CAP_KILL: u64 = 1 << 5;

/// The program's ends of its stdin, stdout and stderr.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes that the supervisor made.
    Pipes([OwnedFd; 3]),
    /// A pty in the sandbox's own devpts; the supervisor gets its master.
    Terminal,
}

/// What a start needs besides the bundle.
pub struct Options<'a> {
    /// Folder with one `N/upper` and `N/work` for each captured layer, where the plan keeps them in the store.
    pub layers: Option<&'a Path>,
    pub stdio: Stdio,
    /// The v2 group into which the sandbox is born.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Open `tasks` files of the v1 groups that the first process joins before it does anything else.
    pub join: Vec<OwnedFd>,
}

/// A sandbox that is built; nothing of the program runs.
#[derive(Debug)]
pub struct Prepared {
    init: Child,
    channel: OwnedFd,
    steps: Steps,
    traced: bool,
    /// Whether the filter tells of calls.
    told: bool,
    /// The file that will be executed, as opened in the view.
    pub executable: File,
    pub script: Option<File>,
    /// The writable tmpfs: `uN` are the captured layers held on it, `sN` the scratch directories.
    pub writable: OwnedFd,
    /// The pty's master.
    pub terminal: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
}

/// Kept for the words of an error.
#[derive(Debug)]
struct Steps {
    init: Vec<String>,
    program: Vec<String>,
}

/// The program's image is in place, its first instruction is not yet run.
#[derive(Debug)]
pub struct Stopped {
    init: Child,
    channel: OwnedFd,
    traced: bool,
    listener: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
    pub program: i32,
}

/// The program runs.
#[derive(Debug)]
pub struct Running {
    init: Child,
    channel: OwnedFd,
    listener: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
    pub program: i32,
}

/// How the program ended: its wait status (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub status: i32,
}

/// Builds the sandbox up to the point where only the go is missing.
pub fn prepare(bundle: &CompileBundle, options: Options<'_>) -> Result<Prepared, Fault> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| init_fault("launch.prepare.socket", "cannot make a socket pair", &e.into()))?;
    let channel = theirs.as_raw_fd();
    let process = &bundle.process_plan;
    let built = view::build(&bundle.filesystem_plan, process, &options, channel)?;

    let range = matches!(process.user.map, IdMap::Range { .. });
    let mut steps = vec![Step::Await { channel }];
    steps.extend(options.join.iter().map(|tasks| Step::JoinGroup {
        tasks: tasks.as_raw_fd(),
    }));
    steps.push(Step::DieWithParent);
    if range {
        steps.push(Step::Identity {
            uid: 0,
            gid: 0,
            clear_groups: true,
        });
        // Changing identity clears it (prctl(2)).
        steps.push(Step::DieWithParent);
    }
    steps.push(Step::NewSession);
    steps.push(Step::UnshareCgroup);
    steps.extend(built.steps);
    if bundle.filesystem_plan.landlock.is_some() {
        // A command that joins later enters this very ruleset: by then the program may have moved what its paths name.
        steps.push(Step::Send {
            fd: Fd::Slot(SLOT_LANDLOCK),
            channel,
            tag: wire::TAG_LANDLOCK,
        });
    }
    steps.push(Step::Hostname(view::c_string(&process.hostname)?));
    let ends = match &options.stdio {
        Stdio::Pipes(fds) => Ends {
            fds: [0, 1, 2].map(|i: usize| Fd::Inherited(fds[i].as_raw_fd())),
            terminal: false,
        },
        Stdio::Terminal => {
            steps.push(Step::OpenPty {
                channel,
                slave: SLOT_PTY,
            });
            Ends {
                fds: [Fd::Slot(SLOT_PTY); 3],
                terminal: true,
            }
        }
    };
    if let Some(script) = &process.script {
        let path = view::c_string(script)?;
        steps.push(Step::OpenAndSend {
            path,
            channel,
            tag: wire::TAG_SCRIPT,
            slot: SLOT_SCRIPT,
        });
    }
    let path = view::c_string(&process.executable)?;
    steps.push(Step::OpenAndSend {
        path,
        channel,
        tag: wire::TAG_EXECUTABLE,
        slot: SLOT_EXECUTABLE,
    });
    steps.push(Step::Await { channel });
    steps.push(Step::NotDumpable);
    let program = program::steps(bundle, &ends, &Given::OF_VIEW, channel)?;
    let words = Steps {
        program: program.iter().map(Step::describe).collect(),
        init: steps.iter().map(Step::describe).collect(),
    };
    steps.push(Step::Spawn { program });
    steps.push(Step::Init {
        channel,
        filter: sr_kernel::seccomp::allow_list(&sr_kernel::process::INIT_CALLS),
        keep_capabilities: if range { CAP_KILL } else { 0 },
    });

    let init = clone::spawn(SANDBOX_NAMESPACES, options.cgroup, &steps, channel, &[ours.as_raw_fd()]).map_err(|e| {
        let mut fault = init_fault(
            "launch.preflight.namespaces",
            "cannot make the sandbox's namespaces",
            &e,
        );
        fault.remedy = "see `safe-run doctor`: user namespaces may be switched off or used up on this host".into();
        fault
    })?;
    drop(theirs);
    drop(built.held);
    let guard = KillOnDrop(Some(init));
    let pid = guard.pid();
    let (uids, gids) = maps(&process.user.map, process.user.inside);
    idmap::write_maps(pid, &uids, &gids, !range)
        .map_err(|e| init_fault("launch.prepare.idMaps", "cannot write the id maps", &e))?;
    let traced = process.posture_at_exec;
    if traced {
        ptrace::seize_for_fork(pid).map_err(|e| {
            init_fault(
                "launch.preflight.ptrace",
                "cannot trace the sandbox's first process",
                &e,
            )
        })?;
    }
    let socket = ours.as_fd();
    go(socket)?;
    let mut arrived = Arrived::default();
    while arrived.executable.is_none() {
        match wire::receive(socket) {
            Ok(Some((message, fd))) => arrived.take(message, fd, &words)?,
            Ok(None) => return Err(gone()),
            Err(e) => {
                return Err(init_fault(
                    "launch.prepare",
                    "the sandbox's first process said nothing",
                    &e,
                ));
            }
        }
    }
    let (Some(executable), Some(writable)) = (arrived.executable, arrived.writable) else {
        return Err(gone());
    };
    Ok(Prepared {
        init: guard.release()?,
        channel: ours,
        steps: words,
        traced,
        told: bundle.syscalls_plan.conditional.iter().any(|rule| rule.told),
        executable,
        script: arrived.script,
        writable,
        terminal: arrived.terminal,
        landlock: arrived.landlock,
    })
}

#[derive(Default)]
struct Arrived {
    executable: Option<File>,
    script: Option<File>,
    writable: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
}

impl Arrived {
    fn take(&mut self, message: Message, fd: Option<OwnedFd>, words: &Steps) -> Result<(), Fault> {
        match (message.tag, fd) {
            (wire::TAG_EXECUTABLE, Some(fd)) => self.executable = Some(File::from(fd)),
            (wire::TAG_SCRIPT, Some(fd)) => self.script = Some(File::from(fd)),
            (wire::TAG_WRITABLE, Some(fd)) => self.writable = Some(fd),
            (wire::TAG_PTY, Some(fd)) => self.terminal = Some(fd),
            (wire::TAG_LANDLOCK, Some(fd)) => self.landlock = Some(fd),
            (wire::TAG_FAILED, _) => return Err(words.fault(message)),
            _ => return Err(gone()),
        }
        Ok(())
    }
}

impl Steps {
    fn fault(&self, message: Message) -> Fault {
        let error = io::Error::from_raw_os_error(message.b as i32);
        let in_program = message.a >= wire::PROGRAM_STEPS;
        let (list, index) = if in_program {
            (&self.program, message.a - wire::PROGRAM_STEPS)
        } else {
            (&self.init, message.a)
        };
        let what = list.get(index as usize).map_or("a step of the sandbox", String::as_str);
        if what == "execute the program" {
            let remedy = match message.b as i32 {
                libc_errno::ENOENT => "its dynamic loader is not in the view: is it built for another system?",
                libc_errno::ENOEXEC => "it is neither a program of this machine nor a script with a `#!` line",
                libc_errno::EACCES => "make the file executable for others: the sandbox's user is not its owner",
                _ => "check the file and its permissions",
            };
            return Fault::new(Code::Run002, "launch.exec", format!("cannot {what}: {error}"), remedy);
        }
        let code = if in_program { Code::Run002 } else { Code::Run001 };
        let remedy = if what.contains("proc file system") {
            "this host shows only a masked /proc (a container?): run with an unmasked /proc, see `safe-run doctor`"
        } else {
            "see `safe-run doctor` for what this host can give"
        };
        Fault::new(code, "launch.prepare", format!("cannot {what}: {error}"), remedy)
    }
}

/// The few errno values that get words of their own.
mod libc_errno {
    pub const ENOENT: i32 = 2;
    pub const ENOEXEC: i32 = 8;
    pub const EACCES: i32 = 13;
}

fn maps(map: &IdMap, inside: u32) -> (Vec<MapLine>, Vec<MapLine>) {
    match *map {
        IdMap::Single { host_uid, host_gid } => {
            let line = |outside| {
                vec![MapLine {
                    inside,
                    outside,
                    count: 1,
                }]
            };
            (line(host_uid), line(host_gid))
        }
        IdMap::Range { base, count } => {
            let line = vec![MapLine {
                inside: 0,
                outside: base,
                count,
            }];
            (line.clone(), line)
        }
    }
}

pub(crate) fn go(socket: BorrowedFd<'_>) -> Result<(), Fault> {
    wire::send(
        socket,
        Message {
            tag: wire::TAG_GO,
            a: 0,
            b: 0,
        },
        None,
    )
    .map_err(|e| init_fault("launch.prepare", "the sandbox's first process is gone", &e))
}

fn gone() -> Fault {
    Fault::new(
        Code::Run001,
        "launch.prepare",
        "the sandbox's first process ended before it was ready",
        "it may have been killed from outside, or by the memory limit of the group this runs in",
    )
}

pub(crate) fn init_fault(path: &str, what: &str, error: &io::Error) -> Fault {
    Fault::new(
        Code::Run001,
        path,
        format!("{what}: {error}"),
        "see `safe-run doctor` for what this host can give",
    )
}

/// Ends the sandbox if its building is given up.
struct KillOnDrop(Option<Child>);

impl KillOnDrop {
    fn pid(&self) -> i32 {
        self.0.as_ref().map_or(-1, |c| c.pid)
    }

    fn release(mut self) -> Result<Child, Fault> {
        self.0.take().ok_or_else(gone)
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            sr_kernel::process::kill_and_reap(child);
        }
    }
}

impl Prepared {
    /// Lets the program's process be made and brings it to its exec stop.
    pub fn start(self) -> Result<Stopped, Fault> {
        let Prepared {
            init,
            channel,
            steps,
            traced,
            told,
            landlock,
            ..
        } = self;
        let guard = KillOnDrop(Some(init));
        go(channel.as_fd())?;
        let failed = |e: io::Error| {
            init_fault(
                "launch.preflight.ptrace",
                "cannot follow the program to its exec stop",
                &e,
            )
        };
        let said = || loop {
            match wire::receive(channel.as_fd()) {
                // The filter was in place when the exec failed.
                Ok(Some((message, _))) if message.tag == wire::TAG_LISTENER => {}
                Ok(Some((message, _))) if message.tag == wire::TAG_FAILED => break steps.fault(message),
                _ => break gone(),
            }
        };
        let listener_of = |told: bool| match told {
            false => Ok(None),
            true => match wire::receive(channel.as_fd()) {
                Ok(Some((message, Some(fd)))) if message.tag == wire::TAG_LISTENER => Ok(Some(fd)),
                Ok(Some((message, _))) if message.tag == wire::TAG_FAILED => Err(steps.fault(message)),
                _ => Err(gone()),
            },
        };
        let listener;
        let program = if traced {
            let Some(program) = ptrace::to_fork(guard.pid()).map_err(failed)? else {
                return Err(said());
            };
            ptrace::detach(guard.pid()).map_err(failed)?;
            if !ptrace::to_exec(program).map_err(failed)? {
                return Err(said());
            }
            listener = listener_of(told)?;
            program
        } else {
            listener = listener_of(told)?;
            match wire::receive(channel.as_fd()) {
                Ok(Some((message, _))) if message.tag == wire::TAG_HANDSHAKE => {}
                Ok(Some((message, _))) if message.tag == wire::TAG_FAILED => return Err(steps.fault(message)),
                _ => return Err(gone()),
            }
            only_child(guard.pid())?
        };
        Ok(Stopped {
            init: guard.release()?,
            channel,
            traced,
            listener,
            landlock,
            program,
        })
    }

    /// Gives the sandbox up.
    pub fn abandon(self) {
        sr_kernel::process::kill_and_reap(&self.init);
    }
}

/// The program's pid as this namespace counts it: init has one child.
fn only_child(init: i32) -> Result<i32, Fault> {
    let path = format!("/proc/{init}/task/{init}/children");
    let text =
        std::fs::read_to_string(&path).map_err(|e| init_fault("launch.posture", &format!("cannot read {path}"), &e))?;
    text.split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(gone)
}

impl Stopped {
    pub fn init_pid(&self) -> i32 {
        self.init.pid
    }

    /// Lets the program run its first instruction.
    pub fn resume(self) -> Result<Running, Fault> {
        if self.traced {
            if let Err(e) = ptrace::detach(self.program) {
                let fault = init_fault("launch.go", "cannot let the program go", &e);
                self.abandon();
                return Err(fault);
            }
        } else {
            go(self.channel.as_fd())?;
        }
        Ok(Running {
            init: self.init,
            channel: self.channel,
            listener: self.listener,
            landlock: self.landlock,
            program: self.program,
        })
    }

    /// Kills the sandbox before the program's first instruction.
    pub fn abandon(self) {
        if self.traced
            && let Some(program) = rustix::process::Pid::from_raw(self.program)
        {
            // Its tracer must reap it first: until then the end of init waits for it, and this process for init.
            let _ = rustix::process::kill_process(program, rustix::process::Signal::KILL);
            while !matches!(ptrace::wait(self.program), Ok(ptrace::Stop::Gone(_)) | Err(_)) {}
        }
        sr_kernel::process::kill_and_reap(&self.init);
    }
}

impl Running {
    pub fn init_pid(&self) -> i32 {
        self.init.pid
    }

    /// Readable when the filter tells of a denied call; `None` where it tells of none.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// The Landlock ruleset that the program entered.
    pub fn landlock(&self) -> Option<BorrowedFd<'_>> {
        self.landlock.as_ref().map(AsFd::as_fd)
    }

    /// Readable when init has something to say or is gone.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// What init said: `Some` once the program has ended or init is gone.
    pub fn ended(&self) -> io::Result<Option<Ended>> {
        match wire::receive(self.channel.as_fd()) {
            Ok(Some((message, _))) if message.tag == wire::TAG_ENDED => Ok(Some(Ended {
                status: message.a as i32,
            })),
            // A failed exec at a handshake start ends the same way as a program that exits with 127.
            Ok(Some(_)) => Ok(None),
            // Init was killed, by us or by the kernel.
            Ok(None) => Ok(Some(Ended { status: 9 })),
            Err(e) if e.raw_os_error() == Some(104) => Ok(Some(Ended { status: 9 })),
            Err(e) => Err(e),
        }
    }

    /// Sends a signal to the program's process group, by way of init.
    pub fn signal(&self, signal: i32) {
        // If init is gone the run is ending anyway.
        let _ = wire::send(
            self.channel.as_fd(),
            Message {
                tag: wire::TAG_SIGNAL,
                a: signal as u32,
                b: 0,
            },
            None,
        );
    }

    /// Kills every process of the sandbox: with its init, the pid namespace ends.
    pub fn kill(&self) {
        // Fails only if it is gone already.
        let _ = rustix::process::pidfd_send_signal(&self.init.pidfd, rustix::process::Signal::KILL);
    }

    /// Kills what is left, waits until every process of the namespace is gone, and gives the CPU time used, in
    /// microseconds, as the kernel accounted it to init.
    pub fn reap(self) -> u64 {
        self.kill();
        sr_kernel::process::reap_with_usage(self.init.pid)
    }
}
