//! Starting a sandbox: the socket, the clone, the id maps, and the way of the program to its exec stop.

use crate::mac;
use crate::program::{self, Ends, Given};
use crate::stage::Devices;
use crate::trees::OpenTrees;
use crate::view::{self, SLOT_EXECUTABLE, SLOT_GUEST, SLOT_LANDLOCK, SLOT_ROOT, SLOT_SCRIPT};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sr_common::{Code, Fault};
use sr_compiler::bundle::{CompileBundle, IdMap, LandlockLinks};
use sr_kernel::clone::{self, Child};
use sr_kernel::cradle::{Cradle, Failure};
use sr_kernel::idmap::{self, MapLine};
use sr_kernel::landlock::Access;
use sr_kernel::process::Arguments;
use sr_kernel::ptrace;
use sr_kernel::step::{Fd, Step};
use sr_kernel::wire::{self, Message};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

pub(crate) const CAP_KILL: u64 = 1 << 5;

/// The program's ends of its stdin, stdout and stderr.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes that the supervisor made.
    Pipes([OwnedFd; 3]),
    /// A pty in the sandbox's own devpts; the supervisor gets its master.
    Terminal,
}

/// What a start needs besides the bundle.
pub struct Options<'a> {
    /// Folder with one `N/upper` and `N/work` for each captured layer, where the plan keeps them in the store.
    pub layers: Option<&'a Path>,
    /// Folder with one directory, `0` and on, for each scratch directory of the plan, where these are not to be memory.
    pub scratch: Option<&'a Path>,
    /// Folder in which skeletons of views are kept from run to run; see [`crate::kept`].
    pub kept: Option<&'a Path>,
    pub stdio: Stdio,
    /// A socket that the program, which is a monitor then, has besides: its only other descriptor.
    pub extra: Option<OwnedFd>,
    /// What its guest is to start.
    pub guest: Option<Guest<'a>>,
    /// The v2 group into which the sandbox is born.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// How many v1 groups its first process joins before the program's exists; see [`Prepared::start`].
    pub groups: usize,
}

/// A program in a root of its own below the view's.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// Absolute in the view.
    pub root: &'a str,
    /// Absolute in that root.
    pub executable: &'a str,
    pub script: Option<&'a str>,
}

/// A sandbox that builds itself; nothing of the program runs. The supervisor has time for other things.
#[derive(Debug)]
pub struct Building {
    init: Guard,
    channel: OwnedFd,
    steps: Steps,
    gate: Option<OwnedFd>,
    told: bool,
    in_landlock: bool,
    /// Whether the program gets a pty, whose master will arrive.
    terminal: bool,
    devices: Devices,
    /// Held while the view is in use, by each in turn; or why its skeleton is not a kept one.
    kept: io::Result<OwnedFd>,
    /// Dropped when the view stands.
    _trees: OpenTrees,
}

/// A sandbox that is built; nothing of the program runs.
#[derive(Debug)]
pub struct Prepared {
    init: Guard,
    channel: OwnedFd,
    steps: Steps,
    /// Where there is no exec stop.
    gate: Option<OwnedFd>,
    /// Whether the filter tells of calls.
    told: bool,
    /// The file that will be executed, as opened in the view.
    pub executable: File,
    pub script: Option<File>,
    /// What the guest is to start, and its script.
    pub guest: Option<File>,
    pub guest_script: Option<File>,
    /// The places (`O_PATH`) of the mounts that the plan wants hashed, by their number in it.
    pub mounts: BTreeMap<u32, OwnedFd>,
    /// The writable tmpfs: `uN` are the captured layers held on it, `sN` the scratch directories.
    pub writable: OwnedFd,
    /// The pty's master.
    pub terminal: Option<OwnedFd>,
    /// Its ruleset, if it came already, where the program enters a Landlock domain.
    landlock: Option<OwnedFd>,
    in_landlock: bool,
    kept: Option<OwnedFd>,
}

/// Where there is no exec stop: the socket at which the program waits for its go, and whose end closes with its exec.
struct Gate {
    ours: Option<OwnedFd>,
    theirs: Option<OwnedFd>,
}

impl Gate {
    fn new(traced: bool) -> Result<Gate, Fault> {
        if traced {
            return Ok(Gate {
                ours: None,
                theirs: None,
            });
        }
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .map_err(|e| init_fault("launch.prepare.socket", "cannot make a socket pair", &e.into()))?;
        Ok(Gate {
            ours: Some(ours),
            theirs: Some(theirs),
        })
    }
}

