//! From a plan to the program, held before its first instruction.

use crate::container;
use crate::digests;
use crate::failure::{Failure, at, failure};
use crate::group::Limits;
use crate::posture;
use crate::streams::{self, Streams};
use crate::view::{self, SLOT_ROOT, text};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use sr_common::Observed;
use sr_common::guest::{GuestPlan, GuestRoot, GuestShare};
use sr_kernel::seccomp::Instruction;
use sr_kernel::step::{CStringArray, Fd, Step};
use sr_kernel::wire::{self, Message};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

const SLOT_EXECUTABLE: u16 = 2;
const SLOT_PTY: u16 = 3;

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

/// A mount namespace is all that is made in a machine, which is the program's alone; in a container, a user namespace.
const MOUNT_NAMESPACE: u64 = 0x0002_0000;
const USER_NAMESPACE: u64 = 0x1000_0000;

/// The program, at its exec.
pub struct Held {
    pub pid: i32,
    pub streams: Streams,
    pub posture: Vec<Observed>,
    /// What is shared: what could not be written there is told by it.
    pub share: Option<File>,
}

pub fn start(plan: &GuestPlan, group: &dyn Limits) -> Result<Held, Failure> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(at("make a socket"))?;
    let channel = theirs.as_raw_fd();
    let pipes = match (plan.terminal, &plan.root) {
        (false, _) => Some(streams::pipes(owner(plan))?),
        (true, GuestRoot::Own) => Some(container::terminal()?),
        // Of the program's own view, by its own process.
        (true, GuestRoot::Shared | GuestRoot::Disk { .. }) => None,
    };
    let door = group.door()?;
    let filter = filter(&plan.filter)?;
    let length = filter.len();
    let ends = pipes.as_ref().map(|(_, ends)| ends);
    let own = match plan.root {
        GuestRoot::Shared | GuestRoot::Disk { .. } => None,
        GuestRoot::Own => Some(container::executable(plan)?),
    };
    let served = match plan.share {
        Some(GuestShare::Vsock { port }) => {
            Some(sr_kernel::vsock::connect_to_host(port).map_err(at("connect to the files that are shared"))?)
        }
        _ => None,
    };
    let served_at = served.as_ref().map(AsRawFd::as_raw_fd);
    let steps = steps(plan, ends, filter, door.as_ref(), channel, own.as_ref(), served_at)?;
    let namespaces = match own {
        None => MOUNT_NAMESPACE,
        Some(_) => USER_NAMESPACE,
    };
    let pid = sr_kernel::clone::spawn_child(namespaces, &steps, channel, &[ours.as_raw_fd()])
        .map_err(at("start a process"))?;
    if own.is_some() {
        container::map(pid, plan.user)?;
    }
    drop((theirs, door));
    let brought = bring(pid, &ours);
    let said = hear(ours.as_fd(), &steps)?;
    if !brought? {
        return Err(failure("start the program", "its process ended without a word"));
    }
    let executable = match (said.executable, own, &plan.root) {
        (Some(file), ..) => file,
        (None, Some(own), _) => own.into(),
        (None, None, GuestRoot::Disk { .. }) => digests::executed(pid)?,
        (None, None, _) => return Err(failure("open the program", "its process did not send it")),
    };
    let streams = match (pipes, said.terminal) {
        (Some((streams, _)), _) => streams,
        (None, Some(master)) => streams::terminal(master)?,
        (None, None) => return Err(failure("open a terminal", "its process did not send it")),
    };
    let mut posture = posture::observe(plan, pid, &executable, length)?;
    posture.extend_from_slice(group.held());
    posture.extend(digests::observe(plan, pid, &executable)?);
    Ok(Held {
        pid,
        streams,
        posture,
        share: said.share,
    })
}

/// Whom the program's streams belong to, by the agent's count.
fn owner(plan: &GuestPlan) -> u32 {
    match plan.root {
        GuestRoot::Shared | GuestRoot::Disk { .. } => plan.user,
        GuestRoot::Own => 0,
    }
}

/// To the exec stop; `false` if it ended before.
fn bring(pid: i32, socket: &OwnedFd) -> Result<bool, Failure> {
    let step = "follow the program to its exec";
    sr_kernel::ptrace::seize(pid).map_err(at(step))?;
    let go = Message {
        tag: wire::TAG_GO,
        a: 0,
        b: 0,
    };
    wire::send(socket.as_fd(), go, None).map_err(at(step))?;
    sr_kernel::ptrace::to_exec(pid).map_err(at(step))
}

#[derive(Default)]
struct Heard {
    executable: Option<File>,
    share: Option<File>,
    terminal: Option<OwnedFd>,
}

/// All that its process said on the way: its end of the socket is closed by now.
fn hear(socket: BorrowedFd<'_>, steps: &[Step]) -> Result<Heard, Failure> {
    let mut heard = Heard::default();
    while let Some((message, fd)) = wire::receive(socket).map_err(at("hear from the program's process"))? {
        match message.tag {
            wire::TAG_EXECUTABLE => heard.executable = fd.map(Into::into),
            wire::TAG_SHARE => heard.share = fd.map(Into::into),
            wire::TAG_PTY => heard.terminal = fd,
            wire::TAG_FAILED => {
                let step = steps
                    .get(message.a as usize)
                    .map_or_else(|| "start the program".to_owned(), Step::describe);
                let error = std::io::Error::from_raw_os_error(message.b as i32);
                return Err(failure(step, error.to_string()));
            }
            _ => {}
        }
    }
    Ok(heard)
}

