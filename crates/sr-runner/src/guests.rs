//! Commands that join a run, from its supervisor's side. Who joins starts the command; the supervisor hands out what the
//! sandbox is entered by, looks at the command at its exec stop as it looked at the program, records it in the run's
//! chain, and only then lets it go. It starts nothing itself: it holds a key, which no process inside may inherit.

use crate::broker::Broker;
use crate::digests;
use crate::guest_wire::{self, DOOR, Said};
use crate::paths::View;
use crate::run::group_posture;
use crate::store::Store;
use crate::told::{self, Told};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{AtFlags, MemfdFlags, Mode};
use rustix::net::{SocketFlags, accept_with, bind, listen};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use sr_common::{Code, Control, Fault, Observed};
use sr_compiler::CompileBundle;
use sr_evidence::log::EventLog;
use sr_evidence::report::FileDigest;
use sr_kernel::cgroup::RunGroup;
use sr_process::Running;
use sr_process::join::NAMESPACES;
use sr_process::posture::{self, Before, Identity, Opener, own_link};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// So many commands may be joined at once.
const MOST: usize = 16;
/// Of a command's arguments, so many bytes are recorded.
const RECORDED: usize = 64 * 1024;
/// What guests are given and measured by.
pub(crate) struct Host<'a> {
    pub bundle: &'a CompileBundle,
    pub store: &'a Store,
    /// The run's folder: nobody joins a run that has none.
    pub dir: Option<BorrowedFd<'a>>,
    pub running: &'a Running,
    pub group: Option<&'a RunGroup>,
    /// What the program's posture was compared with.
    pub before: &'a Before,
    /// The program's, at its own exec stop.
    pub posture: &'a [Observed],
}

pub(crate) struct Guests<'a> {
    host: Host<'a>,
    door: Option<Door>,
    /// On which denied calls are told, of commands and of what they left running.
    listeners: Vec<OwnedFd>,
    guests: Vec<Guest>,
    count: u64,
}

/// Where commands come in, and who opens what is to be seen of them.
struct Door {
    socket: OwnedFd,
    broker: Rc<Broker>,
}

struct Guest {
    id: u64,
    socket: OwnedFd,
    peer: Pid,
    /// Who joins, by a handle that is no other process later.
    joiner: Option<OwnedFd>,
    command: Option<Command>,
}

/// What came with the word that a command is at its exec.
struct Ready {
    listener: bool,
    script: Option<String>,
    fds: Vec<OwnedFd>,
}

/// A command that was let go.
struct Command {
    pid: i32,
    pidfd: OwnedFd,
}

fn fault(path: &str, found: impl Into<String>) -> Fault {
    Fault::new(
        Code::Run001,
        path,
        found,
        "the run goes on; start the command as a run of its own",
    )
}

impl<'a> Guests<'a> {
    pub(crate) fn new(host: Host<'a>) -> Self {
        Guests {
            host,
            door: None,
            listeners: Vec::new(),
            guests: Vec::new(),
            count: 0,
        }
    }

    /// Opens the door. A run that cannot be joined is no worse a run, so a failure is only told to who looks for it.
    pub(crate) fn open(&mut self, broker: Rc<Broker>) {
        self.door = self
            .listening()
            .inspect_err(|e| tracing::debug!("this run cannot be joined: {e}"))
            .map(|socket| Door { socket, broker })
            .ok();
    }

    fn listening(&self) -> rustix::io::Result<OwnedFd> {
        let dir = self.host.dir.ok_or(rustix::io::Errno::NOENT)?;
        let socket = guest_wire::socket()?;
        // The mode of a socket that is not bound yet is that of the name that it gets.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &guest_wire::door(dir)?)?;
        listen(&socket, MOST as i32)?;
        Ok(socket)
    }

