//! How the supervisor confines itself once the program runs: it keeps what the end of a run still needs, and nothing that a
//! program which got the better of it could use. It starts no process any more, opens no network socket, reads and writes the
//! run's own files only, and gives up the capabilities that made the sandbox.

use crate::broker::Broker;
use sr_common::{Code, Fault};
use sr_compiler::Arch;
use sr_compiler::syscalls::allow_only;
use sr_kernel::confine;
use sr_kernel::landlock::{self, Access, Rule, Ruleset, Scope};
use sr_kernel::seccomp::Instruction;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Copying what a sandbox of other ids wrote, with their owners and modes, and killing it.
const CAPABILITIES: u64 = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_KILL;
const CAP_CHOWN: u64 = 1;
const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_FOWNER: u64 = 1 << 3;
const CAP_KILL: u64 = 1 << 5;

/// What a run still does after its launch: pump, watch, capture, seal, clean up, export.
const CALLS: &str = "
    read write readv writev pread64 pwrite64 lseek close fcntl dup ioctl poll ppoll flock
    openat openat2 open stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat getdents64 access faccessat faccessat2 getcwd
    mkdir mkdirat unlink unlinkat rmdir rename renameat renameat2 link linkat symlink symlinkat mknod mknodat umask
    chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utimensat
    ftruncate fallocate fadvise64 copy_file_range sendfile fsync fdatasync syncfs
    getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    accept4 getsockopt sendmsg recvmsg memfd_create pidfd_open pidfd_send_signal wait4 waitid
    mmap munmap mremap mprotect madvise brk futex
    rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
    getrandom clock_gettime clock_nanosleep nanosleep gettimeofday sched_yield uname sysinfo prlimit64
    getpid gettid getppid getuid geteuid getgid getegid tgkill exit exit_group
";

/// The filter of one of Safe-Run's own processes.
pub(crate) fn filter(names: &str) -> io::Result<Vec<Instruction>> {
    let program = Arch::parse(std::env::consts::ARCH).and_then(|arch| allow_only(names, arch));
    let program = program.ok_or_else(|| io::Error::other("no filter can be made for this machine"))?;
    let instruction = |(code, jt, jf, k)| Instruction { code, jt, jf, k };
    Ok(program.into_iter().map(instruction).collect())
}

/// Files that the rest of a run needs.
#[derive(Debug, Default)]
pub(crate) struct Files<'a> {
    /// To read.
    pub look: Vec<PathBuf>,
    /// To read, make, change and remove.
    pub keep: Vec<PathBuf>,
    /// Directories from which directories are removed.
    pub remove_from: Vec<PathBuf>,
    /// Open directories that no path of the host's leads to, to read.
    pub open: Vec<BorrowedFd<'a>>,
}

impl Files<'_> {
    fn rules(&self) -> io::Result<Vec<Rule>> {
        let kinds = [
            (&self.look, Access::Look),
            (&self.keep, Access::Keep),
            (&self.remove_from, Access::RemoveDirectories),
        ];
        let all = kinds
            .iter()
            .flat_map(|(paths, access)| paths.iter().map(|path| Ok(Rule::new(c_string(path)?, *access))));
        all.collect()
    }
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// The supervisor's own confinement, entered once.
#[derive(Debug)]
pub(crate) struct Confinement<'a> {
    /// The command that becomes the broker.
    broker: &'a [OsString],
    /// The pid namespace of those processes of which it also opens what they hold.
    inside: Option<u64>,
    /// `None` where the kernel has no Landlock.
    ruleset: Option<OwnedFd>,
    filter: Vec<Instruction>,
    entered: bool,
}

impl<'a> Confinement<'a> {
    /// Makes all of it that can be made before it holds.
    pub(crate) fn prepare(files: &Files<'_>, broker: &'a [OsString], inside: Option<u64>) -> Result<Self, Fault> {
        let ready = || -> io::Result<_> { Ok((ruleset(files)?, filter(CALLS)?)) };
        let (ruleset, filter) = ready().map_err(|e| cannot(&e))?;
        Ok(Confinement {
            broker,
            inside,
            ruleset,
            filter,
            entered: false,
        })
    }

    pub(crate) fn entered(&self) -> bool {
        self.entered
    }

    /// Starts the broker: this process starts none once it is confined. A run without one cannot be joined, and is no worse
    /// a run.
    pub(crate) fn broker(&self) -> Option<Broker> {
        Broker::start(self.broker, self.inside)
            .inspect_err(|e| tracing::debug!("this run has no broker: {e}"))
            .ok()
    }

    /// Enters, if it is not confined yet.
    pub(crate) fn enter(&mut self) -> Result<(), Fault> {
        if self.entered {
            return Ok(());
        }
        let ruleset = self.ruleset.take();
        confine::Confinement {
            files: ruleset.as_ref().map(AsFd::as_fd),
            capabilities: CAPABILITIES,
            filter: &self.filter,
        }
        .enter()
        .map_err(|e| cannot(&e))?;
        self.entered = true;
        Ok(())
    }
}

fn ruleset(files: &Files<'_>) -> io::Result<Option<OwnedFd>> {
    let abi = landlock::abi();
    if abi == 0 {
        return Ok(None);
    }
    let ruleset = Ruleset {
        abi,
        deny_tcp: true,
        scope: Scope::Signals,
        rules: files.rules()?,
    };
    let open: Vec<_> = files.open.iter().map(|fd| (*fd, Access::Look)).collect();
    confine::ruleset(&ruleset, &open).map(Some)
}

fn cannot(error: &io::Error) -> Fault {
    Fault::new(
        Code::Run002,
        "launch.supervisor",
        format!("the supervisor cannot confine itself: {error}"),
        "see `safe-run doctor`; in a container, its filter must let seccomp(2), landlock_restrict_self(2) and capset(2) through",
    )
}
