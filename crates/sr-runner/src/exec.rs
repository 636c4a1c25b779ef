//! Joining a run: the command is found in the run's own view, started behind its wall, and let go once the run's
//! supervisor has looked at it and recorded it. Its input and output pass through this process, which ends as it does.

use crate::digests;
use crate::guest_wire::{self, Said};
use crate::helper::Helper;
use crate::stdio::{self, InputPump, OutputPump, Progress};
use crate::store::{RunDir, Store};
use crate::subject::shebang;
use crate::supervise::{BLOCKED, FORWARDED};
use crate::terminal::RawMode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use sr_common::{Code, Fault};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::LimitMechanism;
use sr_evidence::files;
use sr_process::join::{self, End, Handles, Joined, NAMESPACES};
use sr_process::{Ended, Stdio};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// What to join, and with what.
pub struct Joining<'a> {
    pub store: &'a Store,
    pub run: &'a RunDir,
    /// Not empty.
    pub argv: &'a [String],
    /// A terminal of its own instead of pipes.
    pub terminal: bool,
    /// The command that runs safe-run-helper as root, for runs whose groups it made; empty: there is none.
    pub helper: &'a [OsString],
}

/// How the command ended.
#[derive(Debug)]
pub struct ExecOutcome {
    pub status: u8,
    /// For a person.
    pub notes: Vec<String>,
}

/// A run opens its door soon after its program has started.
const SOON: Duration = Duration::from_secs(3);
/// The supervisor hashes the command, if nobody has yet, before it answers.
const LONG: Duration = Duration::from_secs(60);
/// So many requests to end that are ignored.
const PATIENCE: u32 = 3;
/// As deep as the kernel follows interpreters that are scripts.
const MOST_INTERPRETERS: usize = 4;

const SIGKILL: i32 = 9;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

fn fault(path: &str, found: impl Into<String>, remedy: &str) -> Fault {
    Fault::new(Code::Run001, path, found, remedy)
}

fn failed(what: &str, error: impl Into<io::Error>) -> Fault {
    fault(
        "exec.join",
        format!("{what}: {}", error.into()),
        "see `safe-run runs`: does the run go on?",
    )
}

/// Runs a command in the sandbox of a run, to its end or the run's.
pub fn exec(joining: &Joining<'_>) -> Result<ExecOutcome, Fault> {
    let signals = sr_kernel::process::signal_descriptor(&[&FORWARDED[..], &BLOCKED[..]].concat())
        .map_err(|e| failed("signals", e))?;
    let supervisor = Supervisor::reach(joining)?;
    let Entrance {
        mut bundle,
        root,
        handles,
    } = supervisor.entrance()?;
    let found = find(&bundle, &root, joining.argv)?;
    for file in std::iter::once(&found.executable).chain(found.script.as_ref().map(|(_, file)| file)) {
        // The supervisor will ask for the same digest; what can be remembered is remembered from here on.
        let stat = rustix::fs::fstat(file).map_err(|e| failed("the command", e))?;
        digests::of_file(joining.store, file, &stat, &mut || false)
            .map_err(|e| failed("the command cannot be hashed", e))?;
    }
    bundle.process_plan.argv.clone_from(&found.argv);
    if let Some(cpu) = &bundle.resources_plan.cpu
        && matches!(cpu.mechanism, LimitMechanism::Affinity { .. })
    {
        // The same CPUs as the program's: the first ones of those that the supervisor may use.
        rustix::thread::sched_getaffinity(Some(supervisor.pid))
            .and_then(|cpus| rustix::thread::sched_setaffinity(None, &cpus))
            .map_err(|e| failed("the run's CPUs cannot be used", e))?;
    }

    let helper = match bundle.resources_plan.needs_helper() {
        true => Some(Helper::for_guest(joining.helper)?),
        false => None,
    };
    let (stdio, ours) = if joining.terminal {
        (Stdio::Terminal, None)
    } else {
        let (inside, ours) = stdio::pipes(&bundle.process_plan.user).map_err(|e| failed("pipes", e))?;
        (Stdio::Pipes(inside), Some(ours))
    };
    let mut close = vec![supervisor.socket.as_fd(), root.as_fd(), signals.as_fd()];
    close.extend(ours.iter().flatten().map(AsFd::as_fd));
    if let Some(Ok(socket)) = helper.as_ref().map(Helper::socket) {
        close.push(socket);
    }
    let enter = |process: BorrowedFd<'_>| match &helper {
        Some(helper) => helper.join(&joining.run.id, process),
        None => Ok(()),
    };
    let stopped = join::join(&bundle, &handles, &found.executable, &stdio, &close, enter)?;
    drop((stdio, handles, root, helper));
    supervisor.ready(stopped.pidfd(), stopped.listener.as_ref(), found.script.as_ref())?;

    let terminal = match &stopped.terminal {
        Some(master) => Some(master.try_clone().map_err(|e| failed("a pty", e))?),
        None => None,
    };
    let pumps = match (&terminal, ours) {
        (Some(master), _) => Pumps::of_terminal(master),
        (None, Some(ours)) => Pumps::of_pipes(ours),
        (None, None) => Err(io::Error::other("neither pipes nor a terminal")),
    };
    let mut pumps = pumps.map_err(|e| failed("the command's input and output", e))?;
    let joined = stopped.resume()?;
    let stdin = rustix::stdio::stdin();
    let raw = terminal.as_ref().and_then(|_| RawMode::enter(stdin));
    let limit = Limit {
        bytes: bundle.resources_plan.output.0,
        kills: bundle.resources_plan.output_kills,
    };
    let end = attend(&joined, &mut pumps, &signals, terminal.as_ref(), &limit);
    pumps.settle(limit.bytes);
    drop(raw);
    let mut notes = Vec::new();
    if pumps.cut {
        notes.push(format!(
            "output beyond {} was left out (resources.output)",
            bundle.resources_plan.output
        ));
    }
    match (supervisor.tell_end(end), end) {
        (true, _) => notes.push("the run has ended, and the command with it".into()),
        (false, End::Lost) => notes.push("the command was killed, and its init with it".into()),
        (false, End::Known(_)) => {}
    }
    Ok(ExecOutcome {
        status: status(end),
        notes,
    })
}