    /// What to wait for, `told` of the listeners; [`Guests::turn`] is given what came of it, in the same order.
    pub(crate) fn interest<'b>(&'b self, fds: &mut Vec<PollFd<'b>>, told: PollFlags) {
        let sockets = self.guests.iter().map(|guest| &guest.socket);
        let door = self.door.iter().map(|door| &door.socket);
        let waited = |fd: &'b OwnedFd| PollFd::new(fd, PollFlags::IN);
        fds.extend(door.map(waited));
        fds.extend(self.listeners.iter().map(|fd| PollFd::new(fd, told)));
        fds.extend(sockets.map(waited));
    }

    /// Does what is to be done, without waiting. Gives the denied calls that were told; a fault is one of the evidence.
    pub(crate) fn turn(
        &mut self,
        seen: &[PollFlags],
        log: &mut EventLog,
        view: Option<&View<'_>>,
    ) -> Result<Vec<Told>, Fault> {
        let mut seen = seen.iter().copied();
        let mut next = || seen.next().unwrap_or(PollFlags::empty());
        let knocked = self.door.is_some() && !next().is_empty();
        let mut told = Vec::new();
        let calls = &self.host.bundle.syscalls_plan;
        self.listeners.retain(|listener| {
            let flags = next();
            if flags.contains(PollFlags::IN) {
                told.extend(told::answer_next(listener.as_fd(), calls, view));
                return true;
            }
            // Else every process under that filter is gone.
            flags.is_empty()
        });
        let ready: Vec<bool> = self.guests.iter().map(|_| !next().is_empty()).collect();
        let mut index = 0;
        for ready in ready {
            if ready && !self.hear(index, log)? {
                self.guests.remove(index);
            } else {
                index += 1;
            }
        }
        if knocked {
            self.admit();
        }
        Ok(told)
    }

    /// Whether nobody joins or has joined.
    pub(crate) fn none(&self) -> bool {
        self.guests.is_empty()
    }

    /// The commands that run, for who counts what the sandbox uses.
    pub(crate) fn pids(&self) -> impl Iterator<Item = i32> {
        // By the handle: a number may be another process's by now.
        self.guests
            .iter()
            .filter_map(|guest| pid_of(&guest.command.as_ref()?.pidfd))
    }

    fn admit(&mut self) {
        let Some(door) = &self.door else { return };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = accept_with(&door.socket, flags) else {
            return;
        };
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&socket) else {
            return;
        };
        let outside = self.host.is_outside(peer.pid, &door.broker);
        let welcome = if peer.uid != rustix::process::geteuid() || !outside {
            Err(fault("exec.user", "only the user who started this run may join it"))
        } else if self.guests.len() >= MOST {
            Err(fault(
                "exec.join",
                format!("{MOST} commands have joined this run already"),
            ))
        } else {
            self.host.welcome(socket.as_fd(), &door.broker)
        };
        match welcome {
            Ok(()) => {
                self.count += 1;
                self.guests.push(Guest {
                    id: self.count,
                    socket,
                    peer: peer.pid,
                    joiner: pidfd_open(peer.pid, PidfdFlags::empty()).ok(),
                    command: None,
                });
            }
            // If it does not hear that, it sees the connection end.
            Err(fault) => drop(guest_wire::send(socket.as_fd(), &Said::refused(&fault), &[])),
        }
    }

    /// Takes what guest `index` says. `false`: it is done with.
    fn hear(&mut self, index: usize, log: &mut EventLog) -> Result<bool, Fault> {
        let (Some(guest), Some(door)) = (self.guests.get_mut(index), &self.door) else {
            return Ok(false);
        };
        match (guest_wire::receive(guest.socket.as_fd()), &guest.command) {
            (Err(e), _) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
            (Ok(Some((Said::Ready { listener, script }, fds))), None) => {
                let ready = Ready { listener, script, fds };
                let Some((command, listener)) = self.host.ready(guest, ready, &door.broker, log)? else {
                    return Ok(false);
                };
                guest.command = Some(command);
                self.listeners.extend(listener);
                Ok(true)
            }
            (Ok(Some((Said::Ended { status }, _))), Some(_)) => {
                guest.ended(Some(status), None, log)?;
                Ok(false)
            }
            (Ok(Some((Said::Lost, _))), Some(_)) => {
                guest.ended(None, Some("lost"), log)?;
                Ok(false)
            }
            // It is gone, or talks nonsense: its command goes too.
            (_, Some(_)) => {
                guest.ended(None, Some("joinerGone"), log)?;
                Ok(false)
            }
            (_, None) => Ok(false),
        }
    }

    /// The run has ended, and every command in it with it.
    pub(crate) fn dismiss(mut self, log: &mut EventLog) -> Result<(), Fault> {
        if let (Some(_), Some(dir)) = (self.door.take(), self.host.dir) {
            // A socket that is left is `safe-run gc`'s.
            let _ = rustix::fs::unlinkat(dir, DOOR, AtFlags::empty());
        }
        for guest in &self.guests {
            let socket = guest.socket.as_fd();
            match (guest.command.is_some(), guest_wire::receive(socket)) {
                (true, Ok(Some((Said::Ended { status }, _)))) => guest.ended(Some(status), None, log)?,
                (true, _) => guest.ended(None, Some("runEnded"), log)?,
                (false, _) => {}
            }
            let _ = guest_wire::send(socket, &Said::RunEnded, &[]);
            // It may still hold its command by ptrace: the kernel ends no pid namespace before the last of its processes
            // is reaped, and who is stopped reaps nothing.
            if let Some(joiner) = &guest.joiner {
                let _ = pidfd_send_signal(joiner, Signal::CONT);
            }
        }
        Ok(())
    }
}

