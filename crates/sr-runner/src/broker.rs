//! Opens for the confined supervisor what its Landlock domain keeps from it: files of `/proc/PID` that show a process of
//! another domain. A process of its own, which holds no key, has a filter of its own, and is asked for a process and one of a
//! few names, never for a path.

use crate::confinement;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal};
use sr_kernel::confine::Confinement;
use sr_kernel::wire::{self, Message};
use sr_process::posture::Opener;
use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TAG_OPEN: u8 = b'O';
/// `b`: 0, and a descriptor comes along; or the errno.
const TAG_OPENED: u8 = b'o';

/// What can be asked for, by its place in this list.
const NAMES: [&str; 12] = [
    "exe",
    "root",
    "smaps_rollup",
    "ns/user",
    "ns/mnt",
    "ns/pid",
    "ns/net",
    "ns/ipc",
    "ns/uts",
    "ns/cgroup",
    "mem",
    "cwd",
];
/// Added to a number that is a descriptor's, for its `fdinfo`.
const FDINFO: u32 = 1 << 31;
/// The same, for what it is open on.
const FD: u32 = 1 << 30;
/// The option of [`serve`]'s command that names the pid namespace whose processes it looks into, too.
const INSIDE: &str = "--inside";

/// The calls that it makes once it serves.
const CALLS: &str =
    "recvmsg sendmsg openat fstat newfstatat close exit_group rt_sigreturn restart_syscall mmap munmap brk sigaltstack";

const CAP_DAC_READ_SEARCH: u64 = 1 << 2;
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// How long an answer, or its end, may take: the supervisor does nothing else meanwhile, and keeps none of the run's limits.
const PATIENCE: Duration = Duration::from_secs(5);

/// A broker that runs. Dropping this ends it.
#[derive(Debug)]
pub struct Broker {
    socket: Option<OwnedFd>,
    process: Child,
    /// It owes an answer, which could be taken for that to another question: it is asked nothing any more.
    owes: Cell<bool>,
}

impl Broker {
    /// `command` is to run [`serve`] on its standard input.
    /// `inside`: also what the processes of that pid namespace hold is asked for.
    pub fn start(command: &[OsString], inside: Option<u64>) -> io::Result<Broker> {
        let inside = inside.map(|number| [INSIDE.to_owned(), number.to_string()]);
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::other("no command that would be it was named"))?;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&ours, Timeout::Send, Some(PATIENCE))?;
        let process = Command::new(program)
            .args(arguments)
            .args(inside.iter().flatten())
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What a terminal sends to its whole group is the supervisor's to answer.
            .process_group(0)
            .spawn()?;
        let broker = Broker {
            socket: Some(ours),
            process,
            owes: Cell::new(false),
        };
        // Its own executable: that it serves, confined, before anything depends on it.
        broker.open(broker.process.id() as i32, "exe").map(|_| broker)
    }
}

impl Opener for Broker {
    fn open(&self, pid: i32, name: &str) -> io::Result<OwnedFd> {
        let socket = self.socket.as_ref().ok_or(rustix::io::Errno::BADF)?.as_fd();
        let asked = Message {
            tag: TAG_OPEN,
            a: pid.unsigned_abs(),
            b: code(name).ok_or(rustix::io::Errno::NOENT)?,
        };
        if self.owes.replace(true) {
            return Err(io::Error::other("the broker did not answer"));
        }
        wire::send(socket, asked, None)?;
        let answer = wire::receive(socket)?;
        self.owes.set(false);
        match answer {
            Some((
                Message {
                    tag: TAG_OPENED, b: 0, ..
                },
                Some(fd),
            )) => Ok(fd),
            Some((Message { tag: TAG_OPENED, b, .. }, None)) => Err(io::Error::from_raw_os_error(b as i32)),
            _ => Err(io::Error::other("the broker is gone")),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It ends when nobody can ask any more; one that does not, with this process at the latest.
        self.socket = None;
        let end = rustix::process::pidfd_open(Pid::from_child(&self.process), PidfdFlags::empty());
        let Ok(end) = end else { return };
        if self.owes.get() {
            let _ = rustix::process::pidfd_send_signal(&end, Signal::KILL);
        }
        let patience = Timespec::try_from(PATIENCE).ok();
        if rustix::event::poll(&mut [PollFd::new(&end, PollFlags::IN)], patience.as_ref()) == Ok(1) {
            let _ = self.process.wait();
        }
    }
}

fn code(name: &str) -> Option<u32> {
    for (directory, flag) in [("fdinfo/", FDINFO), ("fd/", FD)] {
        if let Some(number) = name.strip_prefix(directory) {
            return number.parse::<u32>().ok().filter(|n| *n < FD).map(|n| flag | n);
        }
    }
    let at = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(at).ok()
}

/// The file that `code` means, and how it is opened.
fn named(code: u32) -> Option<(String, OFlags)> {
    if code & FDINFO != 0 {
        return Some((format!("fdinfo/{}", code & !FDINFO), OFlags::RDONLY));
    }
    if code & FD != 0 {
        return Some((format!("fd/{}", code & !FD), OFlags::PATH));
    }
    let name = *NAMES.get(usize::try_from(code).ok()?)?;
    let flags = match name {
        "root" | "cwd" => OFlags::PATH | OFlags::DIRECTORY,
        _ => OFlags::RDONLY | OFlags::NONBLOCK,
    };
    Some((name.to_owned(), flags))
}

/// Whether it shows what a process holds: its memory, and what it has open. That is looked at where denied paths are told,
/// and of the sandbox's processes alone.
fn holds(name: &str) -> bool {
    name == "mem" || name == "cwd" || name.starts_with("fd/")
}

/// The inode number of the pid namespace of `process` (namespaces(7)).
pub(crate) fn pid_namespace(process: u32) -> rustix::io::Result<u64> {
    let path = format!("/proc/{process}/ns/pid");
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fstat(file)?.st_ino)
}

