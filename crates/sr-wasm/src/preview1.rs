//! WASI preview 1 as a guest has it: wasmtime's, behind this sandbox's rules and counts.

use crate::cause::Denied;
use crate::host_calls;
use crate::monitor::{ResourceMonitor, ResourceViolation};
use sr_common::host_calls::{Clock, HostCalls, Rule};
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
    /// A rule asks for paths without symbolic links.
    looks_for_links: bool,
    monitor: Arc<ResourceMonitor>,
    counts: [u64; Call::ALL.len()],
    total: u64,
    /// When the last [`LOOK`] calls began.
    begun: Instant,
    /// Directories that are open, by descriptor, and their paths as the guest knows them, where no symbolic link led there; and
    /// all that it opened itself.
    directories: BTreeMap<u32, String>,
    opened: BTreeMap<u32, ()>,
}

/// A path that a call names: below which directory, and whether its last part is followed where that is a link.
type Named = (Fd, GuestPtr<str>, bool);

/// A path that is looked at.
fn text(memory: &GuestMemory<'_>, path: GuestPtr<str>) -> Result<String> {
    match path.len() {
        ..=PATH_MAX => Ok(memory.as_cow_str(path)?.into_owned()),
        _ => Err(Errno::Nametoolong.into()),
    }
}

fn follows(flags: Lookupflags) -> bool {
    flags.contains(Lookupflags::SYMLINK_FOLLOW)
}

/// One for each call.
struct Rules([Rule; Call::ALL.len()]);

impl Preview1 {
    /// `places`: of its directories in their order, as far as the guest can name them.
    pub(crate) fn new(
        wasi: WasiP1Ctx,
        calls: &HostCalls,
        places: Vec<Option<String>>,
        monitor: Arc<ResourceMonitor>,
    ) -> Preview1 {
        let rules = Rules(Call::ALL.map(|call| calls.rule(call.name()).clone()));
        Preview1 {
            wasi,
            looks_for_links: rules.0.iter().any(|rule| matches!(rule, Rule::Within { .. })),
            rules,
            monitor,
            counts: [0; Call::ALL.len()],
            total: 0,
            begun: Instant::now(),
            directories: (FIRST_DIRECTORY..)
                .zip(places)
                .filter_map(|(fd, place)| Some((fd, place?)))
                .collect(),
            opened: BTreeMap::new(),
        }
    }

    pub(crate) fn monitor(&self) -> &ResourceMonitor {
        &self.monitor
    }

