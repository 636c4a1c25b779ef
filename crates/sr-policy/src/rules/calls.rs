//! Rules about system calls named by a policy. Whether a name exists on an architecture is the compiler's question.

use super::Rule;
use crate::spec::PolicySpec;
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

pub(super) const RULES: &[Rule] = &[NAME, BOTH, WALL, NEEDED];

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
            } else if list == "allow" && NEVER.binary_search(&name.as_str()).is_ok() {
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