/// Serves a supervisor at this process's standard input until it is gone. `inside`: the pid namespace of those processes
/// of which it also opens what they hold.
pub fn serve(inside: Option<u64>) -> io::Result<()> {
    let socket = rustix::stdio::stdin();
    // The caller of the supervisor may have left it some.
    sr_kernel::process::close_from(3)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    sr_kernel::process::set_not_dumpable()?;
    let filter = confinement::filter(CALLS)?;
    Confinement {
        // In a domain it could look at no process outside of that.
        files: None,
        capabilities: CAP_DAC_READ_SEARCH | CAP_SYS_PTRACE,
        filter: &filter,
    }
    .enter()?;
    while let Some((asked, _)) = wire::receive(socket)? {
        let opened = match named(asked.b).filter(|_| asked.tag == TAG_OPEN) {
            Some((name, _)) if holds(&name) && (inside.is_none() || pid_namespace(asked.a).ok() != inside) => {
                Err(rustix::io::Errno::PERM)
            }
            Some((name, flags)) => {
                let path = format!("/proc/{}/{name}", asked.a);
                openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
            }
            None => Err(rustix::io::Errno::INVAL),
        };
        let answer = Message {
            tag: TAG_OPENED,
            a: asked.a,
            b: opened.as_ref().err().map_or(0, |e| e.raw_os_error().unsigned_abs()),
        };
        wire::send(socket, answer, opened.ok().as_ref().map(AsRawFd::as_raw_fd))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_said_nothing_held_the_supervisor() {
        let command = ["sleep", "60"].map(OsString::from);
        let error = Broker::start(&command, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    }

    #[test]
    fn a_name_that_cannot_be_asked_for_ended_all_asking() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let broker = Broker {
            socket: Some(ours),
            process: Command::new("true").spawn().unwrap(),
            owes: Cell::new(false),
        };
        let unknown = broker.open(1, "environ").unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        let answer = Message {
            tag: TAG_OPENED,
            a: 1,
            b: rustix::io::Errno::SRCH.raw_os_error().unsigned_abs(),
        };
        wire::send(theirs.as_fd(), answer, None).unwrap();
        let known = broker.open(1, "exe").unwrap_err();
        assert_eq!(known.raw_os_error(), Some(rustix::io::Errno::SRCH.raw_os_error()));
    }

    #[test]
    fn a_name_has_one_code_and_paths_have_none() {
        for name in NAMES {
            assert_eq!(named(code(name).unwrap()).unwrap().0, name);
        }
        for name in ["fdinfo/17", "fd/17"] {
            assert_eq!(named(code(name).unwrap()).unwrap().0, name);
        }
        for path in [
            "",
            "environ",
            "fdinfo/",
            "fdinfo/../mem",
            "fdinfo/-1",
            "fdinfo/4294967295",
            "../1/exe",
        ] {
            assert_eq!(code(path), None, "{path}");
        }
        assert_eq!(named(NAMES.len() as u32), None);
    }
}