/// Kept for the words of an error.
#[derive(Debug)]
struct Steps(Vec<Step>);

/// The program's image is in place, its first instruction is not yet run.
#[derive(Debug)]
pub struct Stopped {
    init: Guard,
    channel: OwnedFd,
    gate: Option<OwnedFd>,
    steps: Steps,
    listener: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
    kept: Option<OwnedFd>,
    pub program: i32,
}

/// The program runs.
#[derive(Debug)]
pub struct Running {
    init: Child,
    channel: OwnedFd,
    listener: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
    _kept: Option<OwnedFd>,
    pub program: i32,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its wait status (wait(2)).
    pub status: i32,
    /// The CPU time of all that ran, in microseconds, where init saw that nothing of it is left.
    pub alone: Option<u64>,
}

impl Ended {
    /// What else is left is not known.
    pub fn with(status: i32) -> Self {
        Ended { status, alone: None }
    }
}

/// The namespaces of a sandbox, being made while the supervisor finds out what is to be in them. That they cannot be made
/// is told by [`begin`]: what else speaks against the run comes first.
#[derive(Debug)]
pub struct Namespaces(io::Result<Cradle>);

impl Namespaces {
    pub fn begin() -> Self {
        Namespaces(Cradle::new())
    }
}

/// Starts the sandbox's first process, which builds the sandbox up to the point where only the go is missing.
pub fn begin(namespaces: Namespaces, bundle: &CompileBundle, options: Options<'_>) -> Result<Building, Fault> {
    const CANNOT: &str = "cannot make the sandbox's namespaces";
    let cradle = namespaces.0.map_err(|e| no_namespaces(CANNOT, &e))?;
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| init_fault("launch.prepare.socket", "cannot make a socket pair", &e.into()))?;
    let channel = theirs.as_raw_fd();
    let process = &bundle.process_plan;
    let view = view::build(&bundle.filesystem_plan, process, &options, channel)?;
    let trees = view.trees;
    let traced = process.posture_at_exec;
    let gate = Gate::new(traced)?;
    let ends = ChildEnds {
        channel,
        gate: gate.theirs.as_ref().map(AsRawFd::as_raw_fd),
        extra: options.extra.as_ref().map(AsRawFd::as_raw_fd),
        groups: (view.next_slot..).take(options.groups).collect(),
    };
    let first: Vec<u16> = view.first.iter().map(|(slot, _)| *slot).collect();
    let steps = init_steps(bundle, &options, ends, first, view.steps, view.entry)?;

    let close: Vec<_> = std::iter::once(&ours)
        .chain(&gate.ours)
        .map(AsRawFd::as_raw_fd)
        .collect();
    let (uids, gids) = maps(&process.user.map, process.user.inside);
    let range = matches!(process.user.map, IdMap::Range { .. });
    let mapped = idmap::write_maps(cradle.pid(), &uids, &gids, !range);
    let birth = cradle
        .order(options.cgroup, &steps, channel, &close)
        .map_err(|e| init_fault("launch.prepare", CANNOT, &e))?;
    // Meanwhile, and so that this processor is not taken for an idle one, on which the new process would then wait for it.
    let opened = trees.open();
    let born = birth.wait().map_err(|failure| match failure {
        Failure::Unshare(e) => Fault {
            remedy: "see `safe-run doctor`; in a container, its filter must let unshare(2) through".into(),
            ..init_fault(
                "launch.preflight.namespaces",
                "cannot make the mount, network, ipc and uts namespaces",
                &e,
            )
        },
        Failure::Clone(e) => no_namespaces(CANNOT, &e),
        Failure::Other(e) => init_fault("launch.prepare", CANNOT, &e),
    })?;
    drop((theirs, gate.theirs));
    let init = Guard {
        init: Some(born),
        tracee: None,
    };
    // A process that could not make its namespaces has ended and cannot be mapped: that comes first.
    mapped.map_err(|e| init_fault("launch.prepare.idMaps", "cannot write the id maps", &e))?;
    let opened = opened?;
    if traced {
        ptrace::seize(init.pid()).map_err(|e| {
            init_fault(
                "launch.preflight.ptrace",
                "cannot trace the sandbox's first process",
                &e,
            )
        })?;
    }
    let steps = Steps(steps);
    let go = |with: &[BorrowedFd<'_>]| go(ours.as_fd(), with).map_err(|gone| steps.said(ours.as_fd(), gone));
    go(&view.first.iter().map(|(_, tree)| tree.as_fd()).collect::<Vec<_>>())?;
    go(&opened.mounts())?;
    Ok(Building {
        init,
        channel: ours,
        steps,
        gate: gate.ours,
        told: bundle.syscalls_plan.tells(),
        in_landlock: bundle.filesystem_plan.landlock.is_some(),
        terminal: matches!(options.stdio, Stdio::Terminal),
        devices: view.devices,
        kept: view.kept,
        _trees: opened,
    })
}

