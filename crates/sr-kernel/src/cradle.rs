//! Where a sandbox's first process comes from: a process that makes its namespaces while the supervisor still compiles,
//! and then, given the steps, makes it as the supervisor's own child.
//!
//! A network namespace is half a millisecond of work in the kernel, and the copy of the supervisor's memory another tenth:
//! this way both happen on another CPU. The process shares the supervisor's memory and descriptors (the steps and what they
//! name need not be sent), runs nothing but the few system calls below, and ends before the program exists.

use crate::child;
use crate::clone::{Child, CloneArgs, Companion, die_with, raw_clone3};
use crate::step::Step;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// The namespaces that it makes for itself and the first process: users first, with the rights over the others.
const OWN: u32 = (libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u32;
/// That into which the first process is born, as its init.
const BIRTH: u64 = libc::CLONE_NEWPID as u64;
/// The first process goes on with a copy of this stack.
const STACK: usize = 256 << 10;

/// What the two say to each other.
#[derive(Debug)]
struct Shared {
    /// The supervisor writes: the order is complete.
    ordered: OwnedFd,
    /// It writes: `pid` and `errno` are set.
    done: OwnedFd,
    supervisor: i32,
    away: Option<Away>,
    order: Order,
    given: AtomicBool,
    /// Of the first process, once it is made.
    pid: AtomicI32,
    pidfd: AtomicI32,
    /// Why there is none.
    errno: AtomicI32,
    unshared: AtomicBool,
}

/// What the first process carries out. The pointers are the supervisor's, which waits before it gives up what they mean.
#[derive(Debug)]
struct Order {
    steps: *const [Step],
    close: *const [RawFd],
    channel: RawFd,
    cgroup: Option<RawFd>,
}

/// Where the work is to begin: on another processor than the supervisor's. The kernel puts a new process beside who makes it
/// when the others were busy a moment ago, and leaves it there when they no longer are: the two would take turns, for as long
/// as a start takes. It is not held there: where that processor is busy with something else, it may come back.
#[derive(Debug)]
struct Away {
    here: usize,
    others: CpuSet,
    all: CpuSet,
}

impl Away {
    /// `None`: there is one processor, or more than can be counted.
    fn from_here() -> Option<Away> {
        let all = sched_getaffinity(None).ok().filter(|all| all.count() > 1)?;
        let here = sched_getcpu();
        let mut others = all;
        others.unset(here);
        Some(Away { here, others, all })
    }

    /// Moves `pid` (`None`: the calling process) there, and lets it go on wherever it is put then.
    fn send(&self, pid: Option<Pid>) {
        // Of a process that has ended this is told by what follows.
        let _ = sched_setaffinity(pid, &self.others).and_then(|()| sched_setaffinity(pid, &self.all));
    }
}

/// Namespaces that are being made.
#[derive(Debug)]
pub struct Cradle {
    process: Companion,
    // Shared with it: never moved, and never referred to as a whole while it runs.
    shared: *mut Shared,
}

/// Why there is no first process.
#[derive(Debug)]
pub enum Failure {
    /// The mount, network, ipc and uts namespaces could not be made (unshare(2)).
    Unshare(io::Error),
    /// Nor it in a pid namespace (clone3(2)).
    Clone(io::Error),
    Other(io::Error),
}

impl Cradle {
    pub fn new() -> io::Result<Cradle> {
        let shared = Box::into_raw(Box::new(Shared {
            ordered: eventfd(0, EventfdFlags::CLOEXEC)?,
            done: eventfd(0, EventfdFlags::CLOEXEC)?,
            supervisor: std::process::id() as i32,
            away: Away::from_here(),
            order: Order {
                steps: &[],
                close: &[],
                channel: -1,
                cgroup: None,
            },
            given: AtomicBool::new(false),
            pid: AtomicI32::new(-1),
            pidfd: AtomicI32::new(-1),
            errno: AtomicI32::new(0),
            unshared: AtomicBool::new(false),
        }));
        let flags = libc::CLONE_NEWUSER | libc::CLONE_FILES;
        // What a terminal sends to its whole group is the supervisor's to answer.
        let _deaf = crate::process::BlockedSignals::all();
        // SAFETY: `rock` makes system calls without libc and touches only `shared`, which lives until it has ended.
        match unsafe { Companion::start(flags, STACK, rock, shared.cast()) } {
            Ok(process) => {
                // SAFETY: neither process ever writes to it.
                if let Some(away) = unsafe { &(*shared).away } {
                    away.send(Pid::from_raw(process.child.pid));
                }
                Ok(Cradle { process, shared })
            }
            Err(e) => {
                // SAFETY: made above, and nobody else has it.
                drop(unsafe { Box::from_raw(shared) });
                Err(e)
            }
        }
    }

    /// Whose user namespace gets the maps.
    pub fn pid(&self) -> i32 {
        self.process.child.pid
    }

    /// Orders the first process, which carries out `steps`, reports a failure on `channel` and closes `close` first. It is
    /// born into the v2 group `cgroup`.
    pub fn order<'a>(
        self,
        cgroup: Option<BorrowedFd<'a>>,
        steps: &'a [Step],
        channel: RawFd,
        close: &'a [RawFd],
    ) -> io::Result<Birth<'a>> {
        let shared = self.shared;
        // SAFETY: the other process reads the order only after it has been told so, below.
        unsafe {
            (*shared).order = Order {
                steps,
                close,
                channel,
                cgroup: cgroup.map(|group| group.as_raw_fd()),
            };
            (*shared).given.store(true, Ordering::Release);
            rustix::io::write(&(*shared).ordered, &1u64.to_ne_bytes())?;
        }
        Ok(Birth {
            cradle: self,
            awaited: false,
            _of: PhantomData,
        })
    }
}

