//! Small helpers around processes of our own: a paused holder of namespaces, killing, reaping, privileges.

use crate::clone::Child;
use std::io;
use std::os::fd::AsFd;

/// A child in new namespaces that does nothing until it is killed.
pub(crate) fn spawn_paused(namespaces: u64) -> io::Result<Child> {
    crate::clone::spawn(namespaces, None, &[crate::Step::DieWithParent], -1, &[])
}

pub fn kill_and_reap(child: &Child) {
    // Either fails only if the process is already gone or reaped, which is what is wanted.
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
    let _ = rustix::process::waitid(
        rustix::process::WaitId::PidFd(child.pidfd.as_fd()),
        rustix::process::WaitIdOptions::EXITED,
    );
}

/// Blocks `signals` for this thread and returns a descriptor that reports them (signalfd(2)).
pub fn signal_descriptor(signals: &[i32]) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: sigset_t is plain data that sigemptyset initialises; all calls get live pointers to it; signalfd
    // returns a new descriptor or -1.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(std::os::fd::OwnedFd::from_raw_fd(fd))
    }
}

/// The next pending signal of a descriptor made by [`signal_descriptor`].
pub fn next_signal(fd: std::os::fd::BorrowedFd<'_>) -> Option<i32> {
    let mut info = [0u8; 128];
    match rustix::io::read(fd, &mut info) {
        Ok(128) => Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]])),
        _ => None,
    }
}

/// Lets the kernel reap this process's children by itself: one that ends in a sandbox must not hold up the end of its
/// pid namespace because this process is stopped. Their statuses are lost, except while they are traced.
pub fn ignore_children() -> io::Result<()> {
    // SAFETY: SIG_IGN runs nothing; no other thread depends on SIGCHLD here.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Makes this process's memory and environment unreadable for others of the same user, and undumpable.
pub fn set_not_dumpable() -> io::Result<()> {
    // SAFETY: prctl(PR_SET_DUMPABLE, 0) takes integers only.
    let answer = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The hard value of resource limit `name` (`NOFILE` …) and its number; `None` for an unknown name.
pub fn rlimit(name: &str) -> Option<(u32, u64)> {
    let resource = match name {
        "NOFILE" => libc::RLIMIT_NOFILE,
        "CORE" => libc::RLIMIT_CORE,
        "FSIZE" => libc::RLIMIT_FSIZE,
        "MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "NPROC" => libc::RLIMIT_NPROC,
        "AS" => libc::RLIMIT_AS,
        "RTPRIO" => libc::RLIMIT_RTPRIO,
        "MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "NICE" => libc::RLIMIT_NICE,
        "STACK" => libc::RLIMIT_STACK,
        _ => return None,
    };
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a live struct rlimit.
    let answer = unsafe { libc::getrlimit(resource, &raw mut limit) };
    (answer == 0).then_some((resource, limit.rlim_max))
}

/// The system calls that init makes once it has started the program.
pub const INIT_CALLS: [libc::c_long; 9] = [
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_sendmsg,
    libc::SYS_wait4,
    libc::SYS_kill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
];

/// Waits for `pid`, a child, to end; the CPU time of it and of what it waited for, in microseconds.
pub fn reap_with_usage(pid: i32) -> u64 {
    let mut status = 0;
    // SAFETY: rusage is plain data for which zeroes are valid; wait4 gets live pointers.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        while libc::wait4(pid, &raw mut status, libc::__WALL, &raw mut usage) != pid {
            if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
        usage
    };
    let micros =
        |t: libc::timeval| u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_usec).unwrap_or(0);
    micros(usage.ru_utime) + micros(usage.ru_stime)
}