/// Init's ends of what joins it to the supervisor, and the slots for the descriptors that it is handed.
struct ChildEnds {
    channel: RawFd,
    gate: Option<RawFd>,
    extra: Option<RawFd>,
    groups: Vec<u16>,
}

/// What a namespace uses of these is charged to the user who made it too: most of it is left to his other programs. Where the
/// host allows less, that holds.
const SHARES: [(&CStr, &CStr); 2] = [
    (c"/proc/sys/user/max_inotify_instances", c"64"),
    (c"/proc/sys/user/max_inotify_watches", c"65536"),
];

/// `first` are the slots for what it is handed before it begins; `view` makes the view, up to where its files can be opened;
/// `entry` makes it the root.
fn init_steps(
    bundle: &CompileBundle,
    options: &Options<'_>,
    ends: ChildEnds,
    first: Vec<u16>,
    view: Vec<Step>,
    entry: Vec<Step>,
) -> Result<Vec<Step>, Fault> {
    let process = &bundle.process_plan;
    let range = matches!(process.user.map, IdMap::Range { .. });
    let ChildEnds {
        channel,
        gate,
        extra,
        groups,
    } = ends;
    let arguments = Arguments::of_this_process()
        .map_err(|e| init_fault("launch.prepare.arguments", "cannot find the own command line", &e))?;
    let mut steps = vec![
        Step::DieWithParent,
        Step::HideArguments(arguments),
        // A tracer without CAP_SYS_PTRACE must have seized it before it changes its identity (ptrace(2)).
        Step::Await { channel, slots: first },
    ];
    if range {
        steps.push(Step::Identity {
            uid: 0,
            gid: 0,
            clear_groups: true,
        });
        // Changing identity clears it (prctl(2)).
        steps.push(Step::DieWithParent);
    }
    steps.push(Step::NewSession);
    steps.extend(program::inherited());
    steps.extend(SHARES.map(|(path, value)| Step::Setting { path, value }));
    steps.extend(view);
    for (number, mount) in (0u32..).zip(&bundle.evidence_plan.mounts) {
        if mount.hashed {
            steps.push(Step::SendPlace {
                root: Fd::Slot(SLOT_ROOT),
                path: view::c_string(&mount.target)?,
                channel,
                tag: wire::TAG_MOUNT,
                number,
            });
        }
    }
    if let Some(script) = &process.script {
        steps.push(open_and_send(script, channel, wire::TAG_SCRIPT, SLOT_SCRIPT)?);
    }
    if let Some(guest) = &options.guest {
        steps.extend(guest_files(guest, channel)?);
    }
    steps.push(open_and_send(
        &process.executable,
        channel,
        wire::TAG_EXECUTABLE,
        SLOT_EXECUTABLE,
    )?);
    // While the supervisor hashes these.
    steps.extend(entry);
    if let Some(landlock) = &bundle.filesystem_plan.landlock {
        let hashed = landlock.rules.iter().filter(|rule| rule.links == LandlockLinks::Hashed);
        steps.extend(hashed.map(|rule| Step::AllowOpened {
            ruleset: Fd::Slot(SLOT_LANDLOCK),
            abi: landlock.abi,
            target: Fd::Slot(match process.script.as_ref() == Some(&rule.path) {
                true => SLOT_SCRIPT,
                false => SLOT_EXECUTABLE,
            }),
            access: Access::Read,
        }));
        // A command that joins later enters this very ruleset: by then the program may have moved what its paths name.
        steps.push(Step::Send {
            fd: Fd::Slot(SLOT_LANDLOCK),
            channel,
            tag: wire::TAG_LANDLOCK,
        });
    }
    steps.push(Step::Hostname(view::c_string(&process.hostname)?));
    let ends = Ends::of(&options.stdio, process.user.inside, channel, &mut steps);
    steps.push(Step::Await {
        channel,
        slots: groups.clone(),
    });
    steps.extend(groups.into_iter().map(|slot| Step::JoinGroup { tasks: Fd::Slot(slot) }));
    steps.push(Step::Unshare {
        namespaces: clone::CGROUP_NAMESPACE,
    });
    steps.push(Step::NotDumpable);
    let given = Given {
        executable: Fd::Slot(SLOT_EXECUTABLE),
        landlock: Fd::Slot(SLOT_LANDLOCK),
        gate,
        extra,
    };
    steps.push(Step::Spawn {
        program: program::steps(bundle, &ends, &given, channel)?,
        shared: gate.is_none(),
    });
    steps.push(Step::Init {
        channel,
        filter: sr_kernel::seccomp::allow_list(&sr_kernel::process::INIT_CALLS),
        keep_capabilities: if range { CAP_KILL } else { 0 },
    });
    Ok(steps)
}

