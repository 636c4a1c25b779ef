//! Why a plan denies a call: the clause of the policy that does, in words, and what would allow it.

use super::profiles::{STANDARD, WALL, selector, words};
use crate::bundle::SyscallsPlan;

/// A call that the plan denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// What was tried: the call, and the argument that decided.
    pub operation: String,
    /// The policy's field.
    pub clause: &'static str,
    pub reason: String,
    /// What to write in the policy; `None`: no policy allows it.
    pub remedy: Option<String>,
}

impl Denial {
    /// Whether a person may allow it at once: what a policy could, by its profile or by an argument.
    pub fn can_be_asked(&self) -> bool {
        self.remedy.is_some() && ["syscalls.profile", "syscalls.arguments"].contains(&self.clause)
    }
}

/// Why `plan` denies the call `name` with these arguments. No argument is a pointer that was followed.
pub fn denial(plan: &SyscallsPlan, name: &str, args: &[u64; 6]) -> Denial {
    let rule = plan.conditional.iter().find(|rule| rule.syscall == name);
    let tested = rule.and_then(|rule| rule.allow.iter().chain(&rule.deny).next());
    let value = tested.map(|test| args[usize::from(test.index)] as u32);
    let operation = match value {
        Some(value) => format!("{name} {}", argument(name, value)),
        None => name.to_owned(),
    };
    let (clause, reason, remedy) = if matches!(name, "socket" | "socketpair") && value.is_some() {
        match value {
            Some(AF_INET | AF_INET6) => (
                "network.mode",
                "network is off".to_owned(),
                Some("network: {mode: allowlist, allow: […]} (not available in this build)".to_owned()),
            ),
            _ => (
                "network.mode",
                "only local sockets (AF_UNIX) are ever given".to_owned(),
                None,
            ),
        }
    } else if plan.denied.iter().any(|denied| denied == name) {
        let remedy = format!("take {name} out of syscalls.deny");
        ("syscalls.deny", format!("the policy denies {name}"), Some(remedy))
    } else if name == "sched_setaffinity" && tested.is_none() {
        let reason = "the CPU limit is held by the processors that the program may use".to_owned();
        ("resources.cpu", reason, Some("resources: {cpu: all}".to_owned()))
    } else if words(WALL).any(|wall| wall == name) || sr_policy::never_allowed(name) {
        let reason = format!("{name} is part of the wall: it would change the view or reach past it");
        ("syscalls.profile", reason, None)
    } else if let Some(value) = value {
        let reason = format!("{} is no argument that {name} is given with", argument(name, value));
        match selector(name).is_some() && rule.is_some_and(|rule| !rule.allow.is_empty()) {
            true => {
                let remedy = format!("syscalls: {{arguments: {{{name}: […, {value}]}}}}");
                ("syscalls.arguments", reason, Some(remedy))
            }
            false => ("syscalls.profile", reason, None),
        }
    } else {
        let reason = format!("the profile {} does not have {name}", plan.profile);
        let remedy = match plan.profile == "strict" && words(STANDARD).any(|word| word == name) {
            true => format!("syscalls: {{allow: [{name}]}}, or profile: standard"),
            false => format!("syscalls: {{allow: [{name}]}}"),
        };
        ("syscalls.profile", reason, Some(remedy))
    };
    Denial {
        operation,
        clause,
        reason,
        remedy,
    }
}

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// The value of a tested argument by the name that people know it by (the uapi headers' own).
fn argument(name: &str, value: u32) -> String {
    let known: &[(u32, &str)] = match name {
        "socket" | "socketpair" => &[
            (AF_INET, "AF_INET"),
            (AF_INET6, "AF_INET6"),
            (16, "AF_NETLINK"),
            (17, "AF_PACKET"),
            (38, "AF_ALG"),
            (40, "AF_VSOCK"),
        ],
        "ioctl" => &[
            (0x5412, "TIOCSTI"),
            (0x541C, "TIOCLINUX"),
            (0x541D, "TIOCCONS"),
            (0x5423, "TIOCSETD"),
        ],
        "clone" => return flags(value),
        "mknod" | "mknodat" => match value & 0o170_000 {
            0o020_000 => return "of a character device".to_owned(),
            0o060_000 => return "of a block device".to_owned(),
            _ => &[],
        },
        "prlimit64" | "sched_setaffinity" | "sched_setattr" | "sched_setparam" | "sched_setscheduler"
        | "ioprio_set" | "setpriority" => return format!("of process {value}, the sandbox's init"),
        _ => &[],
    };
    match known.iter().find(|(number, _)| *number == value) {
        Some((_, text)) => (*text).to_owned(),
        None if matches!(name, "socket" | "socketpair") => format!("family {value}"),
        None => format!("{value:#x}"),
    }
}

/// The namespaces that clone(2) was to make.
fn flags(value: u32) -> String {
    const NAMESPACES: [(u32, &str); 7] = [
        (0x0002_0000, "CLONE_NEWNS"),
        (0x0200_0000, "CLONE_NEWCGROUP"),
        (0x0400_0000, "CLONE_NEWUTS"),
        (0x0800_0000, "CLONE_NEWIPC"),
        (0x1000_0000, "CLONE_NEWUSER"),
        (0x2000_0000, "CLONE_NEWPID"),
        (0x4000_0000, "CLONE_NEWNET"),
    ];
    let set = NAMESPACES.iter().filter(|(flag, _)| value & flag != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}