/// All that the program's process does: the view, and then what a program's process does behind the native wall, in the
/// same order.
fn steps(
    plan: &GuestPlan,
    pipes: Option<&[OwnedFd; 3]>,
    filter: Vec<Instruction>,
    door: Option<&OwnedFd>,
    channel: RawFd,
    own: Option<&OwnedFd>,
    served: Option<RawFd>,
) -> Result<Vec<Step>, Failure> {
    let mut steps = vec![Step::Await {
        channel,
        slots: Vec::new(),
    }];
    let executable = match (own, &plan.root) {
        (Some(own), _) => Some(Fd::Inherited(own.as_raw_fd())),
        (None, GuestRoot::Disk { .. }) => None,
        (None, _) => Some(Fd::Slot(SLOT_EXECUTABLE)),
    };
    if own.is_none() {
        steps.extend(view::steps(plan, served, channel)?);
        if executable.is_some() {
            steps.push(Step::OpenAndSend {
                root: Fd::Slot(SLOT_ROOT),
                path: text(&plan.executable)?,
                channel,
                tag: wire::TAG_EXECUTABLE,
                slot: SLOT_EXECUTABLE,
            });
        }
        steps.push(Step::Hostname(text(&plan.hostname)?));
    }
    let ends = match pipes {
        Some(ends) => ends.each_ref().map(|end| Fd::Inherited(end.as_raw_fd())),
        None => {
            steps.push(Step::OpenPty {
                channel,
                slave: SLOT_PTY,
                owner: plan.user,
            });
            [Fd::Slot(SLOT_PTY); 3]
        }
    };
    // What was made for it counts against its limits from here on, and not before.
    steps.extend(door.map(|door| Step::JoinGroup {
        tasks: Fd::Inherited(door.as_raw_fd()),
    }));
    steps.extend([
        Step::DropBounding,
        Step::DefaultSignals,
        Step::NewSession,
        Step::Stdio {
            stdin: ends[0],
            stdout: ends[1],
            stderr: ends[2],
        },
    ]);
    if plan.terminal {
        steps.push(Step::ControllingTerminal);
    }
    steps.push(Step::CloseAllBut(
        executable.into_iter().chain([Fd::Inherited(channel)]).collect(),
    ));
    for (name, value) in &plan.rlimits {
        let Some((resource, _)) = sr_kernel::process::rlimit(name) else {
            return Err(failure("set resource limits", format!("{name} is none")));
        };
        steps.push(Step::Rlimit {
            resource,
            value: *value,
        });
    }
    steps.extend([
        Step::Capabilities {
            keep: CAP_SETGID | CAP_SETUID,
        },
        Step::Identity {
            uid: plan.user,
            gid: plan.user,
            clear_groups: true,
        },
        Step::Capabilities { keep: 0 },
        Step::ChangeDir(text(&plan.workdir)?),
        Step::Umask(0o022),
        Step::NoNewPrivileges,
        Step::CloseOnExec,
        Step::Seccomp {
            program: filter,
            listener: None,
        },
    ]);
    let argv = plan.argv.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
    let envp = plan
        .env
        .iter()
        .map(|(name, value)| text(&format!("{name}={value}")))
        .collect::<Result<_, _>>()?;
    let (argv, envp) = (CStringArray::new(argv), CStringArray::new(envp));
    steps.push(match executable {
        Some(fd) => Step::Execute { fd, argv, envp },
        // Nobody else could exchange what it leads to, and a script is its kernel's affair.
        None => Step::ExecuteFirst {
            paths: digests::candidates(plan)
                .iter()
                .map(|path| text(path))
                .collect::<Result<_, _>>()?,
            argv,
            envp,
        },
    });
    Ok(steps)
}

/// `struct sock_filter`s, little-endian, in hexadecimal.
fn filter(text: &str) -> Result<Vec<Instruction>, Failure> {
    let bad = || failure("read the plan", "its filter is no list of instructions");
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(16) {
        return Err(bad());
    }
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.chunks_exact(2) {
        let digit = |d: u8| (d as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
            return Err(bad());
        };
        bytes.push(high << 4 | low);
    }
    let instruction = |b: &[u8]| Instruction {
        code: u16::from_le_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
    };
    Ok(bytes.chunks_exact(8).map(instruction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_instruction_by_instruction() {
        let one = Instruction {
            code: 0x0006,
            jt: 0,
            jf: 1,
            k: 0x7fff_0000,
        };
        assert_eq!(filter("060000010000ff7f").unwrap(), [one]);
        assert_eq!(filter("060000010000FF7F060000010000ff7f").unwrap(), [one, one]);
        for bad in ["", "06", "060000010000ff7", "060000010000fg7f", "060000010000ff7f0600"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
