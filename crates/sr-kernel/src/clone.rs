//! Making processes: one that carries out a list of steps, and one that shares this process's memory.

use crate::child;
use crate::step::Step;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct clone_args`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

impl CloneArgs {
    pub fn in_cgroup(&mut self, group: RawFd) {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        self.flags |= CLONE_INTO_CGROUP;
        self.cgroup = group as u64;
    }
}

/// Made once the process is in its group, so that the group is that namespace's root.
pub const CGROUP_NAMESPACE: i32 = libc::CLONE_NEWCGROUP;

/// A process that was started here.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// A child that shares this process's memory, on a stack of its own: many times cheaper than a copy. What it runs must
/// make its system calls itself and not by libc, whose `errno` it shares with this process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Companion {
    pub child: Child,
    _stack: Box<[MaybeUninit<u128>]>,
}

impl Companion {
    /// `flags` of clone(2) besides `CLONE_VM` and `CLONE_PIDFD`; `stack` in bytes.
    ///
    /// # Safety
    /// `entry` must be sound to run beside this process in its memory, with `argument`, until it ends or the returned
    /// value is dropped.
    pub unsafe fn start(
        flags: libc::c_int,
        stack: usize,
        entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
        argument: *mut libc::c_void,
    ) -> io::Result<Self> {
        let mut stack = Box::new_uninit_slice(stack / size_of::<u128>());
        let mut pidfd: libc::c_int = -1;
        // SAFETY: the stack lives until the child was waited for (see `drop`), the rest is the caller's promise; clone(2)
        // stores the descriptor into a live int.
        let pid = unsafe {
            libc::clone(
                entry,
                stack.as_mut_ptr_range().end.cast(),
                flags | libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD,
                argument,
                &raw mut pidfd,
            )
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Companion {
            child: Child {
                pid,
                // SAFETY: clone succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            },
            _stack: stack,
        })
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        crate::process::kill_and_reap(&self.child);
    }
}

/// In a [`Companion`]: the end of `parent` is this process's, also if it came before this.
pub(crate) fn die_with(parent: i32) {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if rustix::process::getppid() != rustix::process::Pid::from_raw(parent) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// clone3(2) without libc, for a [`Companion`]: the child's id, 0 in the child, or a negative errno.
///
/// # Safety
/// As for clone3 itself: `args` must describe a child that this code can be.
pub(crate) unsafe fn raw_clone3(args: &CloneArgs) -> isize {
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the system call's convention; without CLONE_VM the child returns here too, on a copy of this stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") &raw const *args,
            in("rsi") size_of::<CloneArgs>(),
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const *args as isize => answer,
            in("x1") size_of::<CloneArgs>(),
        );
    }
    answer
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
        args.in_cgroup(group.as_raw_fd());
    }
    let pid = clone(&args, steps, channel, close)?;
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// The same for who waits for all its children alike, on kernels too that know no descriptors of processes, and where a
/// filter, which cannot see what clone3 is asked for, lets nobody call it.
pub fn spawn_child(namespaces: u64, steps: &[Step], channel: RawFd, close: &[RawFd]) -> io::Result<i32> {
    let args = CloneArgs {
        flags: namespaces,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    match clone(&args, steps, channel, close) {
        Err(e) if e.raw_os_error() == Some(libc::ENOSYS) => clone_of_old(namespaces, steps, channel, close),
        done => done,
    }
}

/// clone(2), whose flags are a number.
fn clone_of_old(namespaces: u64, steps: &[Step], channel: RawFd, close: &[RawFd]) -> io::Result<i32> {
    let flags = namespaces | libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM and with no stack given the child runs on a copy of this stack, like fork(2), and
    // `child::run` never returns; no other argument is looked at without its flag.
    let answer = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    match answer {
        0 => child::run(steps, channel, close),
        pid if pid > 0 => Ok(pid as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

fn clone(args: &CloneArgs, steps: &[Step], channel: RawFd, close: &[RawFd]) -> io::Result<i32> {
    // SAFETY: `args` is a live struct clone_args of the given size; without CLONE_VM and with no stack given the child
    // runs on a copy of this stack, like fork(2), and `child::run` never returns.
    let answer = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(args), size_of::<CloneArgs>()) };
    match answer {
        0 => child::run(steps, channel, close),
        pid if pid > 0 => Ok(pid as i32),
        _ => Err(io::Error::last_os_error()),
    }
}