fn status(end: End) -> u8 {
    let status = match end {
        End::Known(Ended { status, .. }) => status,
        End::Lost => SIGKILL,
    };
    let signal = status & 0x7f;
    let status = if signal == 0 {
        (status >> 8) & 0xff
    } else {
        128 + signal
    };
    u8::try_from(status).unwrap_or(255)
}

/// The connection to the run's supervisor.
struct Supervisor {
    socket: OwnedFd,
    pid: Pid,
}

struct Entrance {
    bundle: CompileBundle,
    /// Of the view, for looking up only.
    root: OwnedFd,
    handles: Handles,
}

fn within(limit: Duration) -> Timespec {
    Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    }
}

impl Supervisor {
    fn reach(joining: &Joining<'_>) -> Result<Supervisor, Fault> {
        let ended = || {
            fault(
                "run",
                format!("run {} has ended", joining.run.id.short()),
                "a command can only join a sandbox that is running; start one with safe-run run",
            )
        };
        let dir = files::open_dir(&joining.run.path).map_err(|e| failed("the run's folder", e))?;
        let door = guest_wire::door(dir.as_fd()).map_err(|e| failed("the run's socket", e))?;
        let until = Instant::now() + SOON;
        loop {
            if !joining.store.is_running(&joining.run.id) {
                return Err(ended());
            }
            let socket = guest_wire::socket().map_err(|e| failed("a socket", e))?;
            match rustix::net::connect(&socket, &door) {
                Ok(()) => {
                    let peer = rustix::net::sockopt::socket_peercred(&socket).map_err(|e| failed("the peer", e))?;
                    if peer.uid != rustix::process::geteuid() {
                        return Err(fault(
                            "exec.user",
                            "only the user who started this run may join it",
                            "use that user's account",
                        ));
                    }
                    return Ok(Supervisor { socket, pid: peer.pid });
                }
                // Not open yet, or its queue is full.
                Err(Errno::NOENT | Errno::CONNREFUSED | Errno::AGAIN) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(e) => {
                    return Err(fault(
                        "exec.join",
                        format!(
                            "the supervisor of run {} cannot be reached: {e}",
                            joining.run.id.short()
                        ),
                        "a run that is starting or ending cannot be joined, nor one on a kernel of its own (gvisor, microvm), nor one without a \
                         supervisor: `safe-run gc`",
                    ));
                }
            }
        }
    }

