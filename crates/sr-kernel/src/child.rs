//! The new process: carries out steps between clone and exec. It allocates nothing, takes no lock and never unwinds
//! or returns; a step that fails is reported by number and errno, and the process ends.

use crate::idmap;
use crate::seccomp;
use crate::step::{CStringArray, Fd, SLOTS, Step};
use crate::wire::{self, Message};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::cell::UnsafeCell;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// What the process knows: the descriptors that steps left for later steps, and its child.
#[derive(Clone, Copy)]
struct State {
    slots: [RawFd; SLOTS],
    program: i32,
    /// The caller's file mode creation mask, which the program gets back.
    umask: libc::mode_t,
    /// Added to a step's number in a report.
    base: u32,
}

/// Enough for the program's steps, the largest of which holds a socket message with its descriptors.
const PROGRAM_STACK: usize = 64 << 10;

/// The program's process runs on this until it executes the program.
#[repr(align(16))]
struct ProgramStack(UnsafeCell<MaybeUninit<[u8; PROGRAM_STACK]>>);

// SAFETY: only `State::spawn` hands it out, once, in a process that has one thread.
unsafe impl Sync for ProgramStack {}

static STACK: ProgramStack = ProgramStack(UnsafeCell::new(MaybeUninit::uninit()));

/// Carries out `steps`; see [`crate::clone::spawn`].
pub(crate) fn run(steps: &[Step], channel: RawFd, close: &[RawFd]) -> ! {
    for fd in close {
        close_raw(*fd);
    }
    let mut state = State {
        slots: [-1; SLOTS],
        program: -1,
        // The modes of what the steps make are exact.
        // SAFETY: umask(2) takes a number.
        umask: unsafe { libc::umask(0) },
        base: 0,
    };
    // The last step, init's, does not return.
    carry_out(&mut state, steps, channel);
    exit(127)
}

fn carry_out(state: &mut State, steps: &[Step], channel: RawFd) {
    for (index, step) in steps.iter().enumerate() {
        if let Err(error) = state.step(step, channel) {
            let report = Message {
                tag: wire::TAG_FAILED,
                a: state.base.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)),
                b: error.raw_os_error().unwrap_or(libc::EIO) as u32,
            };
            // Nothing is left to do if the supervisor is gone: this process ends in either case.
            let _ = send(channel, report, None);
            exit(127);
        }
    }
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: close_range takes numbers only; this process has a descriptor table of its own.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0u32) as i32 }).map(drop)
}

fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) runs no handlers and never returns.
    unsafe { libc::_exit(code) }
}

fn close_raw(fd: RawFd) {
    // SAFETY: closing a number touches no memory; this process has a descriptor table of its own.
    unsafe { libc::close(fd) };
}

/// Turns the answer of a libc call into a result.
fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