impl Guest {
    /// Records the end. A command that does not say how it ended is ended here.
    fn ended(&self, status: Option<i32>, cause: Option<&str>, log: &mut EventLog) -> Result<(), Fault> {
        let Some(command) = &self.command else { return Ok(()) };
        if status.is_none() {
            let _ = pidfd_send_signal(&command.pidfd, Signal::KILL);
        }
        let signal = status.map(|s| s & 0x7f).filter(|s| *s != 0);
        let exit_code = status.filter(|s| s & 0x7f == 0).map(|s| (s >> 8) & 0xff);
        let cause = cause.unwrap_or(if signal.is_some() { "signal" } else { "exit" });
        let data = json!({
            "id": self.id,
            "pid": command.pid,
            "cause": cause,
            "exitCode": exit_code,
            "signal": signal,
            "status": exit_code.or(signal.map(|n| 128 + n)),
        });
        // The status is what who joined saw; the supervisor is not the command's parent.
        log.append("joiner", "exec.ended", data).map(drop)
    }
}

impl Host<'_> {
    /// Whether `peer` is in this process's own user namespace. An ordinary user's sandbox has the same uid: its program
    /// cannot reach the door, and would be sent away.
    fn is_outside(&self, peer: Pid, broker: &Broker) -> bool {
        let peer = broker.open(peer.as_raw_nonzero().get(), "ns/user");
        peer.and_then(|namespace| own_link(&namespace))
            .is_ok_and(|namespace| namespace == self.before.user_namespace())
    }

    /// Hands out what the sandbox is entered by.
    fn welcome(&self, socket: BorrowedFd<'_>, broker: &Broker) -> Result<(), Fault> {
        let failed = |what: &str, e: io::Error| fault("exec.handles", format!("{what}: {e}"));
        let bundle = self.bundle().map_err(|e| failed("the plan", e))?;
        let program = self.running.program;
        let open = |name: &str| {
            let fail = |e| failed(&format!("/proc/{program}/{name}"), e);
            broker.open(program, name).map_err(fail)
        };
        let mut fds = vec![bundle, open("root")?];
        for name in NAMESPACES {
            let namespace = open(&format!("ns/{name}"))?;
            let inode = rustix::fs::fstat(&namespace)
                .map_err(|e| failed(name, e.into()))?
                .st_ino;
            // By the number alone it could be another process by now, or the program may have left for namespaces of its
            // own.
            let launched = format!("{name}:[{inode}] ");
            if !self.posture.iter().any(|line| line.observed.starts_with(&launched)) {
                return Err(fault(
                    "exec.handles",
                    format!("the program's {name} namespace is not the one it was started in"),
                ));
            }
            fds.push(namespace);
        }
        let cgroup = |e: sr_kernel::cgroup::CgroupError| fault("exec.cgroup", e.to_string());
        let tasks = match self.group {
            Some(group) => group.task_files().map_err(cgroup)?,
            None => Vec::new(),
        };
        let group = self.group.and_then(RunGroup::dir_fd);
        let said = Said::Welcome {
            landlock: self.running.landlock().is_some(),
            cgroup: group.is_some(),
            tasks: tasks.len(),
        };
        let mut given: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        given.extend(self.running.landlock());
        given.extend(group);
        given.extend(tasks.iter().map(AsFd::as_fd));
        guest_wire::send(socket, &said, &given).map_err(|e| failed("the handles", e))
    }

    /// The bundle as the run was started with it: the recorded one lacks the values of environment variables.
    fn bundle(&self) -> io::Result<OwnedFd> {
        let memory = rustix::fs::memfd_create("bundle", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(memory);
        file.write_all(&serde_json::to_vec(self.bundle)?)?;
        Ok(file.into())
    }

    /// The command of `guest` is at its exec. Looks, records, lets it go; `None` where it was refused. With the command, on
    /// what its denied calls are told.
    fn ready(
        &self,
        guest: &Guest,
        Ready { listener, script, fds }: Ready,
        broker: &Broker,
        log: &mut EventLog,
    ) -> Result<Option<(Command, Option<OwnedFd>)>, Fault> {
        let mut fds = fds.into_iter();
        let (Some(pidfd), listener) = (fds.next(), listener.then(|| fds.next()).flatten()) else {
            return Ok(None);
        };
        let script = script.zip(fds.next().map(File::from));
        let looked = self.look(&pidfd, guest, script, broker);
        let result = looked.and_then(|(pid, mut data, posture)| {
            let holds = posture::first_mismatch(&posture);
            if let Some(map) = data.as_object_mut() {
                map.insert("posture".into(), json!(posture));
            }
            match holds {
                None => Ok((pid, data)),
                Some(mut fault) => {
                    fault.path = fault.path.replacen("launch.", "exec.", 1);
                    Err(fault)
                }
            }
        });
        match result {
            Ok((pid, data)) => {
                log.append("kernel", "exec.started", data)?;
                // If who joins is gone, so is its tracee, and the connection's end is what comes next.
                let _ = guest_wire::send(guest.socket.as_fd(), &Said::Go, &[]);
                Ok(Some((Command { pid, pidfd }, listener)))
            }
            Err(refused) => {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                let _ = guest_wire::send(guest.socket.as_fd(), &Said::refused(&refused), &[]);
                let data = json!({"id": guest.id, "path": refused.path, "found": refused.found});
                log.append("supervisor", "exec.refused", data)?;
                Ok(None)
            }
        }
    }

    /// Reads from the kernel what the command is and what holds for it.
    fn look(
        &self,
        pidfd: &OwnedFd,
        guest: &Guest,
        script: Option<(String, File)>,
        broker: &Broker,
    ) -> Result<(i32, Value, Vec<Observed>), Fault> {
        let pid = pid_of(pidfd).ok_or_else(|| fault("exec.join", "the command is not a process of this host"))?;
        let proc = |name: &str| format!("/proc/{pid}/{name}");
        let failed = |path: &str, e: io::Error| fault("exec.posture", format!("cannot read {path}: {e}"));
        let read = |name: &str| fs::read(proc(name)).map_err(|e| failed(&proc(name), e));

        let digest = |file: &File, path: &str| -> Result<FileDigest, Fault> {
            let stat = rustix::fs::fstat(file).map_err(|e| failed(path, e.into()))?;
            if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
                return Err(fault("exec.posture", format!("{path} is not a regular file")));
            }
            // Who joins has read what can be remembered already: this rarely reads the file again.
            let digest = digests::of_file(self.store, file, &stat, &mut || false).map_err(|e| failed(path, e))?;
            Ok(FileDigest {
                path: path.to_owned(),
                digest,
            })
        };
        let exe = broker.open(pid, "exe").map_err(|e| failed(&proc("exe"), e))?;
        let path = own_link(&exe).map_err(|e| failed(&proc("exe"), e))?;
        let exe = File::from(exe);
        let identity = Identity::of(&rustix::fs::fstat(&exe).map_err(|e| failed("exe", e.into()))?);
        let executable = digest(&exe, &path)?;
        let script = script.map(|(path, file)| digest(&file, &path)).transpose()?;

        let mut posture = vec![held_at_exec(&read("status")?, guest.peer)];
        let seen = posture::observe(self.bundle, self.before, pid, (&exe, identity), Some(broker), false)?;
        posture.extend(seen);
        posture.push(same_namespaces(&posture, self.posture));
        if let Some(group) = self.group {
            posture.extend(group_posture(group, pid)?);
        }
        let line = read("cmdline")?;
        let cut = line.len() > RECORDED;
        let argv: Vec<String> = line[..line.len().min(RECORDED)]
            .split(|b| *b == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        // Every word ends with a NUL, so the split leaves an empty one behind.
        let words = argv.len() - usize::from(!cut && !argv.is_empty());
        let data = json!({
            "id": guest.id,
            "by": {"pid": guest.peer.as_raw_nonzero().get(), "uid": rustix::process::geteuid().as_raw()},
            "pid": pid,
            "argv": &argv[..words],
            "argvCut": cut,
            "executable": executable,
            "script": script,
        });
        Ok((pid, data, posture))
    }
}

