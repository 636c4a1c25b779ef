//! One caller, from the first look at the socket until it is closed. Then nothing of what was made for them is left.

use crate::config::Config;
use crate::disk::{self, Limited};
use crate::group::{self, Group, Parents};
use crate::peer::{self, Told};
use crate::slot::{Made, Slot, Slots};
use crate::wire::{self, Answer, Ask, DiskCeilings, Fault, Ready, Request, Say, VERSION};
use sr_kernel::cgroup::{remove_by_path_of, top_of, version};
use sr_kernel::confine::{self, Confinement};
use sr_kernel::landlock::{self, Access, Rule, Ruleset, Scope};
use sr_kernel::peer::Peer;
use sr_kernel::seccomp;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Killing the caller's processes, and having their uid while it moves one. Making groups needs no capability: their parents
/// are root's.
const CAPABILITIES: u64 = CAP_KILL | CAP_SETUID;
const CAP_KILL: u64 = 1 << 5;
const CAP_SETUID: u64 = 1 << 7;
/// Only where the operator gives project quotas away: the kernel has no smaller one for their limits.
const CAP_SYS_ADMIN: u64 = 1 << 21;
/// Likewise.
const QUOTA_CALLS: &[libc::c_long] = &[libc::SYS_quotactl_fd, libc::SYS_ioctl];

/// The calls that it makes once it is confined; any other ends it.
const CALLS: &[libc::c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_openat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_setresuid,
    libc::SYS_setfsuid,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Where a helper looks.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    pub config: &'a Path,
    pub state: &'a Path,
}

/// Serves the caller at the other end of `socket` until they close it. The process is confined afterwards.
///
/// # Errors
/// Why the caller was not served, which they are told too, or what is left for the next helper.
pub fn serve(socket: BorrowedFd<'_>, told: &Told, places: Places<'_>) -> Result<(), String> {
    let mut served = match Served::begin(socket, told, places) {
        Ok(served) => served,
        Err(why) => {
            // Where it is no socket nobody is told.
            let _ = answer(socket, Say::Refused { why: why.clone() });
            return Err(why);
        }
    };
    let spoken = served.speak(socket);
    served.end().and(spoken)
}

fn answer(socket: BorrowedFd<'_>, say: Say) -> io::Result<()> {
    wire::send(socket, &Answer { version: VERSION, say }, None)
}

struct Served {
    caller: Peer,
    config: Config,
    parents: Parents,
    slot: Slot,
    group: Option<Group>,
    limited: Option<Limited>,
}

impl Served {
    fn begin(socket: BorrowedFd<'_>, told: &Told, places: Places<'_>) -> Result<Served, String> {
        let caller = peer::identify(socket, told)?;
        let config = Config::load(places.config)?;
        if caller.uid == 0 && config.disk.is_none() {
            return Err("root needs a helper for project quotas alone, and helper.toml has none".into());
        }
        if caller.uid != 0 && !config.allows(&caller) {
            return Err(format!(
                "{} allows neither uid {} nor a group of theirs",
                places.config.display(),
                caller.uid
            ));
        }
        let parents = Parents::of(&config, caller.uid);
        let slots = Slots::open(places.state)?;
        confine(&config, places.state).map_err(|e| format!("the helper cannot confine itself: {e}"))?;
        let slot = slots.take(caller.uid, config.runs, |made| {
            let dirs: Vec<_> = made
                .iter()
                .filter_map(|made| made.group().map(Path::to_owned))
                .collect();
            let removed = remove_by_path_of(&dirs, caller.uid).map_err(|errors| format!("{errors:?}"));
            parents.remove_empty();
            let projects = made.iter().map(|made| match made {
                Made::Project { device, id } => disk::clear(config.disk.as_ref(), *device, *id),
                Made::Group(_) => Ok(()),
            });
            projects.chain([removed]).collect()
        })?;
        Ok(Served {
            caller,
            config,
            parents,
            slot,
            group: None,
            limited: None,
        })
    }

    fn speak(&mut self, socket: BorrowedFd<'_>) -> Result<(), String> {
        let ready = Ready {
            memory: self.parents.memory.clone(),
            cpu: self.parents.cpu.clone(),
            pids: self.parents.pids.clone(),
            ceilings: self.config.ceilings,
            disk: self.config.disk.as_ref().map(|disk| DiskCeilings {
                devices: disk.mounts.iter().map(|(_, device)| *device).collect(),
                bytes: disk.bytes,
                files: disk.inodes,
            }),
        };
        let mut say = Say::Ready(ready);
        loop {
            // A caller who is gone, or does not read: there is nobody to serve.
            if answer(socket, say).is_err() {
                return Ok(());
            }
            let done = match wire::receive::<Request>(socket) {
                Ok(None) => return Ok(()),
                Ok(Some((request, fds))) => self.act(request, fds),
                Err(Fault::Malformed(why)) => Err(why),
                Err(Fault::Broken(why)) => return Err(why),
            };
            say = match done {
                Ok(()) => Say::Done,
                Err(why) => Say::Refused { why: cut(why) },
            };
        }
    }