impl State {
    fn fd(&self, fd: Fd) -> io::Result<BorrowedFd<'_>> {
        let raw = match fd {
            Fd::Inherited(raw) => raw,
            Fd::Slot(slot) => self.slots.get(usize::from(slot)).copied().unwrap_or(-1),
        };
        if raw < 0 {
            return Err(Errno::BADF.into());
        }
        // SAFETY: `raw` was inherited open or put there by `keep`, and no step closes what a later step uses.
        Ok(unsafe { BorrowedFd::borrow_raw(raw) })
    }

    fn keep(&mut self, slot: u16, fd: OwnedFd) -> io::Result<()> {
        let place = self.slots.get_mut(usize::from(slot)).ok_or(Errno::MFILE)?;
        *place = fd.into_raw_fd();
        Ok(())
    }

    fn step(&mut self, step: &Step, channel: RawFd) -> io::Result<()> {
        match step {
            Step::Await { channel, slots } => self.wait_go(*channel, slots),
            Step::HideArguments(arguments) => {
                arguments.clear();
                Ok(())
            }
            Step::JoinGroup { tasks } => Ok(rustix::io::write(self.fd(*tasks)?, b"0").map(drop)?),
            Step::DieWithParent => {
                // SAFETY: prctl with integer arguments only.
                check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }).map(drop)
            }
            Step::NewSession => Ok(rustix::process::setsid().map(drop)?),
            Step::Identity { uid, gid, clear_groups } => {
                // SAFETY: the system calls themselves (not libc's thread-synchronised wrappers) with integers only;
                // setgroups reads nothing for a count of 0.
                unsafe {
                    if *clear_groups {
                        check(libc::syscall(libc::SYS_setgroups, 0usize, std::ptr::null::<u32>()) as i32)?;
                    }
                    check(libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) as i32)?;
                    check(libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) as i32)?;
                }
                Ok(())
            }
            // SAFETY: unshare(2) takes flags only.
            Step::Unshare { namespaces } => check(unsafe { libc::unshare(*namespaces) }).map(drop),
            Step::EnterNamespace { namespace } => {
                // SAFETY: setns(2) takes numbers only; the descriptor was inherited open.
                check(unsafe { libc::setns(*namespace, 0) }).map(drop)
            }
            Step::Respawn => respawn(),
            Step::PrivateMounts => {
                let flags = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                Ok(rustix::mount::mount_change(c"/", flags)?)
            }
            Step::Setting { path, value } => write_setting(path, value),
            Step::Hostname(name) => Ok(rustix::system::sethostname(name.to_bytes())?),
            Step::OpenTree {
                path,
                recursive,
                no_symlinks,
                slot,
            } => {
                let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                if *recursive {
                    flags |= OpenTreeFlags::AT_RECURSIVE;
                }
                let tree = if *no_symlinks {
                    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
                    let place = rustix::fs::openat2(
                        CWD,
                        path.as_c_str(),
                        OFlags::PATH | OFlags::CLOEXEC,
                        Mode::empty(),
                        resolve,
                    )?;
                    open_tree(&place, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)?
                } else {
                    open_tree(CWD, path.as_c_str(), flags)?
                };
                self.keep(*slot, tree)
            }
            Step::NewFs {
                fs,
                options,
                flags,
                slot,
            } => {
                let context = fsopen(*fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
                for (key, value) in options {
                    if value.is_empty() {
                        fsconfig_set_flag(&context, key.as_c_str())?;
                    } else {
                        fsconfig_set_string(&context, key.as_c_str(), value.as_c_str())?;
                    }
                }
                fsconfig_create(&context)?;
                let attributes = MountAttrFlags::from_bits_retain(idmap::attributes(*flags) as u32);
                let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
                self.keep(*slot, mount)
            }
            Step::Flags { tree, flags } => idmap::set_mount(self.fd(*tree)?, *flags, None),
            Step::AttachAt { tree, path } => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                Ok(move_mount(self.fd(*tree)?, c"", CWD, path.as_c_str(), flags)?)
            }
            Step::AttachIn { tree, root, path } => {
                let place = open_in(self.fd(*root)?, path)?;
                attach(self.fd(*tree)?, &place)
            }
            Step::OpenDir { path, slot } => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                self.keep(*slot, rustix::fs::openat(CWD, path.as_c_str(), flags, Mode::empty())?)
            }
            Step::Mkdir { path, mode } => match rustix::fs::mkdirat(CWD, path.as_c_str(), Mode::from_raw_mode(*mode)) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(e) => Err(e.into()),
            },
            Step::Owner { path, uid, gid } => {
                let (uid, gid) = (rustix::fs::Uid::from_raw(*uid), rustix::fs::Gid::from_raw(*gid));
                Ok(rustix::fs::chownat(
                    CWD,
                    path.as_c_str(),
                    Some(uid),
                    Some(gid),
                    AtFlags::SYMLINK_NOFOLLOW,
                )?)
            }
            Step::Symlink { to, path } => Ok(rustix::fs::symlinkat(to.as_c_str(), CWD, path.as_c_str())?),
            Step::File {
                path,
                content,
                writable,
            } => make_file(path, content, *writable),
            Step::Place { path } => match make_file(path, &[], false) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                made => made,
            },
            Step::Whiteout { path } => Ok(rustix::fs::mknodat(
                CWD,
                path.as_c_str(),
                rustix::fs::FileType::CharacterDevice,
                Mode::empty(),
                0,
            )?),
            Step::Device { path, major, minor } => Ok(rustix::fs::mknodat(
                CWD,
                path.as_c_str(),
                rustix::fs::FileType::CharacterDevice,
                Mode::from_raw_mode(0o666),
                rustix::fs::makedev(*major, *minor),
            )?),
            Step::MirrorDirectory { from, to } => {
                let stat = rustix::fs::statat(CWD, from.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)?;
                rustix::fs::chmodat(
                    CWD,
                    to.as_c_str(),
                    Mode::from_raw_mode(stat.st_mode & 0o777),
                    AtFlags::empty(),
                )?;
                let times = rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec {
                        tv_sec: stat.st_atime as _,
                        tv_nsec: stat.st_atime_nsec as _,
                    },
                    last_modification: rustix::fs::Timespec {
                        tv_sec: stat.st_mtime as _,
                        tv_nsec: stat.st_mtime_nsec as _,
                    },
                };
                Ok(rustix::fs::utimensat(
                    CWD,
                    to.as_c_str(),
                    &times,
                    AtFlags::SYMLINK_NOFOLLOW,
                )?)
            }
            Step::Mask {
                root,
                path,
                file,
                directory,
                links,
            } => {
                let root = self.fd(*root)?;
                let found = match links {
                    true => open_in(root, path).and_then(|p| Ok((rustix::fs::fstat(&p)?, Some(p)))),
                    false => rustix::fs::statat(root, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW)
                        .map(|stat| (stat, None))
                        .map_err(io::Error::from),
                };
                let (stat, place) = match found {
                    Ok(found) => found,
                    Err(e) if absent(&e) => return Ok(()),
                    Err(e) => return Err(e),
                };
                let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
                let cover = if is_dir { directory } else { file };
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                let tree = open_tree(CWD, cover.as_c_str(), flags)?;
                let read_only = crate::step::MountFlags {
                    read_only: true,
                    no_exec: true,
                    ..Default::default()
                };
                idmap::set_mount(std::os::fd::AsFd::as_fd(&tree), read_only, None)?;
                attach_or_at(std::os::fd::AsFd::as_fd(&tree), place, root, path)
            }
            Step::MakeReadOnly { root, path, links } => {
                let root = self.fd(*root)?;
                let flags =
                    OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
                let found = match links {
                    true => open_in(root, path).and_then(|p| {
                        let tree = open_tree(&p, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
                        Ok((tree, Some(p)))
                    }),
                    false => open_tree(root, path.as_c_str(), flags | OpenTreeFlags::AT_SYMLINK_NOFOLLOW)
                        .map(|tree| (tree, None))
                        .map_err(io::Error::from),
                };
                let (tree, place) = match found {
                    Ok(found) => found,
                    Err(e) if absent(&e) => return Ok(()),
                    Err(e) => return Err(e),
                };
                let read_only = crate::step::MountFlags {
                    read_only: true,
                    no_exec: true,
                    recursive: true,
                    ..Default::default()
                };
                idmap::set_mount(std::os::fd::AsFd::as_fd(&tree), read_only, None)?;
                attach_or_at(std::os::fd::AsFd::as_fd(&tree), place, root, path)
            }
            Step::ChangeDir(path) => Ok(rustix::process::chdir(path.as_c_str())?),
            Step::ChangeDirTo(fd) => Ok(rustix::process::fchdir(self.fd(*fd)?)?),
            Step::PivotHere => {
                // pivot_root(2), NOTES: `pivot_root(".", ".")` stacks the old root on the new one, to be detached.
                rustix::process::pivot_root(c".", c".")?;
                unmount(c".", UnmountFlags::DETACH)?;
                Ok(rustix::process::chdir(c"/")?)
            }
            Step::TakeRootHere => {
                // By the descriptor: a path that ends here would be looked up across the mount that is moved.
                let here = rustix::fs::openat(
                    CWD,
                    c".",
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                move_mount(&here, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                rustix::process::fchdir(&here)?;
                rustix::process::chroot(c".")?;
                Ok(rustix::process::chdir(c"/")?)
            }
            Step::OpenPty { channel, slave, owner } => {
                let master = rustix::fs::openat(
                    CWD,
                    c"/dev/pts/ptmx",
                    OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                rustix::pty::unlockpt(&master)?;
                let open = rustix::pty::OpenptFlags::RDWR
                    | rustix::pty::OpenptFlags::NOCTTY
                    | rustix::pty::OpenptFlags::CLOEXEC;
                let peer = rustix::pty::ioctl_tiocgptpeer(&master, open)?;
                let (uid, gid) = (rustix::fs::Uid::from_raw(*owner), rustix::fs::Gid::from_raw(*owner));
                rustix::fs::fchown(&peer, Some(uid), Some(gid))?;
                send(
                    *channel,
                    Message {
                        tag: wire::TAG_PTY,
                        a: 0,
                        b: 0,
                    },
                    Some(master.as_raw_fd()),
                )?;
                self.keep(*slave, peer)
            }
            Step::OpenAndSend {
                root,
                path,
                channel,
                tag,
                slot,
            } => {
                let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let file = rustix::fs::openat2(self.fd(*root)?, path.as_c_str(), flags, Mode::empty(), resolve)?;
                send(*channel, Message { tag: *tag, a: 0, b: 0 }, Some(file.as_raw_fd()))?;
                self.keep(*slot, file)
            }
            Step::SendPlace {
                root,
                path,
                channel,
                tag,
                number,
            } => {
                let place = open_in(self.fd(*root)?, path)?;
                let message = Message {
                    tag: *tag,
                    a: *number,
                    b: 0,
                };
                send(*channel, message, Some(place.as_raw_fd()))
            }
            Step::OpenPlace { root, path, slot } => {
                let place = open_in(self.fd(*root)?, path)?;
                self.keep(*slot, place)
            }
            Step::Send { fd, channel, tag } => {
                let raw = self.fd(*fd)?.as_raw_fd();
                send(*channel, Message { tag: *tag, a: 0, b: 0 }, Some(raw))
            }
            Step::CloseAllBut(kept) => {
                let mut numbers = [0u32; 8];
                let kept = numbers.get_mut(..kept.len()).ok_or(Errno::INVAL).and_then(|numbers| {
                    for (number, fd) in numbers.iter_mut().zip(kept) {
                        *number = self.fd(*fd).map_err(|_| Errno::BADF)?.as_raw_fd().unsigned_abs();
                    }
                    numbers.sort_unstable();
                    Ok(numbers)
                })?;
                let mut from = 3;
                for number in kept.iter().copied().filter(|number| *number >= 3) {
                    if number > from {
                        close_range(from, number - 1)?;
                    }
                    from = number + 1;
                }
                close_range(from, LAST_DESCRIPTOR)
            }
            Step::PrepareLandlock { ruleset, slot } => {
                let fd = ruleset.create()?;
                self.keep(*slot, fd)
            }
            Step::AllowOpened {
                ruleset,
                abi,
                target,
                access,
            } => crate::landlock::allow(self.fd(*ruleset)?, *abi, self.fd(*target)?, *access),
            Step::AllowPlace {
                ruleset,
                abi,
                path,
                access,
            } => crate::landlock::allow_place(self.fd(*ruleset)?, *abi, path, *access),
            Step::EnterLandlock { ruleset } => crate::landlock::restrict_self(self.fd(*ruleset)?.as_raw_fd()),
            Step::NotDumpable => crate::process::set_not_dumpable(),
            // SAFETY: prctl with integer arguments only.
            Step::Dumpable => check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }).map(drop),
            Step::Spawn { program, shared } => self.spawn(program, *shared, channel),
            Step::Stdio { stdin, stdout, stderr } => {
                for (fd, number) in [(stdin, 0), (stdout, 1), (stderr, 2)] {
                    let raw = self.fd(*fd)?.as_raw_fd();
                    if raw <= 2 {
                        // The builder keeps sources above 2, so that none is overwritten before it is copied.
                        return Err(Errno::BADF.into());
                    }
                    // SAFETY: dup2 takes numbers only.
                    check(unsafe { libc::dup2(raw, number) })?;
                }
                Ok(())
            }
            Step::TakeAtExec { file, word, .. } => {
                let file = rustix::fs::openat(CWD, file.as_c_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                // In one piece, or not at all.
                rustix::io::write(&file, word.to_bytes())?;
                Ok(())
            }
            // SAFETY: TIOCSCTTY takes an integer.
            Step::ControllingTerminal => check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop),
            Step::Rlimit { resource, value } => {
                let limit = libc::rlimit {
                    rlim_cur: *value,
                    rlim_max: *value,
                };
                // SAFETY: `limit` is a live struct rlimit.
                check(unsafe { libc::setrlimit(*resource, &raw const limit) }).map(drop)
            }
            Step::Affinity { cpus } => limit_affinity(*cpus),
            Step::DropBounding => drop_bounding(),
            Step::Capabilities { keep } => limit_capabilities(*keep),
            Step::DefaultSignals => default_signals(),
            // SAFETY: prctl with integer arguments only.
            Step::NoNewPrivileges => check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop),
            Step::Umask(mask) => {
                // SAFETY: umask(2) takes a number.
                unsafe { libc::umask(*mask) };
                Ok(())
            }
            Step::CloseOnExec => {
                // SAFETY: close_range takes numbers only.
                check(unsafe {
                    libc::syscall(libc::SYS_close_range, 3u32, LAST_DESCRIPTOR, libc::CLOSE_RANGE_CLOEXEC) as i32
                })
                .map(drop)
            }
            Step::KeepOpen(fd) => Ok(rustix::io::fcntl_setfd(self.fd(*fd)?, rustix::io::FdFlags::empty())?),
            Step::Seccomp {
                program,
                listener: None,
            } => seccomp::install(program),
            Step::Seccomp {
                program,
                listener: Some(channel),
            } => {
                // The exec closes it: here it would be one more call under the filter, which may have to be told.
                let listener = seccomp::install_with_listener(program)?.into_raw_fd();
                let message = Message {
                    tag: wire::TAG_LISTENER,
                    a: 0,
                    b: 0,
                };
                send(*channel, message, Some(listener))
            }
            Step::Handshake { channel, gate } => {
                let here = Message {
                    tag: wire::TAG_HANDSHAKE,
                    a: 0,
                    b: 0,
                };
                send(*channel, here, None)?;
                pass(*gate)
            }
            Step::Execute { fd, argv, envp } => {
                Err(execute(self.fd(*fd)?.as_raw_fd(), c"", argv, envp, libc::AT_EMPTY_PATH))
            }
            Step::ExecuteFirst { paths, argv, envp } => {
                let mut failed = io::Error::from(Errno::NOENT);
                for path in paths {
                    let error = execute(libc::AT_FDCWD, path, argv, envp, 0);
                    match error.raw_os_error() {
                        Some(libc::ENOENT | libc::ENOTDIR) => {}
                        // What may not be executed is told of, unless another one can be.
                        Some(libc::EACCES) => failed = error,
                        _ => return Err(error),
                    }
                }
                Err(failed)
            }
            Step::Init {
                channel,
                filter,
                keep_capabilities,
            } => init(self.program, *channel, filter, *keep_capabilities),
        }
    }

    fn wait_go(&mut self, channel: RawFd, slots: &[u16]) -> io::Result<()> {
        // SAFETY: the socket is open while a child runs.
        let socket = unsafe { BorrowedFd::borrow_raw(channel) };
        let mut came = 0;
        let message = wire::receive_each(socket, |fd| {
            if let Some(slot) = slots.get(came) {
                // A slot out of range leaves a later step without its descriptor, which fails there.
                let _ = self.keep(*slot, fd);
            }
            came += 1;
        })?;
        match message {
            Some(Message { tag: wire::TAG_GO, .. }) if came == slots.len() => Ok(()),
            Some(Message { tag: wire::TAG_GO, .. }) => Err(Errno::BADMSG.into()),
            // The supervisor is gone.
            _ => exit(127),
        }
    }

    fn spawn(&mut self, program: &[Step], shared: bool, channel: RawFd) -> io::Result<()> {
        struct Start<'a> {
            state: State,
            program: &'a [Step],
            channel: RawFd,
        }
        extern "C" fn start(argument: *mut libc::c_void) -> libc::c_int {
            // SAFETY: `spawn` passes a live `Start` that nothing else uses while this process shares its memory.
            let start = unsafe { &mut *argument.cast::<Start<'_>>() };
            // SAFETY: umask(2) takes a number.
            unsafe { libc::umask(start.state.umask) };
            carry_out(&mut start.state, start.program, start.channel);
            exit(127)
        }
        let mut start_with = Start {
            state: State {
                base: wire::PROGRAM_STEPS,
                ..*self
            },
            program,
            channel,
        };
        let memory = if shared { libc::CLONE_VM | libc::CLONE_VFORK } else { 0 };
        // SAFETY: as vfork(2): this process waits until the other has executed the program or ended, so the shared
        // memory has one user at a time (else each has its own); the other runs on a stack of its own and never returns
        // from `start`.
        let pid = unsafe {
            libc::clone(
                start,
                STACK.0.get().add(1).cast(),
                memory | libc::SIGCHLD,
                (&raw mut start_with).cast(),
            )
        };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        self.program = pid;
        Ok(())
    }
}

