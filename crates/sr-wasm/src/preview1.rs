//! WASI preview 1 as a guest has it: wasmtime's, behind this sandbox's rules and counts.

use crate::cause::Denied;
use crate::host_calls::{self, Clock, HostCalls, Rule};
use crate::monitor::{ResourceMonitor, ResourceViolation};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::types::{self, *};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1::WasiSnapshotPreview1};
use wasmtime_wasi::{WasiCtxView, WasiView};
use wiggle::{GuestMemory, GuestPtr};

/// How many calls go by until their rate is looked at.
const LOOK: u64 = 256;
/// Descriptors 0 to 2 are the standard streams.
const FIRST_DIRECTORY: u32 = 3;
/// The longest path that a rule is asked about, bytes (`PATH_MAX`, limits.h).
const PATH_MAX: u32 = 4096;

type Result<T> = std::result::Result<T, types::Error>;

/// What a guest's host calls reach.
pub(crate) struct Preview1 {
    wasi: WasiP1Ctx,
    rules: Rules,
    monitor: Arc<ResourceMonitor>,
    counts: [u64; Call::ALL.len()],
    total: u64,
    /// When the last [`LOOK`] calls began.
    begun: Instant,
    /// Directories that are open, by descriptor, and their paths as the guest knows them; and all that it opened itself.
    directories: BTreeMap<u32, String>,
    opened: BTreeMap<u32, ()>,
}

/// One for each call.
struct Rules([Rule; Call::ALL.len()]);

impl Preview1 {
    /// `preopens`: the guest's names of its directories, in their order.
    pub(crate) fn new(
        wasi: WasiP1Ctx,
        calls: &HostCalls,
        preopens: &[String],
        monitor: Arc<ResourceMonitor>,
    ) -> Preview1 {
        Preview1 {
            wasi,
            rules: Rules(Call::ALL.map(|call| calls.rule(call.name()).clone())),
            monitor,
            counts: [0; Call::ALL.len()],
            total: 0,
            begun: Instant::now(),
            directories: (FIRST_DIRECTORY..).zip(preopens.iter().cloned()).collect(),
            opened: BTreeMap::new(),
        }
    }

    /// Tells the monitor of the calls since it was last told.
    pub(crate) fn tell(&mut self) {
        for (call, count) in Call::ALL.iter().zip(&mut self.counts) {
            self.monitor.add_host_calls(call.name(), std::mem::take(count));
        }
    }

    /// A call begins: whether it may be made at all.
    #[inline]
    fn enter(&mut self, call: Call) -> Result<()> {
        if let Some(count) = self.counts.get_mut(call as usize) {
            *count += 1;
        }
        self.total += 1;
        if self.total.is_multiple_of(LOOK) {
            self.look()?;
        }
        match self.rule(call) {
            Rule::Deny => Err(self.denied(call, "its rule is deny")),
            _ => Ok(()),
        }
    }

    fn rule(&self, call: Call) -> &Rule {
        self.rules.0.get(call as usize).unwrap_or(&Rule::Deny)
    }