    fn act(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<(), String> {
        if request.version != VERSION {
            return Err(format!(
                "version {} is asked for, this helper speaks {VERSION}",
                request.version
            ));
        }
        let with = matches!(request.ask, Ask::Enter | Ask::Join { .. } | Ask::LimitDisk { .. });
        let wanted = usize::from(with);
        if fds.len() != wanted {
            return Err(format!("{} descriptors came, not {wanted}", fds.len()));
        }
        let none = || "there is no group".to_owned();
        let disk = matches!(request.ask, Ask::LimitDisk { .. } | Ask::FreeDisk);
        if self.caller.uid == 0 && !disk {
            return Err("root makes its control groups itself".into());
        }
        let mut fds = fds.into_iter();
        let object = fds.next().ok_or_else(none);
        match request.ask {
            Ask::MakeGroup { .. } if self.group.is_some() => Err("there is a group already".into()),
            Ask::MakeGroup { id, limits } => {
                group::within(limits, self.config.ceilings)?;
                self.group = Some(Group::make(&self.parents, &id, limits, &mut self.slot)?);
                Ok(())
            }
            Ask::Enter => {
                let group = self.group.as_mut().ok_or_else(none)?;
                group.enter(&object?, &self.caller)
            }
            Ask::Join { id } => group::join(&self.parents, &id, &object?, &self.caller, &self.slot),
            Ask::LimitDisk { .. } if self.limited.is_some() => Err("there is a limit on disk already".into()),
            Ask::LimitDisk { bytes, files } => {
                let most = self.config.disk.as_ref();
                let most = most.ok_or("helper.toml has no [disk]: there are no project quotas")?;
                disk::within(bytes, files, most)?;
                let limits = (bytes, files);
                self.limited = Some(Limited::make(most, object?, limits, &self.caller, &mut self.slot)?);
                Ok(())
            }
            Ask::FreeDisk => {
                let limited = self.limited.take().ok_or("there is no limit on disk")?;
                limited.remove(&mut self.slot)
            }
            Ask::Kill => self.group.as_ref().ok_or_else(none)?.kill(self.caller.uid),
            Ask::Remove => {
                let group = self.group.take().ok_or_else(none)?;
                group.remove(&self.parents, self.caller.uid, &mut self.slot)
            }
        }
    }

    /// The caller is gone: so is what was made for them.
    fn end(mut self) -> Result<(), String> {
        let group = self.group.take();
        let limited = self.limited.take();
        // First what may write: the limit holds as long.
        let removed = group.map_or(Ok(()), |group| {
            group.remove(&self.parents, self.caller.uid, &mut self.slot)
        });
        let freed = limited.map_or(Ok(()), |limited| limited.remove(&mut self.slot));
        removed.and(freed)
    }
}

/// What a message takes.
fn cut(mut why: String) -> String {
    let mut at = why.len().min(wire::MAX / 8);
    while !why.is_char_boundary(at) {
        at -= 1;
    }
    why.truncate(at);
    why
}

/// Gives up for ever what making groups does not need.
fn confine(config: &Config, state: &Path) -> io::Result<()> {
    // Asked for once, and remembered: limits of memory are whole pages.
    let _ = rustix::param::page_size();
    let parents = [&config.memory, &config.cpu, &config.pids].map(|at| Path::new(&at.parent));
    let kept = parents
        .into_iter()
        .chain([state])
        .map(|path| (path.to_owned(), Access::Keep));
    // For a stranger that is put back, see `Group::enter`: to write to what exists.
    let on_v2 = parents.into_iter().filter(|path| version(path) == Some(2));
    let homes = on_v2.map(|path| (top_of(path), Access::Device));
    let rules = kept
        .chain(homes)
        .chain([(PathBuf::from("/proc"), Access::Look)])
        .map(|(path, access)| Ok(Rule::new(CString::new(path.as_os_str().as_bytes())?, access)))
        .collect::<io::Result<_>>()?;
    let abi = landlock::abi();
    let ruleset = Ruleset {
        abi,
        deny_tcp: true,
        scope: Scope::Signals,
        rules,
    };
    let files = (abi > 0).then(|| confine::ruleset(&ruleset, &[])).transpose()?;
    let quotas = config.disk.is_some();
    let filter = seccomp::allow_list(&[CALLS, if quotas { QUOTA_CALLS } else { &[] }].concat());
    Confinement {
        files: files.as_ref().map(AsFd::as_fd),
        capabilities: CAPABILITIES | if quotas { CAP_SYS_ADMIN } else { 0 },
        filter: &filter,
    }
    .enter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_always_fits_into_a_message() {
        for why in ["x".repeat(9000), "\u{1}".repeat(9000), "é".repeat(9000), "short".into()] {
            let say = Say::Refused { why: cut(why) };
            assert!(serde_json::to_vec(&Answer { version: VERSION, say }).unwrap().len() <= wire::MAX);
        }
    }
}
