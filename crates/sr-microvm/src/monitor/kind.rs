//! The kinds of monitors: what each is started with, how the agent in its guest is reached, how it is told to end, and what
//! it tells of its machine.

use super::Failure;
use super::cloud_hypervisor::CloudHypervisor;
use super::firecracker::Firecracker;
use super::machine::{at, high};
use super::qmp::Qmp;
use super::share;
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use sr_common::monitor::{GuestSockets, Share, Speech};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

/// The numbers at which QEMU finds its sockets: to the agent, for QMP, for the console. `runsc` is given the first.
const AGENT: i32 = 10;
const QMP: i32 = 11;
const CONSOLE: i32 = 12;

/// What a monitor tells of its machine; everything else is of no interest here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Panicked,
    Reset,
    /// The same, and it is about to begin again.
    Restarts,
    Shutdown,
    /// What it is, by its own word.
    Version([u32; 3]),
}

/// A monitor that runs, by what leads to it besides the agent and the console.
pub trait Monitor {
    /// Where it speaks: non-blocking; `None` if it does not, or no more.
    fn source(&self) -> Option<&OwnedFd>;

    /// Where it tells of its machine, if that is elsewhere: non-blocking.
    fn events(&self) -> Option<&OwnedFd> {
        None
    }

    /// Whether it is to be told something.
    fn has_to_write(&self) -> bool {
        false
    }

    fn write(&mut self) {}

    /// Takes what is there.
    fn read(&mut self) -> Vec<Seen>;

    /// Until when it has to have answered.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Why its machine cannot be, if it cannot: looked at whenever something has come, and at the deadline.
    fn fault(&mut self) -> Option<Failure> {
        None
    }

    /// The path of what is told where it ends before the agent has spoken.
    fn stage(&self) -> &'static str {
        "launch.boot"
    }

    /// The program in the guest has ended: the machine is to. What does not is killed some time later.
    fn quit(&mut self) -> Parting;

    /// Once it has ended: what it counted of its machine, if it did.
    fn counted(&mut self) -> Option<String> {
        None
    }
}

/// What becomes of the agent's connection when the machine is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    /// The monitor is told, or ends with its agent.
    Stays,
    /// The agent resets its machine when it is left alone, which is all that ends such a monitor in good order.
    Closed,
}

/// How the agent is reached.
pub enum Agent {
    Connected(OwnedFd),
    /// It connects to this.
    Awaited(Door),
}

impl Agent {
    /// Whose guest connects by a vsock, for its files too where they are shared with it.
    pub fn awaited(sockets: &GuestSockets) -> Result<Agent, Failure> {
        if let Some(Share { socket, directory }) = &sockets.share {
            share::serve(Door::open(socket)?, directory)?;
        }
        Ok(Agent::Awaited(Door::open(&sockets.agent)?))
    }
}

/// A Unix socket that listens, and goes with its path.
pub struct Door {
    pub socket: OwnedFd,
    path: PathBuf,
}

impl Door {
    /// For one connection.
    pub fn open(path: &str) -> Result<Door, Failure> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let own = |e| Failure::own("the socket for the guest's agent", e);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(own)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).map_err(own)?).map_err(own)?;
        let door = Door {
            socket: up(socket)?,
            path: path.into(),
        };
        rustix::net::listen(&door.socket, 1).map_err(own)?;
        Ok(door)
    }

    /// Who has come, if anybody has; `None` otherwise.
    pub fn accept(&self) -> Result<Option<OwnedFd>, Failure> {
        use rustix::io::Errno;
        match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(agent) => up(agent).map(Some),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(e) => Err(Failure::own("the socket for the guest's agent", e)),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The sandbox's files are removed with it, whatever this says.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// All that is made before a monitor starts.
pub struct Prepared {
    /// The path of what is told where its program does not start.
    pub preflight: &'static str,
    pub monitor: Box<dyn Monitor>,
    pub agent: Agent,
    /// `None`: it has none, or shows it elsewhere.
    pub console: Option<OwnedFd>,
    /// What it inherits, at the numbers that its arguments name.
    pub inherited: Vec<OwnedFd>,
    /// Its standard output, where that is its console.
    pub output: Option<OwnedFd>,
}

/// `complaints`: the end of a pipe to which it writes what is wrong.
pub fn prepare(speech: &Speech, complaints: &OwnedFd) -> Result<Prepared, Failure> {
    match speech {
        Speech::Qemu => {
            let ((agent, agent_there), (console, console_there), (qmp, qmp_there)) = (pair()?, pair()?, pair()?);
            Ok(Prepared {
                preflight: "launch.preflight.qemu",
                monitor: Box::new(Qmp::new(qmp)),
                agent: Agent::Connected(agent),
                console: Some(console),
                inherited: vec![
                    at(&agent_there, AGENT)?,
                    at(&qmp_there, QMP)?,
                    at(&console_there, CONSOLE)?,
                ],
                output: None,
            })
        }
        Speech::Gvisor => {
            let (agent, agent_there) = pair()?;
            Ok(Prepared {
                preflight: "launch.preflight.runsc",
                monitor: Box::new(Silent),
                agent: Agent::Connected(agent),
                console: None,
                inherited: vec![at(&agent_there, AGENT)?],
                output: None,
            })
        }
        Speech::Firecracker { sockets } => Firecracker::prepare(sockets, complaints),
        Speech::CloudHypervisor { sockets, config } => CloudHypervisor::prepare(sockets, config),
    }
}

/// One of which nothing is heard, and which ends with its agent.
struct Silent;

impl Monitor for Silent {
    fn source(&self) -> Option<&OwnedFd> {
        None
    }

    fn read(&mut self) -> Vec<Seen> {
        Vec::new()
    }

    fn quit(&mut self) -> Parting {
        Parting::Stays
    }
}

pub fn up(fd: OwnedFd) -> Result<OwnedFd, Failure> {
    high(fd).map_err(|e| Failure::own("a descriptor", e))
}

/// Our end, and theirs.
fn pair() -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(|e| Failure::own("a socket", e))?;
    Ok((up(ours)?, up(theirs)?))
}

/// To read from, non-blocking, and to write to.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let own = |e| Failure::own("a pipe", e);
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).map_err(own)?;
    let (from, to) = (up(from)?, up(to)?);
    rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK).map_err(own)?;
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_door_is_for_one_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guest_1024");
        let door = Door::open(path.to_str().unwrap()).unwrap();
        assert!(door.accept().unwrap().is_none());
        let _guest = UnixStream::connect(&path).unwrap();
        assert!(door.accept().unwrap().is_some());
        drop(door);
        assert!(UnixStream::connect(&path).is_err() && !path.exists());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let Err(failure) = Door::open(&format!("/tmp/{}", "x".repeat(200))) else {
            panic!("a socket with such a path");
        };
        assert_eq!(failure.path, "run.monitor");
    }
}
