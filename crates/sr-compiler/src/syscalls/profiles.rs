//! The profiles: which calls ordinary programs need, which have argument rules, and which are never given.
//!
//! A name that one architecture lacks is left out there. Lists are text, sorted by theme; order means nothing.

use crate::bundle::{ArgumentTest, ConditionalRule};

pub(crate) const EPERM: u16 = 1;
pub(crate) const EACCES: u16 = 13;
const EXDEV: u16 = 18;
pub(crate) const ENOSYS: u16 = 38;

/// What every program of the profile `named` gets besides the names that it is given: its end, the return from a signal, the
/// call that the kernel itself makes after a stop, and the launch.
pub(crate) const FLOOR: &str = "execveat sendmsg read close exit exit_group rt_sigreturn restart_syscall";

/// The names of [`FLOOR`].
pub fn floor() -> impl Iterator<Item = &'static str> {
    words(FLOOR)
}

/// The argument by which a call is one of many, where it is a number by itself: what `syscalls.arguments` is of.
pub fn selector(name: &str) -> Option<u8> {
    match name {
        "ioctl" | "fcntl" => Some(1),
        "prctl" | "arch_prctl" => Some(0),
        _ => None,
    }
}

/// Enough for C programs, shells and python3.
pub(crate) const STRICT: &str = "
    read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range
    open openat openat2 creat close close_range dup dup2 dup3 fcntl flock ioctl pipe pipe2
    stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd chdir fchdir
    statfs fstatfs fsync fdatasync truncate ftruncate fallocate fadvise64 readahead
    getxattr lgetxattr fgetxattr getxattrat listxattr llistxattr flistxattr listxattrat
    setxattr lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat
    sync syncfs mknod mknodat rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat umask
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat utimensat
    mmap munmap mprotect mremap madvise brk msync mincore mlock munlock mseal memfd_create map_shadow_stack
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
    eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime timerfd_gettime
    timer_create timer_settime timer_gettime timer_getoverrun timer_delete
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo sigaltstack
    kill tkill tgkill pause alarm getitimer setitimer nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times
    clone clone3 fork vfork execve execveat exit exit_group wait4 waitid pidfd_open pidfd_send_signal
    futex futex_wait futex_wake futex_requeue futex_waitv set_robust_list get_robust_list set_tid_address rseq membarrier
    restart_syscall uretprobe arch_prctl prctl
    getpid gettid getppid getpgrp getpgid setpgid getsid setsid
    getuid geteuid getgid getegid getresuid getresgid getgroups
    getrlimit setrlimit prlimit64 getrusage sysinfo uname getrandom
    sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_getscheduler sched_getattr
    sched_get_priority_max sched_get_priority_min getpriority getcpu
    socket socketpair connect bind listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt
    sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
";

/// What `standard` gives besides: compilers, git, node, go, rust, java, tar, databases.
pub(crate) const STANDARD: &str = "
    file_getattr
    inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
    sync_file_range splice tee vmsplice cachestat
    io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy ioprio_get ioprio_set
    shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
    mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    mlock2 mlockall munlockall remap_file_pages memfd_secret pkey_alloc pkey_free pkey_mprotect
    get_mempolicy set_mempolicy mbind
    sched_setparam sched_setscheduler sched_setattr sched_rr_get_interval setpriority rt_tgsigqueueinfo
    setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capget capset
    personality seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_list_modules
";

/// The wall itself: no profile has them and `syscalls.allow` cannot add them. They would change the view or the
/// namespaces, reach past them (file handles, keys, loaded kernel code), or cannot be filtered: `clone3`, and io_uring, whose
/// requests (sockets of any family) no filter sees.
pub(crate) const WALL: &str = "
    mount umount2 open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr pivot_root chroot
    setns unshare clone3 pidfd_getfd open_by_handle_at io_uring_setup io_uring_enter io_uring_register
    bpf init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct quotactl quotactl_fd
    add_key request_key keyctl settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname
    iopl ioperm fanotify_init fanotify_mark syslog vhangup nfsservctl lookup_dcookie lsm_set_self_attr
";

/// Never in a profile, but a policy may name them: what they reach is the sandbox's own.
#[cfg(test)]
pub(crate) const ON_REQUEST: &str = "
    ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp userfaultfd perf_event_open
    name_to_handle_at
";

// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. CLONE_NEWTIME (0x80) lies in clone's exit-signal
// bits and means nothing there; only clone3 and unshare know it.
pub(super) const CLONE_NAMESPACES: u32 = 0x7E02_0000;
const AF_UNIX: u32 = 1;
const S_IFMT: u32 = 0o170_000;
// Reach a terminal from its slave side: push input, the console's own commands, line disciplines, console redirection.
const TERMINAL_REQUESTS: [u32; 4] = [0x5412, 0x541C, 0x5423, 0x541D];
// PER_LINUX, PER_LINUX32, UNAME26, ADDR_NO_RANDOMIZE (debuggers, sanitizers), and the query.
const PERSONALITIES: [u32; 5] = [0, 0x0008, 0x0002_0000, 0x0004_0000, 0xFFFF_FFFF];

/// The sandbox's init, which has the same user as the program where an ordinary user starts it: the kernel would let the
/// program take its limits and its place in line, and with them the account of how the run ended.
const INIT: u32 = 1;

