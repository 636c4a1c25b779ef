//! Calls that the filter tells the supervisor of (seccomp_unotify(2)), and their answers.

use sr_compiler::bundle::SyscallsPlan;
use sr_compiler::{Arch, syscall_name};
use sr_kernel::seccomp::{self, Notification};
use std::os::fd::BorrowedFd;

const EACCES: u16 = 13;

/// Takes the next call from `listener` and answers it as the plan's rule says. `Some`: an operation was denied, which is
/// to be recorded.
pub fn answer_next(listener: BorrowedFd<'_>, calls: &SyscallsPlan) -> Option<Notification> {
    // `None`: the caller was killed while it waited.
    let told = seccomp::next_told(listener)?;
    let number = u32::try_from(told.number).unwrap_or(u32::MAX);
    let name = Arch::parse(&calls.arch).and_then(|arch| syscall_name(arch, number));
    let rule = calls
        .conditional
        .iter()
        .find(|rule| rule.told && Some(rule.syscall.as_str()) == name);
    let errno = rule.and_then(|rule| rule.otherwise_errno).unwrap_or(EACCES);
    match rule {
        // No operation is denied here: the program does by other means what it meant to do. The name is the caller's own
        // choice and may change at once; the policy allows either answer.
        Some(rule) if !rule.only_for.is_empty() => {
            let denies = name_of(told.pid).is_some_and(|name| rule.denies(&name));
            if denies && seccomp::still_waits(listener, &told) {
                seccomp::deny(listener, &told, errno);
            } else {
                seccomp::let_go_on(listener, &told, errno);
            }
            None
        }
        _ => {
            seccomp::deny(listener, &told, errno);
            Some(told)
        }
    }
}

/// The first 15 bytes of the name of what a process executes (`comm` in proc_pid_comm(5)); `None` where it is gone.
fn name_of(pid: u32) -> Option<String> {
    let name = sr_kernel::pseudo::text(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}