/// Returns in the child; the process that called it ends.
fn respawn() -> io::Result<()> {
    let flags = (libc::CLONE_PARENT | libc::SIGCHLD) as libc::c_ulong;
    // SAFETY: the raw system call (no atfork handlers): fork semantics on a copy of this stack.
    match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
        0 => Ok(()),
        pid if pid > 0 => exit(0),
        _ => Err(io::Error::last_os_error()),
    }
}

fn default_signals() -> io::Result<()> {
    const SIGNALS: libc::c_long = 64;
    // SIG_DFL, no flags, empty mask: all of the kernel's struct sigaction, and more than it is long, is zero.
    let action = [0u64; 8];
    for signal in 1..=SIGNALS {
        // The system call itself: libc does not touch the two signals that it keeps for its threads, which a caller may
        // have ignored. SIGKILL and SIGSTOP answer EINVAL, which is as it should be.
        // SAFETY: the kernel reads one struct sigaction with a mask of eight bytes from `action`, which is alive.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                0usize,
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: plain data that the call initialises; it gets live pointers.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut(),
        ))
        .map(drop)
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// Opens what `path` names below `root`, following no symbolic link.
fn open_in(root: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

fn attach(tree: BorrowedFd<'_>, place: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, c"", place, c"", flags)?)
}

/// Mounts on the place that was found, or on `path` below `root`, on the way to which is no symbolic link.
fn attach_or_at(tree: BorrowedFd<'_>, place: Option<OwnedFd>, root: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    match place {
        Some(place) => attach(tree, &place),
        None => Ok(move_mount(
            tree,
            c"",
            root,
            path,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )?),
    }
}