    /// Whether there were too many calls, or too many in this time.
    #[cold]
    fn look(&mut self) -> Result<()> {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.begun).max(Duration::from_nanos(1));
        self.begun = now;
        let limits = self.monitor.get_limits();
        let rate = LOOK as f64 / passed.as_secs_f64();
        let violation = if self.total >= limits.max_total_syscalls {
            ResourceViolation::TooManySyscalls {
                count: self.total,
                limit: limits.max_total_syscalls,
            }
        } else if rate > limits.max_syscalls_per_second as f64 {
            ResourceViolation::SyscallRateExceeded {
                rate,
                limit: limits.max_syscalls_per_second,
            }
        } else {
            return Ok(());
        };
        self.monitor.record_violation(violation.clone());
        Err(types::Error::trap(wasmtime::Error::new(violation)))
    }

    /// Notes a denial: what the guest is told of it.
    #[cold]
    fn denied(&self, call: Call, reason: &str) -> types::Error {
        self.monitor.record_violation(ResourceViolation::HostCallDenied {
            function: call.name().to_owned(),
            reason: reason.to_owned(),
        });
        Errno::Notcapable.into()
    }

    /// The path that a call names, where a rule wants to know it.
    fn path(&self, memory: &GuestMemory<'_>, call: Call, fd: Fd, path: GuestPtr<str>) -> Result<()> {
        let Rule::Within { paths } = self.rule(call) else {
            return Ok(());
        };
        if path.len() > PATH_MAX {
            return Err(Errno::Nametoolong.into());
        }
        let named = memory.as_cow_str(path)?;
        let directory = self.directories.get(&u32::from(fd));
        let whole = directory.and_then(|directory| host_calls::joined(directory, &named));
        match whole {
            Some(whole) if host_calls::is_within(&whole, paths) => Ok(()),
            _ => Err(self.denied(call, &format!("{named:?} is not within its paths"))),
        }
    }

    fn clock(&self, call: Call, id: Clockid) -> Result<()> {
        let Rule::Clocks { clocks } = self.rule(call) else {
            return Ok(());
        };
        let clock = match id {
            Clockid::Realtime => Clock::Realtime,
            Clockid::Monotonic => Clock::Monotonic,
            Clockid::ProcessCputimeId => Clock::ProcessCputimeId,
            Clockid::ThreadCputimeId => Clock::ThreadCputimeId,
        };
        match clocks.contains(&clock) {
            true => Ok(()),
            false => Err(self.denied(call, &format!("clock {clock:?} is not among its clocks"))),
        }
    }

    fn random(&self, length: Size) -> Result<()> {
        match self.rule(Call::RandomGet) {
            Rule::AtMost { bytes } if u64::from(length) > *bytes => {
                Err(self.denied(Call::RandomGet, &format!("{length} bytes, and {bytes} are the most")))
            }
            _ => Ok(()),
        }
    }

    fn closed(&mut self, fd: u32) {
        self.directories.remove(&fd);
        if self.opened.remove(&fd).is_some() {
            self.monitor.record_file_close();
        }
    }
}

