//! The driver of a monitor: the program that runs inside the native sandbox in the guest's program's stead. It starts the
//! virtual machine monitor, speaks with the agent in the guest, moves its own standard streams to and from there, passes
//! signals on, and ends as the program in the guest ended. It knows no policies: what it starts and what the agent is told
//! come from its supervisor, complete.

mod cloud_hypervisor;
mod console;
mod drive;
mod firecracker;
mod http;
mod kind;
mod machine;
mod output;
mod qmp;
mod sentry;
mod share;
mod supervisor;

use supervisor::Supervisor;

/// How it ends where the program in the guest did not end, or was not started.
pub const FAILED: u8 = 125;

/// How the program in the guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Code(u8),
    Signal(i32),
}

impl Ending {
    /// Of a wait status.
    fn of(status: i32) -> Ending {
        match status & 0x7f {
            0 => Ending::Code((status >> 8) as u8),
            signal => Ending::Signal(signal),
        }
    }
}

/// Why it cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    path: &'static str,
    found: String,
    remedy: &'static str,
}

impl Failure {
    fn new(path: &'static str, found: impl Into<String>, remedy: &'static str) -> Failure {
        Failure {
            path,
            found: found.into(),
            remedy,
        }
    }

    /// Something of this process's own failed.
    fn own(what: &str, error: impl std::fmt::Display) -> Failure {
        Failure::new(
            "run.monitor",
            format!("{what}: {error}"),
            "the sandbox around the virtual machine may lack what its driver needs: please report this with the run's events",
        )
    }
}

/// Runs a machine, as the whole of this process: its standard streams are taken over, and the one other descriptor that is
/// open, which leads to the supervisor. The status to end with; where a signal ended the program, it does not return.
pub fn run() -> u8 {
    // Without a supervisor there is nobody to tell.
    let Ok(mut supervisor) = Supervisor::inherited() else {
        return FAILED;
    };
    match drive::drive(&mut supervisor) {
        Ok(Ending::Code(code)) => code,
        Ok(Ending::Signal(signal)) => sr_kernel::process::end_by(signal),
        Err(failure) => {
            supervisor.fail(&failure);
            FAILED
        }
    }
}

/// Waits until nobody has the other end. A test that dropped it may not have been the last: a process that another test
/// starts in the meantime has it too, until it executes its program.
#[cfg(test)]
fn await_end(fd: impl std::os::fd::AsFd) {
    let mut wait = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::empty())];
    rustix::event::poll(&mut wait, None).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_those_of_wait_statuses() {
        assert_eq!(Ending::of(0), Ending::Code(0));
        assert_eq!(Ending::of(0x2a00), Ending::Code(42));
        assert_eq!(Ending::of(9), Ending::Signal(9));
        // With a core.
        assert_eq!(Ending::of(0x80 | 11), Ending::Signal(11));
    }
}