fn write_setting(path: &CStr, value: &CStr) -> io::Result<()> {
    let file = match rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::ROFS) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    rustix::io::write(&file, value.to_bytes())?;
    Ok(())
}

/// Returns only where it fails.
fn execute(directory: RawFd, path: &CStr, argv: &CStringArray, envp: &CStringArray, flags: i32) -> io::Error {
    // SAFETY: both arrays are null-terminated arrays of C strings that live until the exec.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            directory,
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            flags,
        )
    };
    io::Error::last_os_error()
}

fn make_file(path: &CStr, content: &[u8], writable: bool) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(if writable { 0o666 } else { 0o444 });
    if content.is_empty() {
        return Ok(rustix::fs::mknodat(
            CWD,
            path,
            rustix::fs::FileType::RegularFile,
            mode,
            0,
        )?);
    }
    let file = rustix::fs::openat(CWD, path, flags, mode)?;
    let mut rest = content;
    while !rest.is_empty() {
        match rustix::io::write(&file, rest) {
            Ok(0) => return Err(Errno::IO.into()),
            Ok(n) => rest = &rest[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Leaves the first `cpus` of the CPUs that this process may use.
fn limit_affinity(cpus: u32) -> io::Result<()> {
    let all = rustix::thread::sched_getaffinity(None)?;
    let mut some = rustix::thread::CpuSet::new();
    let mut left = cpus.max(1);
    for cpu in 0..rustix::thread::CpuSet::MAX_CPU {
        if left > 0 && all.is_set(cpu) {
            some.set(cpu);
            left -= 1;
        }
    }
    Ok(rustix::thread::sched_setaffinity(None, &some)?)
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Empties the bounding set. Needs CAP_SETPCAP.
fn drop_bounding() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: prctl with integer arguments only.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if answer != 0 {
            let error = io::Error::last_os_error();
            // EINVAL: past the kernel's last capability.
            if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                return Ok(());
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Empties the ambient set, then keeps only `keep` permitted and effective. Does not allocate.
pub(crate) fn limit_capabilities(keep: u64) -> io::Result<()> {
    // SAFETY: prctl with integer arguments only.
    let cleared = check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) });
    // A kernel that knows no ambient set (gVisor's) has none to clear.
    if let Err(e) = cleared
        && e.raw_os_error() != Some(libc::EINVAL)
    {
        return Err(e);
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = CapHeader {
        version: VERSION_3,
        pid: 0,
    };
    let data = [keep as u32, (keep >> 32) as u32].map(|k| CapData {
        effective: k,
        permitted: k,
        inheritable: 0,
    });
    // SAFETY: `header` and `data` have the layout of capset(2), version 3 (two words of data).
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) as i32 }).map(drop)
}