impl WasiView for Preview1 {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// Of the two kinds of functions: those that answer at once, and those that may wait. What stands before `;` is done first,
/// and is what tells a call from the others.
macro_rules! preview1 {
    (
        at_once { $($now:ident $Now:ident ($($narg:ident: $nty:ty),*) -> $nout:ty $(, where |$ns:ident, $nm:ident| $ncheck:expr)?;)* }
        may_wait { $($wait:ident $Wait:ident ($($warg:ident: $wty:ty),*) -> $wout:ty $(, where |$ws:ident, $wm:ident| $wcheck:expr)?;)* }
    ) => {
        /// A function of preview 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Call {
            $($Now,)* $($Wait,)* FdClose, FdRenumber, PathOpen, ProcExit,
        }

        impl Call {
            pub(crate) const ALL: [Call; 46] = [
                $(Call::$Now,)* $(Call::$Wait,)* Call::FdClose, Call::FdRenumber, Call::PathOpen, Call::ProcExit,
            ];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Call::$Now => stringify!($now),)*
                    $(Call::$Wait => stringify!($wait),)*
                    Call::FdClose => "fd_close",
                    Call::FdRenumber => "fd_renumber",
                    Call::PathOpen => "path_open",
                    Call::ProcExit => "proc_exit",
                }
            }
        }

        impl WasiSnapshotPreview1 for Preview1 {
            fn set_hostcall_fuel(&mut self, fuel: usize) {
                self.wasi.set_hostcall_fuel(fuel);
            }

            $(fn $now(&mut self, memory: &mut GuestMemory<'_>, $($narg: $nty),*) -> Result<$nout> {
                self.enter(Call::$Now)?;
                $({ let ($ns, $nm) = (&*self, &*memory); let _ = $nm; $ncheck?; })?
                self.wasi.$now(memory, $($narg),*)
            })*

            $(fn $wait(&mut self, memory: &mut GuestMemory<'_>, $($warg: $wty),*) -> impl Future<Output = Result<$wout>> + Send {
                async move {
                    self.enter(Call::$Wait)?;
                    $({ let ($ws, $wm) = (&*self, &*memory); let _ = $wm; $wcheck?; })?
                    self.wasi.$wait(memory, $($warg),*).await
                }
            })*

            async fn fd_close(&mut self, memory: &mut GuestMemory<'_>, fd: Fd) -> Result<()> {
                self.enter(Call::FdClose)?;
                self.wasi.fd_close(memory, fd).await?;
                self.closed(fd.into());
                Ok(())
            }

            async fn fd_renumber(&mut self, memory: &mut GuestMemory<'_>, from_fd: Fd, to_fd: Fd) -> Result<()> {
                self.enter(Call::FdRenumber)?;
                self.wasi.fd_renumber(memory, from_fd, to_fd).await?;
                let (from, to) = (u32::from(from_fd), u32::from(to_fd));
                if from != to {
                    self.closed(to);
                    let directory = self.directories.remove(&from);
                    self.directories.extend(directory.map(|path| (to, path)));
                    let opened = self.opened.remove(&from);
                    self.opened.extend(opened.map(|()| (to, ())));
                }
                Ok(())
            }

            async fn path_open(
                &mut self,
                memory: &mut GuestMemory<'_>,
                dirfd: Fd,
                dirflags: Lookupflags,
                path: GuestPtr<str>,
                oflags: Oflags,
                fs_rights_base: Rights,
                fs_rights_inheriting: Rights,
                fdflags: Fdflags,
            ) -> Result<Fd> {
                self.enter(Call::PathOpen)?;
                self.path(memory, Call::PathOpen, dirfd, path)?;
                let whole = match path.len() {
                    ..=PATH_MAX => {
                        let named = memory.as_cow_str(path)?;
                        let directory = self.directories.get(&u32::from(dirfd));
                        directory.and_then(|directory| host_calls::joined(directory, &named))
                    }
                    _ => None,
                };
                let noted = whole.clone().unwrap_or_default().into();
                self.monitor.record_file_open(noted).map_err(|_| Errno::Mfile)?;
                let rights = (fs_rights_base, fs_rights_inheriting);
                let opened = self.wasi.path_open(memory, dirfd, dirflags, path, oflags, rights.0, rights.1, fdflags);
                match opened.await {
                    Ok(fd) => {
                        self.opened.insert(fd.into(), ());
                        // A file's is no harm: nothing is opened below it.
                        self.directories.extend(whole.map(|path| (fd.into(), path)));
                        Ok(fd)
                    }
                    Err(e) => {
                        self.monitor.record_file_close();
                        Err(e)
                    }
                }
            }

            fn proc_exit(&mut self, _: &mut GuestMemory<'_>, status: Exitcode) -> wasmtime::Error {
                match self.enter(Call::ProcExit) {
                    // Of the status a process's parent sees eight bits.
                    Ok(()) => I32Exit((status & 0xff) as i32).into(),
                    Err(_) => wasmtime::Error::new(Denied(Call::ProcExit.name().to_owned())),
                }
            }
        }
    };
}