    /// The next thing that the supervisor says.
    fn hear(&self, limit: Duration) -> Result<(Said, Vec<OwnedFd>), Fault> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let silent = || fault("exec.join", "the run's supervisor does not answer", "try again");
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&within(left))) {
                Ok(0) => return Err(silent()),
                Err(Errno::INTR) => continue,
                Err(e) => return Err(failed("the run's supervisor", e)),
                Ok(_) => {}
            }
            match guest_wire::receive(self.socket.as_fd()) {
                Ok(Some((said, fds))) => return Ok((said.accepted()?, fds)),
                Ok(None) => return Err(failed("the run's supervisor", io::Error::other("it has left"))),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(failed("the run's supervisor", e)),
            }
        }
    }

    fn entrance(&self) -> Result<Entrance, Fault> {
        let (said, fds) = self.hear(LONG)?;
        let Said::Welcome {
            landlock,
            cgroup,
            tasks,
        } = said
        else {
            return Err(failed(
                "the run's supervisor",
                io::Error::other("it said what was not asked"),
            ));
        };
        let mut fds = fds.into_iter();
        let missing = || failed("the run's supervisor", io::Error::other("it gave too few descriptors"));
        let (Some(plan), Some(root)) = (fds.next(), fds.next()) else {
            return Err(missing());
        };
        let namespaces: Vec<OwnedFd> = fds.by_ref().take(NAMESPACES.len()).collect();
        let landlock = landlock.then(|| fds.next().ok_or_else(missing)).transpose()?;
        let cgroup = cgroup.then(|| fds.next().ok_or_else(missing)).transpose()?;
        let handles = Handles {
            namespaces,
            landlock,
            cgroup,
            tasks: fds.collect(),
        };
        if handles.namespaces.len() != NAMESPACES.len() || handles.tasks.len() != tasks {
            return Err(missing());
        }
        let mut plan = File::from(plan);
        let mut text = Vec::new();
        plan.rewind()
            .and_then(|()| plan.read_to_end(&mut text))
            .map_err(|e| failed("the plan", e))?;
        let bundle: CompileBundle = serde_json::from_slice(&text).map_err(|e| failed("the plan", e))?;
        if bundle.filesystem_plan.landlock.is_some() != handles.landlock.is_some() {
            return Err(missing());
        }
        Ok(Entrance { bundle, root, handles })
    }

    /// Shows the supervisor the command and waits until it may go.
    fn ready(
        &self,
        pidfd: BorrowedFd<'_>,
        listener: Option<&OwnedFd>,
        script: Option<&(String, File)>,
    ) -> Result<(), Fault> {
        let said = Said::Ready {
            listener: listener.is_some(),
            script: script.map(|(path, _)| path.clone()),
        };
        let mut fds = vec![pidfd];
        fds.extend(listener.map(AsFd::as_fd));
        fds.extend(script.map(|(_, file)| file.as_fd()));
        guest_wire::send(self.socket.as_fd(), &said, &fds).map_err(|e| failed("the run's supervisor", e))?;
        match self.hear(LONG)? {
            (Said::Go, _) => Ok(()),
            _ => Err(failed(
                "the run's supervisor",
                io::Error::other("it said what was not asked"),
            )),
        }
    }

    /// Has the end recorded before this process ends too. `true`: the run has ended.
    fn tell_end(&self, end: End) -> bool {
        let said = match end {
            End::Known(Ended { status, .. }) => Said::Ended { status },
            End::Lost => Said::Lost,
        };
        // If it cannot be told, the supervisor has closed, and may have said why.
        let _ = guest_wire::send(self.socket.as_fd(), &said, &[]);
        // It answers by closing.
        let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&within(SOON)));
        matches!(guest_wire::receive(self.socket.as_fd()), Ok(Some((Said::RunEnded, _))))
    }
}

/// The command as it is in the view.
struct Found {
    argv: Vec<String>,
    executable: File,
    /// Its path in the view.
    script: Option<(String, File)>,
}

fn command_fault(found: impl Into<String>, remedy: &str) -> Fault {
    fault("runtime.command", found, remedy)
}