/// They are `int`s; gVisor's kernel takes no more for a range's end.
const LAST_DESCRIPTOR: u32 = i32::MAX as u32;

/// Waits at the handshake. Not on the socket: init reads that too by now, and would take the go.
fn pass(gate: RawFd) -> io::Result<()> {
    // SAFETY: the socket was inherited open.
    let gate = unsafe { BorrowedFd::borrow_raw(gate) };
    loop {
        match rustix::io::read(gate, &mut [0u8; 1]) {
            Ok(1) => return Ok(()),
            // The supervisor is gone, or has given this up.
            Ok(_) => exit(127),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Sends one message, with a descriptor if given.
fn send(channel: RawFd, message: Message, fd: Option<RawFd>) -> io::Result<()> {
    // SAFETY: the socket is open while a child runs.
    let socket = unsafe { BorrowedFd::borrow_raw(channel) };
    crate::wire::send(socket, message, fd)
}

/// PID 1 of the sandbox, and the init of a command that joined it.
fn init(program: i32, channel: RawFd, filter: &[seccomp::Instruction], keep: u64) -> io::Result<()> {
    const SOCKET: RawFd = 0;
    const SIGNALS: RawFd = 1;
    // All signals that could reach it are blocked; from inside the namespace none can anyway (pid_namespaces(7)).
    // SAFETY: plain data initialised by the calls themselves; numbers otherwise.
    let signals = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut(),
        ))?;
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?
    };
    // SAFETY: numbers only. Every other descriptor, the supervisor's own among them, is closed.
    unsafe {
        // Copies above the two targets first: either descriptor may have any number.
        let channel = check(libc::fcntl(channel, libc::F_DUPFD, 3))?;
        let signals = check(libc::fcntl(signals, libc::F_DUPFD, 3))?;
        check(libc::dup2(channel, SOCKET))?;
        check(libc::dup2(signals, SIGNALS))?;
        close_range(2, u32::MAX)?;
    }
    limit_capabilities(keep)?;
    // SAFETY: prctl with integer arguments only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    seccomp::install(filter)?;
    // A program that ended before SIGCHLD was blocked left no signal behind, only a zombie.
    let mut used = 0;
    reap(program, SOCKET, &mut used);
    loop {
        let mut wait = [
            libc::pollfd {
                fd: SOCKET,
                events: libc::POLLIN,
                revents: 0,
            },
            libc::pollfd {
                fd: SIGNALS,
                events: libc::POLLIN,
                revents: 0,
            },
        ];
        // SAFETY: `wait` is a live array of two struct pollfd.
        let polled = unsafe { libc::ppoll(wait.as_mut_ptr(), 2, std::ptr::null(), std::ptr::null()) };
        if polled < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            // It could no longer tell how the program ends: a process of the same user can take its limit on open files
            // (prlimit(2)).
            end_with(program);
        }
        if wait[1].revents != 0 {
            let mut drain = [0u8; 128];
            // SAFETY: `drain` is a live buffer of that length.
            while unsafe { libc::read(SIGNALS, drain.as_mut_ptr().cast(), drain.len()) } > 0 {}
            reap(program, SOCKET, &mut used);
        }
        if wait[0].revents != 0 {
            let mut buffer = [0u8; Message::LEN];
            // SAFETY: `buffer` is a live buffer of that length.
            let n = unsafe { libc::read(SOCKET, buffer.as_mut_ptr().cast(), buffer.len()) };
            match Message::decode(&buffer[..usize::try_from(n).unwrap_or(0).min(Message::LEN)]) {
                // SAFETY: kill(2) takes numbers; the program leads its own process group.
                Some(m) if m.tag == wire::TAG_SIGNAL => unsafe {
                    if libc::kill(-program, m.a as i32) != 0 {
                        libc::kill(program, m.a as i32);
                    }
                },
                Some(_) => {}
                // The other side is gone.
                None => end_with(program),
            }
        }
    }
}