/// The argument rule of a call that has one. It holds wherever the call is allowed, by a profile or by name.
/// Every tested argument is an `int`, `unsigned int` or `mode_t` in the kernel, or has all its flags in its low half.
pub(crate) fn rule(name: &str) -> Option<ConditionalRule> {
    let test = |index, mask, value| ArgumentTest { index, mask, value };
    let (allow, deny, otherwise_errno) = match name {
        "clone" => (vec![test(0, CLONE_NAMESPACES, 0)], vec![], None),
        // Its flags lie in memory, where no filter can read them; libc falls back to clone on ENOSYS alone.
        "clone3" => (vec![], vec![], Some(ENOSYS)),
        // EACCES also where denied calls kill: programs of every kind try a network socket and live without it, and
        // EAFNOSUPPORT would read as "try IPv6 next" or "this kernel lacks it", not as "you may not".
        "socket" | "socketpair" => (vec![test(0, u32::MAX, AF_UNIX)], vec![], Some(EACCES)),
        "ioctl" => (
            vec![],
            TERMINAL_REQUESTS.map(|request| test(1, u32::MAX, request)).to_vec(),
            None,
        ),
        // Regular files (also spelled 0), FIFOs and sockets; never devices.
        "mknod" => (
            [0, 0o100_000, 0o010_000, 0o140_000]
                .map(|kind| test(1, S_IFMT, kind))
                .to_vec(),
            vec![],
            None,
        ),
        "mknodat" => (
            [0, 0o100_000, 0o010_000, 0o140_000]
                .map(|kind| test(2, S_IFMT, kind))
                .to_vec(),
            vec![],
            None,
        ),
        "personality" => (
            PERSONALITIES.map(|persona| test(0, u32::MAX, persona)).to_vec(),
            vec![],
            None,
        ),
        "prlimit64" | "sched_setaffinity" | "sched_setattr" | "sched_setparam" | "sched_setscheduler" => {
            (vec![], vec![test(0, u32::MAX, INIT)], None)
        }
        // Which of process, group and user is meant says another argument; init leads group 1, and user 1 is nobody's here.
        "ioprio_set" | "setpriority" => (vec![], vec![test(1, u32::MAX, INIT)], None),
        _ => return None,
    };
    Some(ConditionalRule {
        syscall: name.to_owned(),
        allow,
        deny,
        otherwise_errno,
        told: name == "socket",
        only_for: Vec::new(),
        reason: (name == "socket").then(|| "a program without a network rarely says why it failed".to_owned()),
    })
}

/// `link` and `linkat` where the view has an overlay. In a user namespace an overlay does not keep the inode number of a
/// file that is linked from its lower layer; git compares the two and gives up, but copies by itself where links cannot
/// be made. So git is told that they cannot; every other program links as usual.
///
/// This is no security decision, and must not become one: the program chooses the name of its executable, and a call
/// that goes on is made with arguments that may have changed (seccomp_unotify(2)). Both answers are within the policy.
pub(crate) fn links() -> impl Iterator<Item = ConditionalRule> {
    ["link", "linkat"].into_iter().map(|name| ConditionalRule {
        syscall: name.to_owned(),
        allow: vec![],
        deny: vec![],
        otherwise_errno: Some(EXDEV),
        told: true,
        only_for: ["git", "git-*"].map(str::to_owned).to_vec(),
        reason: Some("git copies where it cannot link: an overlay gives a linked file another inode number".to_owned()),
    })
}

/// Signals to the first process, by its number; to all at once (`kill(-1)`) it is none of those that get one.
pub(crate) fn signals_to_init() -> impl Iterator<Item = ConditionalRule> {
    let calls = [
        ("kill", 0),
        ("tkill", 0),
        ("rt_sigqueueinfo", 0),
        ("tgkill", 1),
        ("rt_tgsigqueueinfo", 1),
    ];
    calls.into_iter().map(|(name, index)| ConditionalRule {
        syscall: name.to_owned(),
        allow: vec![],
        deny: vec![ArgumentTest {
            index,
            mask: u32::MAX,
            value: INIT,
        }],
        otherwise_errno: Some(EPERM),
        told: false,
        only_for: vec![],
        reason: None,
    })
}

/// Calls that libraries try at start and live without: they get their errno even where denied calls kill.
pub(crate) const PROBED: [(&str, u16); 12] = [
    ("clone3", ENOSYS),
    ("io_uring_setup", ENOSYS),
    ("pkey_alloc", ENOSYS),
    ("get_mempolicy", ENOSYS),
    ("landlock_create_ruleset", ENOSYS),
    ("statmount", ENOSYS),
    ("listmount", ENOSYS),
    ("capget", EPERM),
    ("setgroups", EPERM),
    ("inotify_init1", EPERM),
    ("sched_setscheduler", EPERM),
    ("setpriority", EPERM),
];

pub(crate) fn words(list: &str) -> impl Iterator<Item = &str> + Clone {
    list.split_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syscalls::table::known_syscall;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_a_system_call_and_stands_once() {
        let mut seen = BTreeSet::new();
        for name in words(STRICT).chain(words(STANDARD)) {
            assert!(known_syscall(name), "{name}");
            assert!(seen.insert(name), "{name} twice");
        }
        for name in words(WALL).chain(words(ON_REQUEST)) {
            assert!(known_syscall(name), "{name}");
            assert!(name == "clone3" || seen.insert(name), "{name} twice");
        }
        assert!(PROBED.iter().all(|(name, _)| known_syscall(name)));
    }
}