/// Opens what the guest will open: links are followed within its root.
fn guest_files(guest: &Guest<'_>, channel: RawFd) -> Result<Vec<Step>, Fault> {
    let root = Step::OpenPlace {
        root: Fd::Slot(SLOT_ROOT),
        path: view::c_string(guest.root)?,
        slot: SLOT_GUEST,
    };
    let files = [
        (Some(guest.executable), wire::TAG_GUEST_EXECUTABLE),
        (guest.script, wire::TAG_GUEST_SCRIPT),
    ];
    let files = files.into_iter().filter_map(|(path, tag)| Some((path?, tag)));
    let files = files.map(|(path, tag)| {
        Ok(Step::OpenAndSend {
            root: Fd::Slot(SLOT_GUEST),
            path: view::c_string(path)?,
            channel,
            tag,
            // A monitor is no script.
            slot: SLOT_SCRIPT,
        })
    });
    std::iter::once(Ok(root)).chain(files).collect()
}

fn open_and_send(path: &str, channel: RawFd, tag: u8, slot: u16) -> Result<Step, Fault> {
    Ok(Step::OpenAndSend {
        root: Fd::Slot(SLOT_ROOT),
        path: view::c_string(path)?,
        channel,
        tag,
        slot,
    })
}

impl Building {
    pub fn devices(&self) -> Devices {
        self.devices
    }

    /// Why the skeleton of its view is not a kept one, if it is not.
    pub fn unkept(&self) -> Option<&io::Error> {
        self.kept.as_ref().err()
    }

    /// Waits until the view stands.
    pub fn finish(self) -> Result<Prepared, Fault> {
        let mut arrived = Arrived::default();
        while arrived.executable.is_none() || (self.terminal && arrived.terminal.is_none()) {
            match wire::receive(self.channel.as_fd()) {
                Ok(Some((message, fd))) => arrived.take(message, fd, &self.steps)?,
                Ok(None) => return Err(gone()),
                Err(e) => {
                    return Err(init_fault(
                        "launch.prepare",
                        "the sandbox's first process said nothing",
                        &e,
                    ));
                }
            }
        }
        let (Some(executable), Some(writable)) = (arrived.executable, arrived.writable) else {
            return Err(gone());
        };
        Ok(Prepared {
            init: self.init,
            channel: self.channel,
            steps: self.steps,
            gate: self.gate,
            told: self.told,
            executable,
            script: arrived.script,
            guest: arrived.guest,
            guest_script: arrived.guest_script,
            mounts: arrived.mounts,
            writable,
            terminal: arrived.terminal,
            landlock: arrived.landlock,
            in_landlock: self.in_landlock,
            kept: self.kept.ok(),
        })
    }
}

#[derive(Default)]
struct Arrived {
    executable: Option<File>,
    script: Option<File>,
    guest: Option<File>,
    guest_script: Option<File>,
    mounts: BTreeMap<u32, OwnedFd>,
    writable: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    landlock: Option<OwnedFd>,
}