/// Ends the program and this process: with PID 1 everything in the sandbox, with the init of a joined command that command.
fn end_with(program: i32) -> ! {
    // SAFETY: kill(2) takes numbers.
    unsafe {
        libc::kill(-program, libc::SIGKILL);
        libc::kill(program, libc::SIGKILL);
    }
    exit(0)
}

/// Waits for what has ended. With the program ends this process, and says whether others are left: orphans are its
/// children. `used` is the CPU time of all so far, in microseconds.
fn reap(program: i32, socket: RawFd, used: &mut u64) {
    let mut ended = None;
    let alone = loop {
        match crate::process::ended_child() {
            Ok((0, ..)) => break false,
            Ok((pid, status, micros)) => {
                *used = used.saturating_add(micros);
                if pid == program {
                    ended = Some(status);
                }
            }
            // Any other answer tells nothing of who is left.
            Err(error) => break error.raw_os_error() == Some(libc::ECHILD),
        }
    };
    let Some(status) = ended else { return };
    let micros = if alone {
        u32::try_from((*used).max(1)).unwrap_or(0)
    } else {
        0
    };
    // If the supervisor is gone the status interests nobody.
    let _ = send(
        socket,
        Message {
            tag: wire::TAG_ENDED,
            a: status as u32,
            b: micros,
        },
        None,
    );
    exit(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    fn words(words: &[&str]) -> CStringArray {
        CStringArray::new(words.iter().map(|w| std::ffi::CString::new(*w).unwrap()).collect())
    }

    /// What init says when `sh -c SCRIPT` has ended: its status, and the CPU time where nothing else is left.
    fn end_of(script: &str) -> (i32, u32) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let shell = std::fs::File::open("/bin/sh").unwrap();
        let channel = theirs.as_raw_fd();
        let steps = [
            Step::Spawn {
                program: vec![Step::Execute {
                    fd: Fd::Inherited(shell.as_raw_fd()),
                    argv: words(&["sh", "-c", script]),
                    envp: words(&["PATH=/usr/bin:/bin"]),
                }],
                shared: true,
            },
            Step::Init {
                channel,
                filter: seccomp::allow_list(&crate::process::INIT_CALLS),
                keep_capabilities: 0,
            },
        ];
        let namespaces = (libc::CLONE_NEWUSER | libc::CLONE_NEWPID) as u64;
        let init = crate::clone::spawn(namespaces, None, &steps, channel, &[ours.as_raw_fd()]).unwrap();
        drop(theirs);
        let (said, _) = wire::receive(ours.as_fd()).unwrap().unwrap();
        crate::process::kill_and_reap(&init);
        assert_eq!(said.tag, wire::TAG_ENDED);
        (libc::WEXITSTATUS(said.a as i32), said.b)
    }

    #[test]
    fn init_says_whether_anything_is_left() {
        let (status, used) = end_of("exit 3");
        assert!(status == 3 && used > 0, "{status} {used}");
        assert_eq!(end_of("sleep 60 & exit 4"), (4, 0));
        assert_eq!(end_of("(setsid sleep 60 &) ; exit 5"), (5, 0));
    }
}