/// The pid, as this process counts it, of a pidfd.
fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // 0: of another pid namespace; -1: ended.
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

/// Nothing of the command has run: who joins holds it by ptrace.
fn held_at_exec(status: &[u8], joiner: Pid) -> Observed {
    let status = String::from_utf8_lossy(status);
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        value.map_or("nothing", str::trim)
    };
    let (state, tracer) = (field("State:"), field("TracerPid:"));
    Observed {
        control: Control::PostureAtExec,
        requested: "stopped, traced by who joins".into(),
        mechanism: "ptrace".into(),
        holds: state.starts_with('t') && tracer == joiner.as_raw_nonzero().get().to_string(),
        observed: format!("status State: {state}, TracerPid: {tracer}"),
    }
}

/// The command is in the namespaces of the run's program, not only in others than the supervisor.
fn same_namespaces(command: &[Observed], program: &[Observed]) -> Observed {
    let of = |posture: &[Observed]| -> Vec<String> {
        let own = |line: &&Observed| line.requested.starts_with("own ") && line.requested.ends_with(" namespace");
        posture.iter().filter(own).map(|line| line.observed.clone()).collect()
    };
    let (command, program) = (of(command), of(program));
    let different = command.iter().zip(&program).filter(|(a, b)| a != b).count();
    let holds = different == 0 && command.len() == NAMESPACES.len() && program.len() == NAMESPACES.len();
    Observed {
        control: Control::PidNamespace,
        requested: "the namespaces of the run's program".into(),
        mechanism: "setns".into(),
        observed: format!("{} of {} are the program's", command.len() - different, program.len()),
        holds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_runs_already_is_told_from_one_that_is_held() {
        let joiner = rustix::process::getpid();
        let own = joiner.as_raw_nonzero().get();
        let status = |state: &str, tracer: i32| format!("Name:\tx\nState:\t{state}\nTracerPid:\t{tracer}\n");
        assert!(held_at_exec(status("t (tracing stop)", own).as_bytes(), joiner).holds);
        assert!(!held_at_exec(status("t (tracing stop)", own + 1).as_bytes(), joiner).holds);
        assert!(!held_at_exec(status("S (sleeping)", own).as_bytes(), joiner).holds);
        assert!(!held_at_exec(b"", joiner).holds);
    }

    #[test]
    fn a_pidfd_has_its_pid() {
        let own = rustix::process::getpid();
        let pidfd = pidfd_open(own, PidfdFlags::empty()).unwrap();
        assert_eq!(pid_of(&pidfd), Some(own.as_raw_nonzero().get()));
        assert_eq!(pid_of(&rustix::pipe::pipe().unwrap().0), None);
    }

    #[test]
    fn other_namespaces_do_not_pass() {
        let line = |name: &str, inode: u32| Observed {
            control: Control::PidNamespace,
            requested: format!("own {name} namespace"),
            mechanism: "clone3".into(),
            observed: format!("{name}:[{inode}] (supervisor: {name}:[1])"),
            holds: true,
        };
        let all = |inode| NAMESPACES.map(|name| line(name, inode));
        assert!(same_namespaces(&all(7), &all(7)).holds);
        let mut other = all(7);
        other[3] = line(NAMESPACES[3], 8);
        assert!(!same_namespaces(&other, &all(7)).holds);
        assert!(!same_namespaces(&all(7)[1..], &all(7)[1..]).holds);
    }
}