impl Arrived {
    fn take(&mut self, message: Message, fd: Option<OwnedFd>, words: &Steps) -> Result<(), Fault> {
        match (message.tag, fd) {
            (wire::TAG_EXECUTABLE, Some(fd)) => self.executable = Some(File::from(fd)),
            (wire::TAG_SCRIPT, Some(fd)) => self.script = Some(File::from(fd)),
            (wire::TAG_GUEST_EXECUTABLE, Some(fd)) => self.guest = Some(File::from(fd)),
            (wire::TAG_GUEST_SCRIPT, Some(fd)) => self.guest_script = Some(File::from(fd)),
            (wire::TAG_MOUNT, Some(fd)) => {
                self.mounts.insert(message.a, fd);
            }
            (wire::TAG_WRITABLE, Some(fd)) => self.writable = Some(fd),
            (wire::TAG_PTY, Some(fd)) => self.terminal = Some(fd),
            (wire::TAG_LANDLOCK, Some(fd)) => self.landlock = Some(fd),
            (wire::TAG_FAILED, _) => return Err(words.fault(message)),
            _ => return Err(gone()),
        }
        Ok(())
    }
}

impl Steps {
    /// Why the process at the other end is gone, if it said so; else `otherwise`.
    fn said(&self, socket: BorrowedFd<'_>, otherwise: Fault) -> Fault {
        loop {
            match wire::receive(socket) {
                Ok(Some((message, _))) if message.tag == wire::TAG_FAILED => break self.fault(message),
                // These were in place when something else failed.
                Ok(Some((message, _))) if [wire::TAG_LISTENER, wire::TAG_LANDLOCK].contains(&message.tag) => {}
                _ => break otherwise,
            }
        }
    }

    fn fault(&self, message: Message) -> Fault {
        let error = io::Error::from_raw_os_error(message.b as i32);
        let in_program = message.a >= wire::PROGRAM_STEPS;
        let (list, index) = if in_program {
            let program = self.0.iter().find_map(|step| match step {
                Step::Spawn { program, .. } => Some(program),
                _ => None,
            });
            (program, message.a - wire::PROGRAM_STEPS)
        } else {
            (Some(&self.0), message.a)
        };
        let step = list.and_then(|list| list.get(index as usize));
        let what = step.map_or("carry out a step of the sandbox".into(), Step::describe);
        if matches!(step, Some(Step::TakeAtExec { .. })) {
            return mac::refused(&what, &error);
        }
        if what == "execute the program" {
            let taken = list.is_some_and(|list| list.iter().any(|step| matches!(step, Step::TakeAtExec { .. })));
            let remedy = match message.b as i32 {
                libc_errno::ENOENT => "its dynamic loader is not in the view: is it built for another system?",
                libc_errno::ENOEXEC => "it is neither a program of this machine nor a script with a `#!` line",
                libc_errno::EACCES | libc_errno::EPERM if taken => {
                    "the file must be executable for others, and the module of `mac` must let Safe-Run's own profile or \
                     context change to the one named: the kernel's log (dmesg) and the audit log say what was denied"
                }
                libc_errno::EACCES => "make the file executable for others: the sandbox's user is not its owner",
                _ => "check the file and its permissions",
            };
            return Fault::new(Code::Run002, "launch.exec", format!("cannot {what}: {error}"), remedy);
        }
        let code = if in_program { Code::Run002 } else { Code::Run001 };
        if matches!(step, Some(Step::Unshare { .. })) {
            return Fault::new(
                code,
                "launch.preflight.namespaces",
                format!("cannot {what}: {error}"),
                "see `safe-run doctor`: namespaces may be switched off or used up on this host",
            );
        }
        let remedy = if what.contains("proc file system") {
            "this host shows only a masked /proc (a container?): run with an unmasked /proc, see `safe-run doctor`"
        } else if matches!(step, Some(Step::AllowPlace { .. })) && message.b as i32 == libc_errno::ELOOP {
            "a symbolic link leads there, and a program may have made it: write where it leads"
        } else if what.contains("Landlock") {
            "the kernel has Landlock and something here forbids it (a container's filter?): allow its three calls"
        } else {
            DOCTOR
        };
        let remedy = advice(&error, remedy);
        Fault::new(code, "launch.prepare", format!("cannot {what}: {error}"), remedy)
    }
}

/// The few errno values that get words of their own.
mod libc_errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const ENOEXEC: i32 = 8;
    pub const EACCES: i32 = 13;
    pub const ELOOP: i32 = 40;
}

fn maps(map: &IdMap, inside: u32) -> (Vec<MapLine>, Vec<MapLine>) {
    match *map {
        IdMap::Single { host_uid, host_gid } => {
            let line = |outside| {
                vec![MapLine {
                    inside,
                    outside,
                    count: 1,
                }]
            };
            (line(host_uid), line(host_gid))
        }
        IdMap::Range { base, count } => {
            let line = vec![MapLine {
                inside: 0,
                outside: base,
                count,
            }];
            (line.clone(), line)
        }
    }
}