impl Drop for Cradle {
    fn drop(&mut self) {
        // Not before the process that uses it is gone.
        crate::process::kill_and_reap(&self.process.child);
        // SAFETY: made by `new`; its other user has ended.
        drop(unsafe { Box::from_raw(self.shared) });
    }
}

/// A first process that is being made. Dropping this ends it.
#[derive(Debug)]
pub struct Birth<'a> {
    cradle: Cradle,
    awaited: bool,
    _of: PhantomData<&'a Step>,
}

impl Birth<'_> {
    /// Waits for the first process.
    pub fn wait(mut self) -> Result<Child, Failure> {
        self.outcome()
    }

    fn outcome(&mut self) -> Result<Child, Failure> {
        self.awaited = true;
        let shared = self.cradle.shared;
        // SAFETY: the descriptor is not written to by the other process.
        let done = unsafe { &(*shared).done };
        let mut count = [0u8; 8];
        loop {
            let mut ready = [
                rustix::event::PollFd::new(done, rustix::event::PollFlags::IN),
                // It ended without a word: killed, as a rule for want of memory.
                rustix::event::PollFd::new(&self.cradle.process.child.pidfd, rustix::event::PollFlags::IN),
            ];
            match rustix::event::poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                Err(e) => return Err(Failure::Other(e.into())),
                Ok(_) if ready[0].revents().is_empty() => {
                    let killed = "the process that makes the namespaces was killed";
                    return Err(Failure::Other(io::Error::other(killed)));
                }
                Ok(_) => {}
            }
            rustix::io::read(done, &mut count).map_err(|e| Failure::Other(e.into()))?;
            break;
        }
        // SAFETY: it has said that it is done with these.
        unsafe {
            let pid = (*shared).pid.load(Ordering::Acquire);
            if pid > 0 {
                return Ok(Child {
                    pid,
                    // The descriptor table is shared, and nothing else owns this one.
                    pidfd: OwnedFd::from_raw_fd((*shared).pidfd.load(Ordering::Acquire)),
                });
            }
            let error = io::Error::from_raw_os_error((*shared).errno.load(Ordering::Acquire));
            match (*shared).unshared.load(Ordering::Acquire) {
                true => Err(Failure::Clone(error)),
                false => Err(Failure::Unshare(error)),
            }
        }
    }
}

impl Drop for Birth<'_> {
    fn drop(&mut self) {
        if !self.awaited
            && let Ok(child) = self.outcome()
        {
            crate::process::kill_and_reap(&child);
        }
    }
}