/// Finds the command by the sandbox's own PATH, in the sandbox's own files.
fn find(bundle: &CompileBundle, root: &OwnedFd, argv: &[String]) -> Result<Found, Fault> {
    let plan = &bundle.process_plan;
    let written = argv.first().map_or("", String::as_str);
    let mut argv = argv.to_vec();
    let (mut path, mut executable) = if written.contains('/') {
        let path = absolute(written, &plan.workdir);
        let file =
            open(root, &path).map_err(|e| command_fault(format!("{written}: {e}"), "name a program of the view"))?;
        (path, file)
    } else {
        let dirs = plan.env.get("PATH").map_or("", String::as_str).split(':');
        let found = dirs
            .filter(|dir| !dir.is_empty() && !written.is_empty())
            .find_map(|dir| {
                let path = absolute(&format!("{dir}/{written}"), &plan.workdir);
                open(root, &path).ok().map(|file| (path, file))
            });
        found.ok_or_else(|| {
            command_fault(
                format!("command not found in the sandbox: {written}"),
                "check the name; only what the run's view holds can be started there",
            )
        })?
    };
    let mut script = None;
    for depth in 0.. {
        let line =
            shebang::of_file(&executable).map_err(|e| command_fault(format!("{path}: {e}"), "make it readable"))?;
        let Some(line) = line else { break };
        let line =
            line.map_err(|e| command_fault(format!("the #! line of {path} is malformed: {e:?}"), "correct it"))?;
        if depth == MOST_INTERPRETERS {
            return Err(command_fault(
                format!("more than {MOST_INTERPRETERS} interpreters, each a script, for {path}"),
                "name the last interpreter first",
            ));
        }
        let utf8 = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec())
                .map_err(|_| command_fault(format!("the #! line of {path} is not UTF-8"), "correct it"))
        };
        let interpreter = absolute(&utf8(line.interpreter.as_os_str().as_bytes())?, &plan.workdir);
        let mut words = vec![interpreter.clone()];
        words.extend(line.argument.as_deref().map(&utf8).transpose()?);
        // As the kernel would have it: the script's path takes the place of its name.
        if let Some(first) = argv.first_mut() {
            first.clone_from(&path);
        }
        argv.splice(..0, words);
        let file = open(root, &interpreter)
            .map_err(|e| command_fault(format!("the interpreter {interpreter}: {e}"), "name one of the view"))?;
        let script_file = std::mem::replace(&mut executable, file);
        script.get_or_insert((path, script_file));
        path = interpreter;
    }
    Ok(Found {
        argv,
        executable,
        script,
    })
}

fn absolute(path: &str, workdir: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{}/{path}", workdir.trim_end_matches('/'))
    }
}

/// Opens a program of the view, never anything outside of it, whatever links the run's program made there.
fn open(root: &OwnedFd, path: &str) -> io::Result<File> {
    // A FIFO would otherwise be waited for, a terminal taken.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(io::Error::other("not executable"));
    }
    Ok(File::from(file))
}

struct Limit {
    bytes: u64,
    kills: bool,
}

/// The command's input and output.
struct Pumps {
    input: Option<InputPump>,
    output: Vec<OutputPump>,
    /// Some output was left out.
    cut: bool,
}

impl Pumps {
    fn of_pipes([input, out, err]: [OwnedFd; 3]) -> io::Result<Pumps> {
        Ok(Pumps {
            input: InputPump::new(rustix::stdio::stdin(), input).ok(),
            output: vec![
                OutputPump::new(out, rustix::stdio::stdout())?,
                OutputPump::new(err, rustix::stdio::stderr())?,
            ],
            cut: false,
        })
    }

    fn of_terminal(master: &OwnedFd) -> io::Result<Pumps> {
        let stdin = rustix::stdio::stdin();
        if let Ok(size) = rustix::termios::tcgetwinsize(stdin) {
            rustix::termios::tcsetwinsize(master, size)?;
        }
        Ok(Pumps {
            output: vec![OutputPump::new(master.try_clone()?, rustix::stdio::stdout())?],
            input: Some(InputPump::new(stdin, master.try_clone()?)?),
            cut: false,
        })
    }

