//! The few ptrace(2) requests that bring a new program to its exec stop.

use std::io;

/// A stop or an end that waitpid(2) reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// `PTRACE_EVENT_FORK`, `_VFORK` or `_CLONE`: the new process's id.
    Forked(i32),
    /// `PTRACE_EVENT_EXEC`: the new image is in place, its first instruction is not yet run.
    Execed,
    /// Any other stop, with the signal that a resume must deliver (0: none).
    Other(i32),
    /// The process is gone: its wait status.
    Gone(i32),
}

fn request(request: libc::c_uint, pid: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: the requests used here (SEIZE, CONT, DETACH, SETOPTIONS) take integers and touch no memory of ours.
    let answer = unsafe { libc::ptrace(request, pid, address, data) };
    if answer == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether the call is answered by the kernel itself: no process has the id 0, so that it says `ESRCH`.
pub(crate) fn reaches_the_kernel() -> bool {
    request(libc::PTRACE_SEIZE, 0, 0, 0).is_err_and(|e| e.raw_os_error() == Some(libc::ESRCH))
}

/// Seizes `pid`: it stops when it makes a process, and that one, which inherits the options, at its exec. Both are killed
/// if this process ends while tracing.
pub fn seize(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    request(libc::PTRACE_SEIZE, pid, 0, options as usize)
}

pub fn resume(pid: i32, signal: i32) -> io::Result<()> {
    request(libc::PTRACE_CONT, pid, 0, signal as usize)
}

pub fn detach(pid: i32) -> io::Result<()> {
    request(libc::PTRACE_DETACH, pid, 0, 0)
}

/// Brings a seized `pid` to its fork: the child, seized too; `None` if `pid` ended before.
pub fn to_fork(pid: i32) -> io::Result<Option<i32>> {
    loop {
        match wait_and_reap(pid)? {
            Stop::Forked(child) => return Ok(Some(child)),
            Stop::Gone(_) => return Ok(None),
            Stop::Execed => return Err(io::Error::other("an exec that was not expected")),
            Stop::Other(signal) => resume(pid, signal)?,
        }
    }
}

/// Brings `pid`, newly forked and seized, to its exec stop; `false` if it ended before.
pub fn to_exec(pid: i32) -> io::Result<bool> {
    loop {
        match wait(pid)? {
            Stop::Execed => return Ok(true),
            Stop::Gone(_) => return Ok(false),
            Stop::Forked(_) => return Err(io::Error::other("a fork that was not expected")),
            Stop::Other(signal) => resume(pid, signal)?,
        }
    }
}

/// Waits for the next stop of `pid`, and meanwhile for the end of whoever it forked: a child that was seized at its birth, and
/// of which a `pid` that is killed just then can tell nothing, must be waited for here before `pid`, as the first process of
/// its namespace, can end.
pub fn wait_and_reap(pid: i32) -> io::Result<Stop> {
    // Of this thread alone: other threads' children are theirs.
    let peek = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    loop {
        // Is it a child still? Others may be, which could be waited for without end.
        let id = libc::id_t::try_from(pid).map_err(io::Error::other)?;
        let (mut who, mut code) = peeked(libc::P_PID, id, peek | libc::WNOHANG)?;
        if who == 0 {
            (who, code) = peeked(libc::P_ALL, 0, peek)?;
        }
        match code {
            _ if who == pid => return wait(pid),
            libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => drop(wait(who)?),
            // Its first stop is for later; that of `pid` is a moment away.
            _ => std::thread::sleep(std::time::Duration::from_micros(20)),
        }
    }
}

/// Of whom waitid(2) tells, and what; 0 where there is nothing to tell.
fn peeked(of: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> io::Result<(i32, i32)> {
    loop {
        // SAFETY: siginfo_t is plain data for which zeroes are valid; waitid gets a live pointer, and fills in the fields of a
        // SIGCHLD, of which the pid is one, or leaves the zeroes.
        let (answer, who, code) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let answer = libc::waitid(of, id, &raw mut info, options);
            (answer, info.si_pid(), info.si_code)
        };
        let error = io::Error::last_os_error();
        match answer {
            0 => return Ok((who, code)),
            _ if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(error),
        }
    }
}

/// Waits for the next stop of `pid`.
pub fn wait(pid: i32) -> io::Result<Stop> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live int.
        let answer = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if answer == pid {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
        return Ok(Stop::Gone(status));
    }
    match status >> 16 {
        libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
            let mut message: libc::c_ulong = 0;
            // SAFETY: GETEVENTMSG writes one unsigned long to `message`.
            let answer = unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, pid, 0usize, &raw mut message) };
            if answer == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(Stop::Forked(i32::try_from(message).unwrap_or(-1)))
        }
        libc::PTRACE_EVENT_EXEC => Ok(Stop::Execed),
        libc::PTRACE_EVENT_STOP => Ok(Stop::Other(0)),
        _ => Ok(Stop::Other(libc::WSTOPSIG(status))),
    }
}