preview1! {
    at_once {
        args_get ArgsGet(argv: GuestPtr<GuestPtr<u8>>, argv_buf: GuestPtr<u8>) -> ();
        args_sizes_get ArgsSizesGet() -> (Size, Size);
        environ_get EnvironGet(environ: GuestPtr<GuestPtr<u8>>, environ_buf: GuestPtr<u8>) -> ();
        environ_sizes_get EnvironSizesGet() -> (Size, Size);
        clock_res_get ClockResGet(id: Clockid) -> Timestamp, where |s, m| s.clock(Call::ClockResGet, id);
        clock_time_get ClockTimeGet(id: Clockid, precision: Timestamp) -> Timestamp, where |s, m| s.clock(Call::ClockTimeGet, id);
        fd_allocate FdAllocate(fd: Fd, offset: Filesize, len: Filesize) -> ();
        fd_fdstat_set_flags FdFdstatSetFlags(fd: Fd, flags: Fdflags) -> ();
        fd_fdstat_set_rights FdFdstatSetRights(fd: Fd, base: Rights, inheriting: Rights) -> ();
        fd_prestat_get FdPrestatGet(fd: Fd) -> Prestat;
        fd_prestat_dir_name FdPrestatDirName(fd: Fd, path: GuestPtr<u8>, path_max_len: Size) -> ();
        fd_tell FdTell(fd: Fd) -> Filesize;
        proc_raise ProcRaise(sig: Signal) -> ();
        sched_yield SchedYield() -> ();
        random_get RandomGet(buf: GuestPtr<u8>, buf_len: Size) -> (), where |s, m| s.random(buf_len);
        sock_accept SockAccept(fd: Fd, flags: Fdflags) -> Fd;
        sock_recv SockRecv(fd: Fd, ri_data: IovecArray, ri_flags: Riflags) -> (Size, Roflags);
        sock_send SockSend(fd: Fd, si_data: CiovecArray, si_flags: Siflags) -> Size;
        sock_shutdown SockShutdown(fd: Fd, how: Sdflags) -> ();
    }
    may_wait {
        fd_advise FdAdvise(fd: Fd, offset: Filesize, len: Filesize, advice: Advice) -> ();
        fd_datasync FdDatasync(fd: Fd) -> ();
        fd_fdstat_get FdFdstatGet(fd: Fd) -> Fdstat;
        fd_filestat_get FdFilestatGet(fd: Fd) -> Filestat;
        fd_filestat_set_size FdFilestatSetSize(fd: Fd, size: Filesize) -> ();
        fd_filestat_set_times FdFilestatSetTimes(fd: Fd, atim: Timestamp, mtim: Timestamp, fst_flags: Fstflags) -> ();
        fd_read FdRead(fd: Fd, iovs: IovecArray) -> Size;
        fd_pread FdPread(fd: Fd, iovs: IovecArray, offset: Filesize) -> Size;
        fd_write FdWrite(fd: Fd, ciovs: CiovecArray) -> Size;
        fd_pwrite FdPwrite(fd: Fd, ciovs: CiovecArray, offset: Filesize) -> Size;
        fd_seek FdSeek(fd: Fd, offset: Filedelta, whence: Whence) -> Filesize;
        fd_sync FdSync(fd: Fd) -> ();
        fd_readdir FdReaddir(fd: Fd, buf: GuestPtr<u8>, buf_len: Size, cookie: Dircookie) -> Size;
        path_create_directory PathCreateDirectory(fd: Fd, path: GuestPtr<str>) -> (),
            where |s, m| s.path(m, Call::PathCreateDirectory, fd, path);
        path_filestat_get PathFilestatGet(fd: Fd, flags: Lookupflags, path: GuestPtr<str>) -> Filestat,
            where |s, m| s.path(m, Call::PathFilestatGet, fd, path);
        path_filestat_set_times PathFilestatSetTimes(fd: Fd, flags: Lookupflags, path: GuestPtr<str>, atim: Timestamp, mtim: Timestamp, fst_flags: Fstflags) -> (),
            where |s, m| s.path(m, Call::PathFilestatSetTimes, fd, path);
        path_link PathLink(src_fd: Fd, src_flags: Lookupflags, src_path: GuestPtr<str>, target_fd: Fd, target_path: GuestPtr<str>) -> (),
            where |s, m| s.path(m, Call::PathLink, src_fd, src_path).and_then(|()| s.path(m, Call::PathLink, target_fd, target_path));
        path_readlink PathReadlink(fd: Fd, path: GuestPtr<str>, buf: GuestPtr<u8>, buf_len: Size) -> Size,
            where |s, m| s.path(m, Call::PathReadlink, fd, path);
        path_remove_directory PathRemoveDirectory(fd: Fd, path: GuestPtr<str>) -> (),
            where |s, m| s.path(m, Call::PathRemoveDirectory, fd, path);
        path_rename PathRename(src_fd: Fd, src_path: GuestPtr<str>, dest_fd: Fd, dest_path: GuestPtr<str>) -> (),
            where |s, m| s.path(m, Call::PathRename, src_fd, src_path).and_then(|()| s.path(m, Call::PathRename, dest_fd, dest_path));
        path_symlink PathSymlink(src_path: GuestPtr<str>, dirfd: Fd, dest_path: GuestPtr<str>) -> (),
            where |s, m| s.path(m, Call::PathSymlink, dirfd, dest_path);
        path_unlink_file PathUnlinkFile(fd: Fd, path: GuestPtr<str>) -> (),
            where |s, m| s.path(m, Call::PathUnlinkFile, fd, path);
        poll_oneoff PollOneoff(subs: GuestPtr<Subscription>, events: GuestPtr<Event>, nsubscriptions: Size) -> Size;
    }
}
