//! Rules about system calls named by a policy. Whether a name exists on an architecture is the compiler's question.

use super::Rule;
use crate::spec::{PolicySpec, SyscallProfile};
use crate::text::printable;
use sr_common::Fault;
use std::collections::BTreeSet;

const NAME: Rule = Rule::new(
    "SR-RULE-syscall-name-form",
    "A system call's name is a-z, 0-9 and `_`, at most 32 characters.",
);
const BOTH: Rule = Rule::new(
    "SR-RULE-syscall-allow-deny",
    "A system call is allowed or denied, not both.",
);
const WALL: Rule = Rule::new(
    "SR-RULE-syscall-allow-wall",
    "Calls that reach through the wall are never allowed.",
);
const NEEDED: Rule = Rule::new(
    "SR-RULE-syscall-deny-needed",
    "Calls without which no program starts or ends are never denied.",
);

const ARGUMENTS: Rule = Rule::new(
    "SR-RULE-syscall-arguments",
    "`arguments` is of ioctl, fcntl, prctl and arch_prctl, with 1 to 256 values each, where the call is allowed.",
);

pub(super) const RULES: &[Rule] = &[NAME, BOTH, WALL, NEEDED, ARGUMENTS];

/// The calls whose use is told by an argument that is a number.
const SELECTED: [&str; 4] = ["ioctl", "fcntl", "prctl", "arch_prctl"];

/// Sorted. No policy allows these: they change mounts, namespaces, the kernel, the clock, or other processes.
const NEVER: [&str; 54] = [
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
];

/// Whether no policy can allow the call `name`.
pub fn never_allowed(name: &str) -> bool {
    NEVER.binary_search(&name).is_ok()
}

/// Denying one of these ends every run before or as it begins.
const ALWAYS: [&str; 9] = [
    "brk",
    "close",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "mmap",
    "munmap",
    "rt_sigreturn",
];

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let calls = &spec.syscalls;
    let allowed: BTreeSet<&String> = calls.allow.iter().collect();
    for (list, names) in [("allow", &calls.allow), ("deny", &calls.deny)] {
        for (i, name) in names.iter().enumerate() {
            let path = format!("syscalls.{list}[{i}]");
            if !is_name(name) {
                let found = format!("\"{}\" is no system call's name", printable(name));
                faults.push(NAME.fault(path, found, "write the name as in `man 2`, such as personality"));
            } else if list == "allow" && never_allowed(name) {
                let found = format!("`{name}` would reach through the wall");
                faults.push(WALL.fault(path, found, "remove it: no policy can allow this call"));
            } else if list == "deny" && ALWAYS.contains(&name.as_str()) {
                let found = format!("without `{name}` no program can run");
                faults.push(NEEDED.fault(path, found, "remove it from `deny`"));
            } else if list == "deny" && allowed.contains(name) {
                let found = format!("`{name}` stands in `allow` too");
                faults.push(BOTH.fault(path, found, "keep it in one of the two lists"));
            }
        }
    }
    for (name, values) in &calls.arguments {
        let path = format!("syscalls.arguments.{name}");
        let named = calls.profile != SyscallProfile::Named || allowed.contains(name);
        if !SELECTED.contains(&name.as_str()) {
            let found = format!("`{}` has no argument that selects what it does", printable(name));
            faults.push(ARGUMENTS.fault(path, found, format!("write one of {}", SELECTED.join(", "))));
        } else if !(1..=256).contains(&values.len()) {
            let found = format!("{} values", values.len());
            faults.push(ARGUMENTS.fault(path, found, "write 1 to 256, or deny the call"));
        } else if !named {
            let found = format!("the profile `named` does not have `{name}`");
            faults.push(ARGUMENTS.fault(path, found, format!("write {name} under syscalls.allow too")));
        }
    }
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_of_never_is_sorted_for_the_search() {
        assert!(super::NEVER.is_sorted());
    }
}
