//! The profile around `runsc` and its driver: what they were seen to call, and no more. Like the wall of every other program
//! it gives no capability; what `runsc` mounts, it mounts in a user namespace of its own below the sandbox's, where it can lift
//! nothing that the sandbox has made read-only.

use super::Arch;
use super::profiles::{self, words};
use crate::bundle::{ArgumentTest, ConditionalRule, SyscallsPlan};
use sr_common::Fault;
use std::collections::BTreeMap;

/// Who calls what, and for what: measured by letting the kernel log what was not in the list yet, until nothing was new, with
/// compilers, interpreters, archives and shells for programs.
const CALLS: [(&str, &str); 9] = [
    (
        "memory, threads and time of the Go runtime",
        "mmap munmap mprotect madvise futex nanosleep sched_yield sched_getaffinity membarrier clone exit exit_group
         arch_prctl rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack tgkill restart_syscall getrandom getpid gettid
         epoll_create1 epoll_ctl epoll_pwait eventfd2 pipe2 getrlimit setrlimit prlimit64 uname prctl",
    ),
    (
        "the sandbox's and the gofer's namespaces and roots, made in a user namespace of their own",
        "mount umount2 pivot_root chroot chdir fchdir umask execve execveat setsid getppid getuid geteuid getgid getegid
         setuid setgid setgroups capget capset wait4 waitid dup3 kill",
    ),
    (
        "the processes in which the program's code runs, and their filters",
        "ptrace seccomp setpriority getpriority",
    ),
    (
        "files that the gofer opens for the program, and their attributes",
        "openat read write pread64 pwrite64 preadv2 pwritev2 lseek close dup fcntl flock ioctl fstat newfstatat statx fstatfs
         readlinkat getdents64 faccessat faccessat2 fgetxattr ftruncate fallocate fsync fchmod fchmodat fchownat utimensat mkdirat mknodat
         unlinkat renameat linkat symlinkat",
    ),
    (
        "memory that the sandbox, its processes and the gofer share",
        "memfd_create",
    ),
    (
        "the gofer's and the control connection",
        "socket socketpair bind listen accept4 connect sendmsg recvmsg shutdown ppoll",
    ),
    (
        "the driver: its streams, its agent, its child",
        "poll recvfrom sendto readv writev signalfd4 pidfd_open pidfd_send_signal vfork dup2 brk clock_gettime statfs
         getsockopt setpgid mremap readlink clock_nanosleep",
    ),
    (
        "the start of a dynamic program",
        "access set_tid_address set_robust_list rseq",
    ),
    ("the launch", "sendmsg read close"),
];

/// Of `membarrier`: which commands there are, and a barrier over all processes.
const QUERY: u32 = 0;
const GLOBAL: u32 = 1;

/// The plan for `arch`.
pub(crate) fn plan(arch: Arch, faults: &mut Vec<Fault>) -> Option<SyscallsPlan> {
    let names = || CALLS.iter().flat_map(|(_, names)| words(names));
    let rules = names().filter_map(profiles::rule).map(|rule| ConditionalRule {
        told: false,
        reason: None,
        ..rule
    });
    let mut rules: BTreeMap<String, ConditionalRule> = rules.map(|rule| (rule.syscall.clone(), rule)).collect();
    // Namespaces are what it makes; how many lie in each other the kernel bounds.
    rules.remove("clone");
    rules.extend(profiles::rule("clone3").map(|rule| (rule.syscall.clone(), rule)));
    let barrier = barriers();
    rules.insert(barrier.syscall.clone(), barrier);
    super::listed::plan("gvisor", names(), rules, arch, faults)
}

/// What the Sentry asks the host for when the program wants a barrier: one over all processes, and whether there is such a
/// thing. `runsc` registers besides, at each of its starts, of which a container takes five, for barriers of its own process,
/// which no platform but KVM uses; and each time that waits for a grace period of the kernel's.
fn barriers() -> ConditionalRule {
    let command = |value| ArgumentTest {
        index: 0,
        mask: u32::MAX,
        value,
    };
    ConditionalRule {
        syscall: "membarrier".to_owned(),
        allow: [QUERY, GLOBAL].map(command).to_vec(),
        deny: Vec::new(),
        otherwise_errno: None,
        told: false,
        only_for: Vec::new(),
        reason: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::listed;
    use super::*;

    #[test]
    fn every_name_is_a_system_call() {
        listed::tests::are_calls(&CALLS);
    }

    #[test]
    fn what_would_reach_past_the_sandbox_is_not_given() {
        let mut faults = Vec::new();
        let plan = plan(Arch::X86_64, &mut faults).unwrap();
        assert_eq!(faults, []);
        for name in [
            "bpf",
            "setns",
            "unshare",
            "open_by_handle_at",
            "keyctl",
            "io_uring_setup",
            "init_module",
            "clone3",
        ] {
            assert!(!plan.allows(name, &[0; 6]), "{name}");
        }
        const NEWUSER: u64 = 0x1000_0000;
        assert!(plan.allows("clone", &[NEWUSER, 0, 0, 0, 0, 0]) && plan.allows("mount", &[0; 6]));
        // A barrier for the program, and none that each start of `runsc` would wait for.
        const REGISTER_PRIVATE_EXPEDITED: u64 = 1 << 4;
        for (command, allowed) in [
            (0, true),
            (1, true),
            (REGISTER_PRIVATE_EXPEDITED, false),
            (1 << 3, false),
        ] {
            assert_eq!(
                plan.allows("membarrier", &[command, 0, 0, 0, 0, 0]),
                allowed,
                "{command}"
            );
        }
        for (family, allowed) in [(1, true), (2, false), (16, false)] {
            assert_eq!(plan.allows("socket", &[family, 1, 0, 0, 0, 0]), allowed, "{family}");
        }
    }
}
