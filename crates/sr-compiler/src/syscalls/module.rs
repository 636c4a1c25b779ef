//! The profile around the worker of a WebAssembly module: what it was seen to call, and no more. It makes no process and no
//! socket, and executes nothing.

use super::profiles::{self, words};
use super::{Arch, listed};
use crate::bundle::{ArgumentTest, ConditionalRule, SyscallsPlan};
use sr_common::Fault;
use std::collections::BTreeMap;

/// Who calls what, and for what: as strace(1) showed it of modules and components that do what they can. Where the kernel has
/// none of a newer call (`openat2`, `pwritev2`, `clone3`), an older one stands in.
const CALLS: [(&str, &str); 7] = [
    ("the launch", "execveat sendmsg read close"),
    (
        "the start of a static program, and its end",
        "arch_prctl brk set_tid_address set_robust_list rseq prlimit64 readlink sched_getaffinity getrandom gettid mmap
         mprotect munmap mremap madvise poll ioctl exit exit_group restart_syscall",
    ),
    (
        "traps, and a stack for them",
        "rt_sigaction rt_sigreturn rt_sigprocmask sigaltstack tgkill getpid",
    ),
    (
        "a clock that ticks, and collected heaps",
        "clone clone3 futex membarrier sched_yield epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2 fcntl",
    ),
    ("the supervisor", "recvfrom sendto"),
    ("time", "clock_gettime clock_getres clock_nanosleep ppoll"),
    (
        "files that the module opens, and what it does with them",
        "openat openat2 readv write writev pread64 preadv pwrite64 pwritev pwritev2 lseek fstat newfstatat statx fstatfs
         fadvise64 fallocate ftruncate fsync fdatasync getdents64 mkdirat unlinkat renameat renameat2 linkat symlinkat
         readlinkat utimensat fchmod dup",
    ),
];

/// A thread of the caller's process (clone(2)).
const CLONE_THREAD: u32 = 0x0001_0000;

/// The plan for `arch`.
pub(crate) fn plan(arch: Arch, faults: &mut Vec<Fault>) -> Option<SyscallsPlan> {
    let names = CALLS.iter().flat_map(|(_, names)| words(names));
    let rules = names.clone().filter_map(profiles::rule).map(|rule| ConditionalRule {
        told: false,
        reason: None,
        ..rule
    });
    let mut rules: BTreeMap<String, ConditionalRule> = rules.map(|rule| (rule.syscall.clone(), rule)).collect();
    if let Some(clone) = rules.get_mut("clone") {
        clone.allow = vec![ArgumentTest {
            index: 0,
            mask: CLONE_THREAD | profiles::CLONE_NAMESPACES,
            value: CLONE_THREAD,
        }];
    }
    listed::plan("wasm", names, rules, arch, faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_system_call() {
        listed::tests::are_calls(&CALLS);
    }

    #[test]
    fn a_worker_makes_no_process_and_no_socket() {
        let mut faults = Vec::new();
        let plan = plan(Arch::X86_64, &mut faults).unwrap();
        assert_eq!(faults, []);
        for name in [
            "socket",
            "connect",
            "execve",
            "fork",
            "vfork",
            "ptrace",
            "mount",
            "unshare",
            "setns",
            "bpf",
            "kill",
            "chmod",
            "mknodat",
            "io_uring_setup",
            "process_vm_readv",
            "setuid",
            "keyctl",
        ] {
            assert!(!plan.allows(name, &[0; 6]), "{name}");
        }
        // A thread, but no process.
        const THREAD: u64 = 0x0001_0000 | 0x0000_0800 | 0x0000_0100;
        assert!(!plan.allows("clone", &[17, 0, 0, 0, 0, 0]));
        assert!(plan.allows("clone", &[THREAD, 0, 0, 0, 0, 0]));
    }
}