pub(crate) fn go(socket: BorrowedFd<'_>, with: &[BorrowedFd<'_>]) -> Result<(), Fault> {
    let message = Message {
        tag: wire::TAG_GO,
        a: 0,
        b: 0,
    };
    wire::send_each(socket, message, with)
        .map_err(|e| init_fault("launch.prepare", "the sandbox's first process is gone", &e))
}

fn gone() -> Fault {
    Fault::new(
        Code::Run001,
        "launch.prepare",
        "the sandbox's first process ended before it was ready",
        "it may have been killed from outside, or by the memory limit of the group this runs in",
    )
}

pub(crate) fn init_fault(path: &str, what: &str, error: &io::Error) -> Fault {
    Fault::new(Code::Run001, path, format!("{what}: {error}"), advice(error, DOCTOR))
}

const DOCTOR: &str = "see `safe-run doctor` for what this host can give";

/// What to do about a call that was refused. Of a refusal by AppArmor only the kernel's log says that it is one.
fn advice(error: &io::Error, otherwise: &str) -> String {
    match sr_kernel::probe::apparmor_profile() {
        Some(profile) if error.kind() == io::ErrorKind::PermissionDenied => format!(
            "AppArmor holds safe-run by the profile {profile}: let it allow what the kernel's log (dmesg) says was denied; \
             OPERATIONS has the rules that safe-run needs"
        ),
        _ => otherwise.to_owned(),
    }
}

/// A namespace that could not be made: those of users are what hosts and containers forbid.
pub(crate) fn no_namespaces(what: &str, error: &io::Error) -> Fault {
    Fault {
        remedy: advice(
            error,
            "see `safe-run doctor`: user namespaces may be switched off or used up on this host; in a container, its \
             filter must let clone3(2) through",
        ),
        ..init_fault(
            "launch.preflight.namespaces",
            &format!("{what}: no user namespace"),
            error,
        )
    }
}

/// Ends the sandbox if its building is given up.
#[derive(Debug)]
struct Guard {
    init: Option<Child>,
    /// The program, while it is traced.
    tracee: Option<i32>,
}

impl Guard {
    fn pid(&self) -> i32 {
        self.init.as_ref().map_or(-1, |c| c.pid)
    }

    fn release(mut self) -> Result<Child, Fault> {
        self.init.take().ok_or_else(gone)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(init) = &self.init {
            sr_kernel::process::kill_and_reap_traced(init, self.tracee);
        }
    }
}

impl Prepared {
    /// A pidfd of the sandbox's first process, which waits for [`Prepared::start`].
    pub fn init(&self) -> Result<BorrowedFd<'_>, Fault> {
        self.init.init.as_ref().map(|init| init.pidfd.as_fd()).ok_or_else(gone)
    }

    /// Lets the sandbox join its v1 groups, given by their open `tasks` files, and the program's process be made, does
    /// `meanwhile`, and brings the program to its exec stop: before that it could not be given up, since who is held by a
    /// tracer that does not know it yet cannot end.
    pub fn start<T>(self, groups: &[BorrowedFd<'_>], meanwhile: impl FnOnce() -> T) -> Result<(Stopped, T), Fault> {
        let Prepared {
            init: mut guard,
            channel,
            steps,
            gate,
            told,
            landlock,
            in_landlock,
            kept,
            ..
        } = self;
        go(channel.as_fd(), groups).map_err(|gone| steps.said(channel.as_fd(), gone))?;
        let done = meanwhile();
        let failed = |e: io::Error| {
            init_fault(
                "launch.preflight.ptrace",
                "cannot follow the program to its exec stop",
                &e,
            )
        };
        let said = || steps.said(channel.as_fd(), gone());
        let program = if gate.is_none() {
            let Some(program) = ptrace::to_fork(guard.pid()).map_err(failed)? else {
                return Err(said());
            };
            guard.tracee = Some(program);
            ptrace::detach(guard.pid()).map_err(failed)?;
            if !ptrace::to_exec(program).map_err(failed)? {
                return Err(said());
            }
            program
        } else {
            -1
        };
        let (mut listener, mut landlock, mut held) = (None, landlock, gate.is_none());
        while (told && listener.is_none()) || (in_landlock && landlock.is_none()) || !held {
            match wire::receive(channel.as_fd()) {
                Ok(Some((message, Some(fd)))) if message.tag == wire::TAG_LISTENER => listener = Some(fd),
                Ok(Some((message, Some(fd)))) if message.tag == wire::TAG_LANDLOCK => landlock = Some(fd),
                Ok(Some((message, _))) if message.tag == wire::TAG_HANDSHAKE => held = true,
                Ok(Some((message, _))) if message.tag == wire::TAG_FAILED => return Err(steps.fault(message)),
                _ => return Err(gone()),
            }
        }
        let program = if gate.is_none() {
            program
        } else {
            only_child(guard.pid())?
        };
        let stopped = Stopped {
            init: guard,
            channel,
            gate,
            steps,
            listener,
            landlock,
            kept,
            program,
        };
        Ok((stopped, done))
    }
}