    fn turn(&mut self, index: usize, limit: u64) -> Progress {
        let allowance = limit.saturating_sub(self.output.iter().map(OutputPump::passed).sum());
        let progress = self
            .output
            .get_mut(index)
            .map_or(Progress::Nothing, |pump| pump.turn(allowance));
        self.cut |= progress == Progress::OverLimit;
        progress
    }

    /// Passes on what the command had written. What it left running in the sandbox may hold its pipes for as long as the
    /// run goes on, and is not waited for.
    fn settle(&mut self, limit: u64) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let waiting = self.output.iter().any(OutputPump::is_waiting);
            let mut fds = Vec::new();
            let mut pumps = Vec::new();
            for (index, pump) in self.output.iter().enumerate() {
                if let Some(interest) = pump.interest() {
                    fds.push(interest);
                    pumps.push(index);
                }
            }
            let pause = if waiting {
                Duration::from_millis(100)
            } else {
                Duration::ZERO
            };
            let some = poll(&mut fds, Some(&within(pause))).unwrap_or(0) > 0;
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            for (index, _) in pumps.into_iter().zip(ready).filter(|(_, ready)| *ready) {
                self.turn(index, limit);
            }
            if (!some && !waiting) || Instant::now() > until {
                return;
            }
        }
    }
}

/// Moves input and output and passes signals on until the command has ended.
fn attend(joined: &Joined, pumps: &mut Pumps, signals: &OwnedFd, terminal: Option<&OwnedFd>, limit: &Limit) -> End {
    let mut asked = 0;
    loop {
        let mut fds = vec![
            PollFd::from_borrowed_fd(joined.channel(), PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        let mut outputs = Vec::new();
        for (index, pump) in pumps.output.iter().enumerate() {
            if let Some(interest) = pump.interest() {
                fds.push(interest);
                outputs.push(index);
            }
        }
        let input = pumps.input.as_ref().and_then(InputPump::interest);
        let input_at = input.is_some().then_some(fds.len());
        fds.extend(input);
        // A background job asks again for its terminal now and then.
        let woken = poll(&mut fds, Some(&within(Duration::from_millis(500))));
        if woken.is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let fired = |at: usize| ready.get(at).copied().unwrap_or(false);
        if let Some(input) = &mut pumps.input {
            if input_at.is_some_and(fired) {
                input.turn();
            }
            if woken == Ok(0) {
                input.tick();
            }
        }
        for (at, index) in outputs.into_iter().enumerate() {
            if fired(at + 2) && pumps.turn(index, limit.bytes) == Progress::OverLimit && limit.kills {
                joined.signal(SIGKILL);
            }
        }
        if fired(1) {
            while let Some(signal) = sr_kernel::process::next_signal(signals.as_fd()) {
                if signal == SIGWINCH {
                    if let Some(master) = terminal
                        && let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin())
                    {
                        // A size that cannot be passed on is only ugly.
                        let _ = rustix::termios::tcsetwinsize(master, size);
                    }
                } else if FORWARDED.contains(&signal) {
                    joined.signal(signal);
                    asked += u32::from([SIGINT, SIGTERM].contains(&signal));
                    if asked >= PATIENCE {
                        // Not by its init, which the run's program may have stopped.
                        joined.kill();
                        return End::Known(Ended::with(SIGKILL));
                    }
                }
            }
        }
        if fired(0)
            && let Some(end) = joined.ended()
        {
            return end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_a_shell() {
        let of = |wait_status| status(End::Known(Ended::with(wait_status)));
        assert_eq!((of(7 << 8), of(15), of(11 | 0x80)), (7, 143, 139));
        assert_eq!(status(End::Lost), 137);
    }

    #[test]
    fn only_programs_of_the_root_are_opened() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, mode: u32| {
            std::fs::write(dir.path().join(name), "#!/x\n").unwrap();
            std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("x", 0o755);
        put("data", 0o644);
        symlink("/x", dir.path().join("link")).unwrap();
        symlink("/bin/sh", dir.path().join("out")).unwrap();
        symlink("../../../../../../bin/sh", dir.path().join("up")).unwrap();
        let root = files::open_dir(dir.path()).unwrap();
        assert!(open(&root, "/x").is_ok() && open(&root, "/link").is_ok());
        for refused in ["/data", "/out", "/up", "/", "/none"] {
            assert!(open(&root, refused).is_err(), "{refused}");
        }
    }
}
