//! Small helpers around processes of our own: killing, reaping, signals, limits.

use crate::clone::Child;
use std::io;

/// Kills a child; it still has to be waited for.
pub(crate) fn kill(child: &Child) {
    // Fails only if the process is already gone or reaped, which is what is wanted.
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, rustix::process::Signal::KILL);
}

pub fn kill_and_reap(child: &Child) {
    kill_and_reap_traced(child, None);
}

/// The same for an init in whose namespace this process still traces `tracee`: the end of a tracee is its tracer's to
/// take, and until it is taken init does not end.
pub fn kill_and_reap_traced(child: &Child, tracee: Option<i32>) {
    kill(child);
    if let Some(pid) = tracee {
        while crate::ptrace::wait(pid).is_ok_and(|stop| !matches!(stop, crate::ptrace::Stop::Gone(_))) {}
    }
    // Also of a tracee that nobody was told of. Fails only if it is reaped already.
    while crate::ptrace::wait_and_reap(child.pid).is_ok_and(|stop| !matches!(stop, crate::ptrace::Stop::Gone(_))) {}
}

/// Whether a signal of this process's would reach `pid`: asks without sending one.
pub fn signal_reaches(pid: i32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let pid = rustix::process::Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    // SAFETY: pidfd_send_signal(2) with the signal 0 and no information reads no memory; the descriptor is open.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            0,
            std::ptr::null::<libc::siginfo_t>(),
            0u32,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

/// All signals blocked for this thread, and for processes that it makes, until this is dropped.
pub(crate) struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    pub fn all() -> Self {
        // SAFETY: sigset_t is plain data that the calls initialise; they get live pointers and cannot fail with these.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            BlockedSignals(before)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the one that `all` got from the same call.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
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

/// Takes over a descriptor that this process was started with, and closes it on exec.
///
/// For the beginning of a process, once for each number: nothing else may own it.
pub fn inherited(number: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: numbers only; what is not open is an error.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and by what this function says nothing else owns it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}

/// Ends this process by `signal`, as a program ends that does not know it, and leaves no core. Where the signal ends nobody it
/// ends with the status that shells give such an end.
pub fn end_by(signal: i32) -> ! {
    // No core is wanted of this process, whose end it is not; without this one could be written.
    let _ = set_not_dumpable();
    // SAFETY: the default action runs nothing of this process; sigset_t is plain data that sigemptyset initialises; _exit(2)
    // runs no handlers.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        libc::raise(signal);
        libc::_exit(128 + signal)
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

/// Closes every descriptor from `first` up. For the beginning of a process: nothing may own any of them.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: close_range takes numbers only, and nothing here owns one of these descriptors.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Does `work` with another effective uid; files are opened as before (the file system uid stays), and no capability is in
/// effect. For a root process of one thread with `CAP_SETUID`.
pub fn with_effective_uid<T>(uid: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    const SAME: u32 = u32::MAX;
    // By the raw call: libc's would change every thread of the process, and ask them by signals.
    // SAFETY: setresuid(2) takes numbers only.
    let set = |effective: u32| match unsafe { libc::syscall(libc::SYS_setresuid, SAME, effective, SAME) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    let before = rustix::process::geteuid().as_raw();
    set(uid)?;
    // SAFETY: setfsuid(2) takes a number only. It follows the effective uid, and the real one may always be taken.
    unsafe { libc::syscall(libc::SYS_setfsuid, before) };
    let done = work();
    set(before)?;
    Ok(done)
}

/// Does `work` as another user where files are concerned: what only a file's owner may do is his. For a root process of one
/// thread with `CAP_SETUID`.
pub fn with_file_system_uid<T>(uid: u32, work: impl FnOnce() -> T) -> io::Result<T> {
    // SAFETY: setfsuid(2) takes a number only, and gives the one before; one that is none changes nothing.
    let set = |uid: u32| unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
    let before = set(uid) as u32;
    if set(u32::MAX) as u32 != uid {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let done = work();
    set(before);
    Ok(done)
}

/// Empties the environment. For the beginning of a process of one thread.
pub fn clear_environment() {
    // SAFETY: no other thread reads it, and no reference into it is held.
    unsafe { libc::clearenv() };
}

/// Where the kernel finds the command line that `/proc/PID/cmdline` shows of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arguments {
    start: usize,
    end: usize,
}

impl Arguments {
    /// Of the calling process. The kernel puts the strings one after the other (execve(2)), and libc keeps where the first
    /// is (program_invocation_name(3)): `/proc/self/stat` knows both ends, and takes ten times as long to say so.
    pub fn of_this_process() -> io::Result<Arguments> {
        unsafe extern "C" {
            static program_invocation_name: *const libc::c_char;
        }
        let mut text = Vec::new();
        for argument in std::env::args_os() {
            text.extend_from_slice(argument.as_encoded_bytes());
            text.push(0);
        }
        // SAFETY: libc sets it before main and nothing here ever does.
        let start = unsafe { program_invocation_name };
        // SAFETY: it is the kernel's own, and from there on lie as many bytes as the arguments have, which are behind each
        // other whatever they are; none is written here.
        let there = !start.is_null() && (0..text.len()).all(|at| unsafe { *start.add(at) } as u8 == text[at]);
        let (start, end) = (start as usize, start as usize + text.len());
        if there {
            return Ok(Arguments { start, end });
        }
        Err(io::Error::other("libc does not say where the arguments are"))
    }

    /// Only in a child, whose memory is a copy and which reads its own arguments no more.
    pub(crate) fn clear(self) {
        // SAFETY: the kernel put the arguments' strings there, on the stack's writable mapping, which is never unmapped;
        // Rust keeps no reference to them beyond `std::env::args`, which is not used after a clone.
        unsafe { std::ptr::write_bytes(self.start as *mut u8, 0, self.end - self.start) };
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
    loop {
        match wait_with_usage(pid, libc::__WALL) {
            (ended, _, micros) if ended == pid => return micros,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return 0,
        }
    }
}

/// A child that has ended, without waiting for one: its pid (0: none has yet), wait status and CPU time in microseconds.
/// `ECHILD` where there is no child.
pub fn ended_child() -> io::Result<(i32, i32, u64)> {
    match wait_with_usage(-1, libc::WNOHANG) {
        (pid, ..) if pid < 0 => Err(io::Error::last_os_error()),
        ended => Ok(ended),
    }
}

/// wait4(2): its answer, the status, and the CPU time of the process and of what it waited for.
fn wait_with_usage(pid: i32, options: libc::c_int) -> (i32, i32, u64) {
    let mut status = 0;
    // SAFETY: rusage is plain data for which zeroes are valid; wait4 gets live pointers.
    let (answer, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let answer = libc::wait4(pid, &raw mut status, options, &raw mut usage);
        (answer, usage)
    };
    let micros =
        |t: libc::timeval| u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(t.tv_usec).unwrap_or(0);
    (answer, status, micros(usage.ru_utime) + micros(usage.ru_stime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found() {
        let here = Arguments::of_this_process().unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(here.end - here.start, shown.len());
        // arg_start and arg_end (proc_pid_stat(5)).
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').skip(48 - 3).take(2);
        let fields: Vec<usize> = fields.map(|f| f.parse().unwrap()).collect();
        assert_eq!([here.start, here.end], fields[..]);
    }
}