/// The program's pid as this namespace counts it: init has one child.
fn only_child(init: i32) -> Result<i32, Fault> {
    let path = format!("/proc/{init}/task/{init}/children");
    let text =
        sr_kernel::pseudo::text(&path).map_err(|e| init_fault("launch.posture", &format!("cannot read {path}"), &e))?;
    text.split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .ok_or_else(gone)
}

/// Gives the go, and waits until the exec closed the other end, or the end of the process did.
fn pass(gate: &OwnedFd) -> io::Result<()> {
    rustix::io::write(gate, b"0")?;
    loop {
        match rustix::io::read(gate, &mut [0u8; 1]) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // It ended without having taken the go.
            Err(rustix::io::Errno::CONNRESET) => return Ok(()),
            Err(e) => return Err(e.into()),
        }
    }
}

impl Stopped {
    pub fn init_pid(&self) -> i32 {
        self.init.pid()
    }

    /// Lets the program run its first instruction.
    pub fn resume(self) -> Result<Running, Fault> {
        let let_go = match &self.gate {
            None => ptrace::detach(self.program),
            Some(gate) => pass(gate),
        };
        let_go.map_err(|e| init_fault("launch.go", "cannot let the program go", &e))?;
        if self.gate.is_some()
            && let Some(message) = wire::peek(self.channel.as_fd())
            && message.tag == wire::TAG_FAILED
        {
            // A failed exec was told before the program's process ended.
            return Err(self.steps.fault(message));
        }
        Ok(Running {
            init: self.init.release()?,
            channel: self.channel,
            listener: self.listener,
            landlock: self.landlock,
            _kept: self.kept,
            program: self.program,
        })
    }
}

impl Running {
    pub fn init_pid(&self) -> i32 {
        self.init.pid
    }

    /// Readable when the filter tells of a denied call; `None` where it tells of none.
    pub fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// The Landlock ruleset that the program entered.
    pub fn landlock(&self) -> Option<BorrowedFd<'_>> {
        self.landlock.as_ref().map(AsFd::as_fd)
    }

    /// Readable when init has something to say or is gone.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// What init said: `Some` once the program has ended or init is gone.
    pub fn ended(&self) -> io::Result<Option<Ended>> {
        match wire::receive(self.channel.as_fd()) {
            Ok(Some((message, _))) if message.tag == wire::TAG_ENDED => Ok(Some(Ended {
                status: message.a as i32,
                alone: (message.b > 0).then_some(u64::from(message.b)),
            })),
            Ok(Some(_)) => Ok(None),
            // Init was killed, by us or by the kernel.
            Ok(None) => Ok(Some(Ended::with(9))),
            Err(e) if e.raw_os_error() == Some(104) => Ok(Some(Ended::with(9))),
            Err(e) => Err(e),
        }
    }

    /// Sends a signal to the program's process group, by way of init.
    pub fn signal(&self, signal: i32) {
        // If init is gone the run is ending anyway.
        let _ = wire::send(
            self.channel.as_fd(),
            Message {
                tag: wire::TAG_SIGNAL,
                a: signal as u32,
                b: 0,
            },
            None,
        );
    }

    /// Kills every process of the sandbox: with its init, the pid namespace ends.
    pub fn kill(&self) {
        // Fails only if it is gone already.
        let _ = rustix::process::pidfd_send_signal(&self.init.pidfd, rustix::process::Signal::KILL);
    }

    /// Kills what is left, waits until every process of the namespace is gone, and gives the CPU time used, in
    /// microseconds, as the kernel accounted it to init.
    pub fn reap(self) -> u64 {
        self.kill();
        sr_kernel::process::reap_with_usage(self.init.pid)
    }
}
