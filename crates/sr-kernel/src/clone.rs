//! clone3(2): the first process of a sandbox, which carries out a list of steps.

use crate::child;
use crate::step::Step;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Flags of the namespaces that a sandbox gets at its birth.
pub const BIRTH_NAMESPACES: u64 = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID) as u64;

/// Those that it makes itself as its first step: a network namespace is half a millisecond of work, which the
/// supervisor would have to wait for in clone3(2).
pub const OWN_NAMESPACES: i32 = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Made once the process is in its group, so that the group is that namespace's root.
pub const CGROUP_NAMESPACE: i32 = libc::CLONE_NEWCGROUP;

/// A process that was started here.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// What a paused process runs on, which needs next to nothing.
const PAUSED_STACK: usize = 16 << 10;

/// A child in a new user namespace that does nothing until it is killed. It shares this process's memory, which makes it
/// several times cheaper than a copy.
#[derive(Debug)]
pub(crate) struct Paused {
    pub child: Child,
    _stack: Box<[MaybeUninit<u128>]>,
}

impl Paused {
    pub fn in_user_namespace() -> io::Result<Self> {
        extern "C" fn pause(_: *mut libc::c_void) -> libc::c_int {
            // SAFETY: prctl(2) and pause(2) take integers and touch no memory; neither fails here, so that libc's errno,
            // which this process shares with its parent, is left alone.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
                loop {
                    libc::pause();
                }
            }
        }
        let mut stack = Box::new_uninit_slice(PAUSED_STACK / size_of::<u128>());
        let mut pidfd: libc::c_int = -1;
        // SAFETY: the child runs on a stack of its own, which lives until it was waited for (see `drop`), and does nothing
        // but the two calls above; clone(2) stores the descriptor into a live int.
        let pid = unsafe {
            libc::clone(
                pause,
                stack.as_mut_ptr_range().end.cast(),
                libc::CLONE_VM | libc::CLONE_NEWUSER | libc::CLONE_PIDFD | libc::SIGCHLD,
                std::ptr::null_mut(),
                &raw mut pidfd,
            )
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Paused {
            child: Child {
                pid,
                // SAFETY: clone succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            },
            _stack: stack,
        })
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        crate::process::kill_and_reap(&self.child);
    }
}

/// Starts a process in new namespaces that carries out `steps` and reports a failure on `channel`.
/// The caller must be single-threaded: the child uses memory that another thread could hold half-changed.
pub fn spawn(
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
    steps: &[Step],
    channel: RawFd,
    close: &[RawFd],
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(group) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a live struct clone_args of the given size; without CLONE_VM and with no stack given the child
    // runs on a copy of this stack, like fork(2), and `child::run` never returns.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match answer {
        0 => child::run(steps, channel, close),
        pid if pid > 0 => Ok(Child {
            pid: pid as i32,
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
        _ => Err(io::Error::last_os_error()),
    }
}