/// What the other process runs. No libc here: its errno is the supervisor's.
extern "C" fn rock(argument: *mut libc::c_void) -> libc::c_int {
    let shared: *mut Shared = argument.cast();
    // SAFETY: `shared` lives until this process has ended. What it changes, the supervisor reads after `done` only; the
    // order is read after `ordered` only, when the supervisor no longer writes it.
    unsafe {
        let fail = |error: Errno| {
            (*shared).errno.store(error.raw_os_error(), Ordering::Release);
            let _ = rustix::io::write(&(*shared).done, &1u64.to_ne_bytes());
            1
        };
        die_with((*shared).supervisor);
        // If it comes to run before its maker, who does this too.
        if let Some(away) = &(*shared).away
            && sched_getcpu() == away.here
        {
            away.send(None);
        }
        let own = rustix::thread::UnshareFlags::from_bits_retain(OWN);
        if let Err(e) = rustix::thread::unshare_unsafe(own) {
            return fail(e);
        }
        (*shared).unshared.store(true, Ordering::Release);
        let mut count = [0u8; 8];
        while rustix::io::read(&(*shared).ordered, &mut count) == Err(Errno::INTR) {}
        if !(*shared).given.load(Ordering::Acquire) {
            return 1;
        }
        let order = &(*shared).order;
        let mut args = CloneArgs {
            // The supervisor's child, as if it had made it; the signal of its end goes with that.
            flags: BIRTH | (libc::CLONE_PIDFD | libc::CLONE_PARENT) as u64,
            pidfd: (*shared).pidfd.as_ptr() as u64,
            ..CloneArgs::default()
        };
        if let Some(group) = order.cgroup {
            args.in_cgroup(group);
        }
        match raw_clone3(&args) {
            0 => child::run(&*order.steps, order.channel, &*order.close),
            pid if pid > 0 => {
                (*shared).pid.store(pid as i32, Ordering::Release);
                let _ = rustix::io::write(&(*shared).done, &1u64.to_ne_bytes());
                0
            }
            error => fail(Errno::from_raw_os_error(-error as i32)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    fn namespace(pid: i32, name: &str) -> std::path::PathBuf {
        std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap()
    }

    #[test]
    fn given_up_it_leaves_nothing() {
        let cradle = Cradle::new().unwrap();
        let pid = cradle.pid();
        assert_ne!(namespace(pid, "user"), namespace(std::process::id() as i32, "user"));
        drop(cradle);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn beside_a_program_that_computes_a_start_waited_for_it() {
        // It was held away from this processor until its view stood.
        let all = sched_getaffinity(None).unwrap();
        let cradle = Cradle::new().unwrap();
        // It may be sending itself away just now.
        let its = || sched_getaffinity(Pid::from_raw(cradle.pid())).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while its() != all && std::time::Instant::now() < until {}
        assert_eq!(its(), all);
        assert_eq!(sched_getaffinity(None).unwrap(), all, "this one stays free");
    }

    #[test]
    fn the_first_process_is_this_ones_child_in_namespaces_of_its_own() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let channel = theirs.as_raw_fd();
        let steps = [
            Step::Await {
                channel,
                slots: Vec::new(),
            },
            Step::ChangeDir(c"/no/such/place".into()),
        ];
        let close = [ours.as_raw_fd()];
        let birth = Cradle::new().unwrap().order(None, &steps, channel, &close).unwrap();
        let first = birth.wait().unwrap();
        drop(theirs);
        for name in ["user", "mnt", "pid", "net", "ipc", "uts"] {
            let own = namespace(std::process::id() as i32, name);
            // The pid namespace of its children is the one that it was born into.
            assert_ne!(namespace(first.pid, name), own, "{name}");
        }
        let go = wire::Message {
            tag: wire::TAG_GO,
            a: 0,
            b: 0,
        };
        wire::send(ours.as_fd(), go, None).unwrap();
        let (said, _) = wire::receive(ours.as_fd()).unwrap().unwrap();
        assert_eq!((said.tag, said.a, said.b as i32), (wire::TAG_FAILED, 1, libc::ENOENT));
        assert!(wire::receive(ours.as_fd()).unwrap().is_none(), "it has ended");
        crate::process::kill_and_reap(&first);
        assert!(!std::path::Path::new(&format!("/proc/{}", first.pid)).exists());
    }
}