    /// How many of these rules are in force.
    pub(crate) fn rules_held(&self, calls: &HostCalls) -> usize {
        let held = |call: &&Call| {
            calls
                .rules
                .get(call.name())
                .is_some_and(|rule| rule == self.rule(**call))
        };
        Call::ALL.iter().filter(held).count()
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

    /// The paths that a call names, where a rule wants to know them.
    async fn paths(&mut self, memory: &mut GuestMemory<'_>, call: Call, paths: &[Named]) -> Result<()> {
        let Rule::Within { paths: within } = self.rule(call) else {
            return Ok(());
        };
        for (fd, path, _) in paths {
            let named = text(memory, *path)?;
            let directory = self.directories.get(&u32::from(*fd));
            let whole = directory.and_then(|directory| host_calls::joined(directory, &named));
            if !whole.is_some_and(|whole| host_calls::is_within(&whole, within)) {
                return Err(self.denied(call, &format!("{named:?} is not within its paths")));
            }
        }
        for path in paths {
            if let Some(link) = self.link(memory, *path).await? {
                return Err(self.denied(call, &format!("{link:?} is a symbolic link")));
            }
        }
        Ok(())
    }

    /// The first symbolic link by which a path leads, if one does.
    ///
    /// It is looked for before the call: who changes directories in between, another process, can still put one there. The
    /// guest itself cannot, since it has one thread, which waits here.
    async fn link(&mut self, memory: &mut GuestMemory<'_>, (fd, path, follows): Named) -> Result<Option<String>> {
        let named = text(memory, path)?;
        let follows = follows || named.ends_with('/');
        let mut ends = host_calls::ends(&named).peekable();
        while let Some(end) = ends.next() {
            if ends.peek().is_none() && !follows {
                break;
            }
            let part = GuestPtr::new((path.offset_base(), u32::try_from(end)?));
            match self
                .wasi
                .path_filestat_get(memory, fd, Lookupflags::empty(), part)
                .await
            {
                Ok(stat) if stat.filetype == Filetype::SymbolicLink => {
                    return Ok(Some(named.get(..end).unwrap_or(&named).to_owned()));
                }
                Ok(_) => {}
                // Nor can anything be below it.
                Err(e) if matches!(e.downcast_ref(), Some(Errno::Noent)) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        Ok(None)
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

/// Of the kinds of functions: those that answer at once, those that may wait, and those of these that name paths. What stands
/// before `;` is done first, and is what tells a call from the others.
macro_rules! preview1 {
    (
        at_once { $($now:ident $Now:ident ($($narg:ident: $nty:ty),*) -> $nout:ty $(, where |$ns:ident, $nm:ident| $ncheck:expr)?;)* }
        may_wait { $($wait:ident $Wait:ident ($($warg:ident: $wty:ty),*) -> $wout:ty;)* }
        of_paths { $($of:ident $Of:ident ($($oarg:ident: $oty:ty),*) -> $oout:ty, by [$($named:expr),*];)* }
    ) => {
        /// A function of preview 1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Call {
            $($Now,)* $($Wait,)* $($Of,)* FdClose, FdRenumber, PathOpen, ProcExit,
        }

        impl Call {
            pub(crate) const ALL: [Call; 46] = [
                $(Call::$Now,)* $(Call::$Wait,)* $(Call::$Of,)* Call::FdClose, Call::FdRenumber, Call::PathOpen, Call::ProcExit,
            ];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Call::$Now => stringify!($now),)*
                    $(Call::$Wait => stringify!($wait),)*
                    $(Call::$Of => stringify!($of),)*
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
                    self.wasi.$wait(memory, $($warg),*).await
                }
            })*

            $(fn $of(&mut self, memory: &mut GuestMemory<'_>, $($oarg: $oty),*) -> impl Future<Output = Result<$oout>> + Send {
                async move {
                    self.enter(Call::$Of)?;
                    self.paths(memory, Call::$Of, &[$($named),*]).await?;
                    self.wasi.$of(memory, $($oarg),*).await
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
                let named = (dirfd, path, follows(dirflags));
                self.paths(memory, Call::PathOpen, &[named]).await?;
                let directory = self.directories.get(&u32::from(dirfd));
                let whole = directory.and_then(|directory| host_calls::joined(directory, &text(memory, path).ok()?));
                // By what other name it is reached, no rule could say.
                let linked = self.looks_for_links && self.link(memory, named).await?.is_some();
                let noted = whole.clone().unwrap_or_default().into();
                self.monitor.record_file_open(noted).map_err(|_| Errno::Mfile)?;
                let rights = (fs_rights_base, fs_rights_inheriting);
                let opened = self.wasi.path_open(memory, dirfd, dirflags, path, oflags, rights.0, rights.1, fdflags);
                match opened.await {
                    Ok(fd) => {
                        self.opened.insert(fd.into(), ());
                        // A file's is no harm: nothing is opened below it.
                        self.directories.extend(whole.filter(|_| !linked).map(|path| (fd.into(), path)));
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
        poll_oneoff PollOneoff(subs: GuestPtr<Subscription>, events: GuestPtr<Event>, nsubscriptions: Size) -> Size;
    }
    of_paths {
        path_create_directory PathCreateDirectory(fd: Fd, path: GuestPtr<str>) -> (), by [(fd, path, false)];
        path_filestat_get PathFilestatGet(fd: Fd, flags: Lookupflags, path: GuestPtr<str>) -> Filestat,
            by [(fd, path, follows(flags))];
        path_filestat_set_times PathFilestatSetTimes(fd: Fd, flags: Lookupflags, path: GuestPtr<str>, atim: Timestamp, mtim: Timestamp, fst_flags: Fstflags) -> (),
            by [(fd, path, follows(flags))];
        path_link PathLink(src_fd: Fd, src_flags: Lookupflags, src_path: GuestPtr<str>, target_fd: Fd, target_path: GuestPtr<str>) -> (),
            by [(src_fd, src_path, follows(src_flags)), (target_fd, target_path, false)];
        path_readlink PathReadlink(fd: Fd, path: GuestPtr<str>, buf: GuestPtr<u8>, buf_len: Size) -> Size, by [(fd, path, false)];
        path_remove_directory PathRemoveDirectory(fd: Fd, path: GuestPtr<str>) -> (), by [(fd, path, false)];
        path_rename PathRename(src_fd: Fd, src_path: GuestPtr<str>, dest_fd: Fd, dest_path: GuestPtr<str>) -> (),
            by [(src_fd, src_path, false), (dest_fd, dest_path, false)];
        path_symlink PathSymlink(src_path: GuestPtr<str>, dirfd: Fd, dest_path: GuestPtr<str>) -> (), by [(dirfd, dest_path, false)];
        path_unlink_file PathUnlinkFile(fd: Fd, path: GuestPtr<str>) -> (), by [(fd, path, false)];
    }
}
