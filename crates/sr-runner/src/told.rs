//! Calls that the filter tells the supervisor of (seccomp_unotify(2)), and their answers.

use crate::asking::Question;
use crate::paths::View;
use sr_compiler::bundle::{DeniedAction, SyscallsPlan};
use sr_compiler::syscalls::{path_arguments, selector};
use sr_compiler::{Arch, Denial, denial, syscall_name};
use sr_kernel::seccomp::{self, Notification};
use sr_observe::learn::Use;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

const EPERM: u16 = 1;
const EACCES: u16 = 13;
const ENOSYS: u16 = 38;

/// A call that was answered, where there is something to record of it.
pub enum Told {
    Denied(Denied),
    /// It waits until a person has answered.
    Asked(Question),
    /// It was allowed, and is observed: its name, what selects its use, and the files that it names.
    Seen {
        name: &'static str,
        selector: Option<u32>,
        files: Vec<(String, Use)>,
        /// Files that it names and that no text can.
        lost: u64,
    },
}

/// An operation that was denied.
pub struct Denied {
    pub denial: Denial,
    /// What denied it.
    pub by: &'static str,
    /// The call, where the policy allows it and denies what it is to be done to.
    pub allowed: Option<&'static str>,
    /// What the caller's executable is called, by the caller's own account.
    pub program: Option<String>,
    /// The policy ends the run for it. The caller waits for that.
    pub ends: bool,
}

/// Takes the next call from `listener` and answers it as the plan says.
/// `view`: where paths are looked at.
pub fn answer_next(listener: BorrowedFd<'_>, calls: &SyscallsPlan, view: Option<&View<'_>>) -> Option<Told> {
    // `None`: the caller was killed while it waited.
    let told = seccomp::next_told(listener)?;
    let number = u32::try_from(told.number).unwrap_or(u32::MAX);
    let name = Arch::parse(&calls.arch).and_then(|arch| syscall_name(arch, number));
    let rule = calls
        .conditional
        .iter()
        .find(|rule| Some(rule.syscall.as_str()) == name);
    if let Some(name) = name.filter(|name| calls.paths.iter().any(|path| path == name)) {
        let denied = view.and_then(|view| view.judge(name, &told, path_arguments(name)));
        return match denied {
            Some((denial, errno)) if seccomp::still_waits(listener, &told) => {
                let program = name_of(told.pid);
                seccomp::deny(listener, &told, errno);
                Some(Told::Denied(Denied {
                    denial,
                    by: "view",
                    allowed: Some(name),
                    program,
                    ends: false,
                }))
            }
            // No more than the wall allows, whatever the path is by now.
            _ => seen(listener, calls, view, name, &told),
        };
    }
    if let Some(name) = name.filter(|name| calls.observed && calls.allows(name, &told.args)) {
        return seen(listener, calls, view, name, &told);
    }
    match rule {
        // No operation is denied here: the program does by other means what it meant to do. The name is the caller's own
        // choice and may change at once; the policy allows either answer.
        Some(rule) if !rule.only_for.is_empty() => {
            let errno = rule.otherwise_errno.unwrap_or(EACCES);
            let denies = name_of(told.pid).is_some_and(|name| rule.denies(&name));
            match name {
                Some(name) if !denies => return seen(listener, calls, view, name, &told),
                _ if denies && seccomp::still_waits(listener, &told) => seccomp::deny(listener, &told, errno),
                _ => seccomp::let_go_on(listener, &told, errno),
            }
            name.filter(|_| calls.observed).map(|name| Told::Seen {
                name,
                selector: None,
                files: Vec::new(),
                lost: 0,
            })
        }
        _ => {
            let errno = rule.and_then(|rule| rule.otherwise_errno);
            let program = name_of(told.pid).filter(|_| seccomp::still_waits(listener, &told));
            let ends = errno.is_none() && calls.on_denied == DeniedAction::Kill;
            let denied = Denied {
                by: "seccomp",
                allowed: None,
                denial: denial(calls, name.unwrap_or("unknown"), &told.args),
                program,
                ends,
            };
            if errno.is_none() && calls.on_denied == DeniedAction::Ask && denied.denial.can_be_asked() {
                // Without a descriptor more nobody is asked.
                if let Ok(listener) = listener.try_clone_to_owned() {
                    return Some(Told::Asked(Question { denied, told, listener }));
                }
            }
            if !ends {
                seccomp::deny(listener, &told, errno.unwrap_or(EPERM));
            }
            Some(Told::Denied(denied))
        }
    }
}

/// Lets a call go on that is allowed; what it is, where calls are observed.
fn seen(
    listener: BorrowedFd<'_>,
    calls: &SyscallsPlan,
    view: Option<&View<'_>>,
    name: &'static str,
    told: &Notification,
) -> Option<Told> {
    // Before it goes on: afterwards the files may be others, or the caller gone.
    let (files, lost) = match view.filter(|_| calls.observed) {
        Some(view) => view.files(told, path_arguments(name)),
        None => (Vec::new(), 0),
    };
    seccomp::let_go_on(listener, told, ENOSYS);
    calls.observed.then(|| Told::Seen {
        name,
        selector: selector(name).map(|index| told.args[usize::from(index)] as u32),
        files,
        lost,
    })
}

/// The first 15 bytes of the name of what a process executes (`comm` in proc_pid_comm(5)); `None` where it is gone.
fn name_of(pid: u32) -> Option<String> {
    let name = sr_kernel::pseudo::text(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end_matches('\n').to_owned())
}

/// How fast denied calls are answered. Each costs the supervisor, whose time no limit of the policy counts, some
/// microseconds: a program that makes nothing else would have a processor besides its own.
#[derive(Default)]
pub struct Pace {
    since: Option<Instant>,
    answered: u32,
}

const SPAN: Duration = Duration::from_millis(100);
const MOST_IN_SPAN: u32 = 500;

impl Pace {
    pub fn count(&mut self, now: Instant) {
        if self.since.is_none_or(|since| now.duration_since(since) >= SPAN) {
            (self.since, self.answered) = (Some(now), 0);
        }
        self.answered += 1;
    }

    /// When the next call is taken; `None`: at once.
    pub fn pause(&self, now: Instant) -> Option<Instant> {
        let until = self.since? + SPAN;
        (self.answered >= MOST_IN_SPAN && until > now).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_waits_for_the_next_span() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.pause(start), None);
        for _ in 1..MOST_IN_SPAN {
            pace.count(start);
            assert_eq!(pace.pause(start), None);
        }
        pace.count(start);
        assert_eq!(pace.pause(start), Some(start + SPAN));
        assert_eq!(pace.pause(start + SPAN), None);
        pace.count(start + SPAN);
        assert_eq!(pace.pause(start + SPAN), None);
    }
}
