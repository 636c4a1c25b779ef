//! Confining this very process, for ever: what Safe-Run's own processes may still do once they hold what they need. It
//! holds for the calling thread and what it makes; the caller has one thread.

use crate::child::limit_capabilities;
use crate::landlock::{self, Access, Ruleset};
use crate::seccomp::{self, Instruction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A Landlock ruleset in the kernel, which holds nobody yet: `files`, and what is `open`.
pub fn ruleset(files: &Ruleset, open: &[(BorrowedFd<'_>, Access)]) -> io::Result<OwnedFd> {
    let ruleset = files.create()?;
    for (target, access) in open {
        landlock::allow(ruleset.as_fd(), files.abi, *target, *access)?;
    }
    Ok(ruleset)
}

/// What a process keeps.
#[derive(Debug)]
pub struct Confinement<'a> {
    /// See [`ruleset`]. `None` where the kernel has no Landlock, or the process must look at processes of other domains.
    pub files: Option<BorrowedFd<'a>>,
    /// As far as it has them (a bit mask).
    pub capabilities: u64,
    pub filter: &'a [Instruction],
}

impl Confinement<'_> {
    /// Where this fails the process is confined in part, and should end.
    pub fn enter(&self) -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        if let Some(ruleset) = self.files {
            landlock::restrict_self(ruleset.as_raw_fd())?;
        }
        let held = rustix::thread::capabilities(None)?.permitted.bits();
        limit_capabilities(held & self.capabilities)?;
        seccomp::install(self.filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::landlock::Scope;
    use rustix::io::Errno;

    /// What a thread of its own sees once it is confined to reading `dir`, with `open` beside it. The domain and the filter
    /// are the thread's alone.
    fn confined<T: Send>(dir: &std::path::Path, look: impl FnOnce() -> T + Send) -> T {
        let open = std::fs::File::open(dir).unwrap();
        let ret = |k| Instruction {
            code: 0x06,
            jt: 0,
            jf: 0,
            k,
        };
        let load = Instruction {
            code: 0x20,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let is_uname = Instruction {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: libc::SYS_uname as u32,
        };
        let filter = [load, is_uname, ret(0x0005_0000 | libc::EDOM as u32), ret(0x7FFF_0000)];
        std::thread::scope(|scope| {
            let work = || {
                let files = Ruleset {
                    abi: landlock::abi(),
                    deny_tcp: true,
                    scope: Scope::Signals,
                    rules: Vec::new(),
                };
                let files = (files.abi > 0).then(|| ruleset(&files, &[(open.as_fd(), Access::Look)]).unwrap());
                Confinement {
                    files: files.as_ref().map(AsFd::as_fd),
                    capabilities: 0,
                    filter: &filter,
                }
                .enter()
                .unwrap();
                look()
            };
            scope.spawn(work).join().unwrap()
        })
    }

    #[test]
    fn a_confined_thread_has_what_it_kept() {
        if landlock::abi() == 0 {
            println!("SKIP a_confined_thread_has_what_it_kept: this kernel has no Landlock");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let host = || std::fs::read("/proc/self/status");
        assert!(host().is_ok());
        let (read, written, other, capabilities, uname) = confined(dir.path(), || {
            let capabilities = rustix::thread::capabilities(None).unwrap();
            // SAFETY: uname(2) fills the struct that it is given.
            let answer = unsafe { libc::uname(std::mem::MaybeUninit::zeroed().as_mut_ptr()) };
            let errno = io::Error::last_os_error();
            (
                std::fs::read(&file),
                std::fs::write(&file, "y"),
                host(),
                capabilities,
                (answer, errno.raw_os_error()),
            )
        });
        assert_eq!(read.unwrap(), b"x");
        assert_eq!(written.unwrap_err().raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
        assert_eq!(other.unwrap_err().raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
        assert!(capabilities.permitted.is_empty() && capabilities.effective.is_empty());
        assert_eq!(uname, (-1, Some(libc::EDOM)));
        assert!(host().is_ok(), "only that thread is confined");
    }

    #[test]
    fn signals_still_go_out() {
        // A supervisor must reach its sandbox, which is in no domain of its.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let dir = tempfile::tempdir().unwrap();
        let sent = confined(dir.path(), || {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        });
        assert_eq!(sent, Ok(()));
        child.wait().unwrap();
    }
}
