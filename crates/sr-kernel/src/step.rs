//! The steps of a new process, as data: built and tested by the parent, carried out by [`crate::child`].

use crate::landlock::{Access, Ruleset};
use crate::seccomp::Instruction;
use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

/// A descriptor known when the steps are built, or one that an earlier step puts into a numbered slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fd {
    Inherited(RawFd),
    Slot(u16),
}

/// How many slots a process has.
pub const SLOTS: usize = 256;

/// Attributes of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountFlags {
    pub read_only: bool,
    pub no_exec: bool,
    /// Allow device nodes (a bind of one device). `nosuid` is always set.
    pub devices: bool,
    pub recursive: bool,
}

/// One thing that a new process does. Paths without a leading `/` are relative to the current directory.
#[derive(Debug)]
pub enum Step {
    /// Waits for the supervisor's word. The descriptors that come with it, exactly one for each of `slots`, go there.
    Await {
        channel: RawFd,
        slots: Vec<u16>,
    },
    /// Clears the command line that this process shows, which is a copy of the supervisor's and names host paths.
    HideArguments(crate::process::Arguments),
    /// Puts this thread into a v1 control group, by its open `tasks` file.
    JoinGroup {
        tasks: Fd,
    },
    /// Killed when the parent dies.
    DieWithParent,
    NewSession,
    /// Sets all three uids and gids; `clear_groups` also drops the supplementary groups.
    Identity {
        uid: u32,
        gid: u32,
        clear_groups: bool,
    },
    /// Moves this process into new namespaces (`CLONE_NEW…` flags).
    Unshare {
        namespaces: i32,
    },
    /// Enters a namespace by its open `/proc/PID/ns` file.
    EnterNamespace {
        namespace: RawFd,
    },
    /// Goes on in a child of this process's own parent, and ends here: only a new process is in a pid namespace that was
    /// entered.
    Respawn,
    /// Makes every mount private to the new namespace.
    PrivateMounts,
    Hostname(CString),
    /// Writes a setting of this process's namespaces, through the host's /proc. What is not there, or may not be written
    /// (a container's /proc/sys is read-only), stays as it is.
    Setting {
        path: &'static CStr,
        value: &'static CStr,
    },
    /// A detached copy of a mount. With `no_symlinks`, a symbolic link in any component is an error.
    OpenTree {
        path: CString,
        recursive: bool,
        no_symlinks: bool,
        slot: u16,
    },
    /// A new file system, detached.
    NewFs {
        fs: &'static CStr,
        options: Vec<(CString, CString)>,
        flags: MountFlags,
        slot: u16,
    },
    Flags {
        tree: Fd,
        flags: MountFlags,
    },
    /// Mounts `tree` on a path that earlier steps made, or an absolute one of the old root.
    AttachAt {
        tree: Fd,
        path: CString,
    },
    /// Mounts `tree` below directory `root`, no symbolic link followed, never outside of it.
    AttachIn {
        tree: Fd,
        root: Fd,
        path: CString,
    },
    /// Opens a directory.
    OpenDir {
        path: CString,
        slot: u16,
    },
    /// Makes a directory; one that exists is left as it is.
    Mkdir {
        path: CString,
        mode: u32,
    },
    Owner {
        path: CString,
        uid: u32,
        gid: u32,
    },
    Symlink {
        to: CString,
        path: CString,
    },
    /// Makes a file, mode 0444 (or 0666 where `writable`).
    File {
        path: CString,
        content: Vec<u8>,
        writable: bool,
    },
    /// Something to mount on that is no directory, where nothing is there: a root of somebody else's may have it.
    Place {
        path: CString,
    },
    /// An overlayfs whiteout: the name is absent.
    Whiteout {
        path: CString,
    },
    /// Makes a character device that everyone may read and write. For who is root of the kernel itself.
    Device {
        path: CString,
        major: u32,
        minor: u32,
    },
    /// Copies mode and times of directory `from` to directory `to`.
    MirrorDirectory {
        from: CString,
        to: CString,
    },
    /// Covers a path below `root`, if it exists, with the empty file or directory. With `links`, there may be symbolic
    /// links on the way to it, none of which is followed.
    Mask {
        root: Fd,
        path: CString,
        file: CString,
        directory: CString,
        links: bool,
    },
    /// Remounts a path below `root`, if it exists, read-only; `links` as for [`Step::Mask`].
    MakeReadOnly {
        root: Fd,
        path: CString,
        links: bool,
    },
    ChangeDir(CString),
    ChangeDirTo(Fd),
    /// Makes the current directory the root and detaches the old one.
    PivotHere,
    /// Moves the current directory's mount over the root and takes it for this process's own: an initramfs cannot be
    /// pivoted away (pivot_root(2), NOTES).
    TakeRootHere,
    /// Opens a pty in the view, which belongs to `owner`, as a terminal does to who sits at it; the supervisor gets the
    /// master (tag [`crate::wire::TAG_PTY`]).
    OpenPty {
        channel: RawFd,
        slave: u16,
        owner: u32,
    },
    /// Opens a file of the view, whose root is `root`, for reading and sends the descriptor to the supervisor; it
    /// stays in `slot`.
    OpenAndSend {
        root: Fd,
        path: CString,
        channel: RawFd,
        tag: u8,
        slot: u16,
    },
    /// Finds a file or directory of the view, whose root is `root`, no symbolic link followed, and sends its place (`O_PATH`) to the
    /// supervisor with its number.
    SendPlace {
        root: Fd,
        path: CString,
        channel: RawFd,
        tag: u8,
        number: u32,
    },
    /// Finds a directory below `root`, no symbolic link followed; its place (`O_PATH`) goes to `slot`.
    OpenPlace {
        root: Fd,
        path: CString,
        slot: u16,
    },
    /// Sends a descriptor to the supervisor.
    Send {
        fd: Fd,
        channel: RawFd,
        tag: u8,
    },
    /// Closes every descriptor from 3 up but these, eight at most.
    CloseAllBut(Vec<Fd>),
    PrepareLandlock {
        ruleset: Ruleset,
        slot: u16,
    },
    /// Adds a rule for what is open at `target`.
    AllowOpened {
        ruleset: Fd,
        abi: u32,
        target: Fd,
        access: Access,
    },
    /// Adds a rule for a place to which no symbolic link may lead; none where nothing is there.
    AllowPlace {
        ruleset: Fd,
        abi: u32,
        path: CString,
        access: Access,
    },
    EnterLandlock {
        ruleset: Fd,
    },
    NotDumpable,
    /// Undoes it where no exec will have done so when the supervisor looks.
    Dumpable,
    /// Starts the program's process, which carries out `program`; its pid is kept for [`Step::Init`]. `shared`: in this
    /// process's memory, while this one waits until it has executed the program; several times cheaper than a copy, and
    /// not for a program that undoes [`Step::NotDumpable`], which goes with the memory.
    Spawn {
        program: Vec<Step>,
        shared: bool,
    },
    Stdio {
        stdin: Fd,
        stdout: Fd,
        stderr: Fd,
    },
    /// Makes descriptor 0 the controlling terminal.
    ControllingTerminal,
    Rlimit {
        resource: u32,
        value: u64,
    },
    Affinity {
        cpus: u32,
    },
    /// Empties the bounding set.
    DropBounding,
    /// Empties the ambient set, then keeps only `keep` (a bit mask) permitted and effective.
    Capabilities {
        keep: u64,
    },
    NoNewPrivileges,
    /// What a security module puts this process behind as it next executes a program: `word` is written to `file` of its
    /// own in /proc. `what` is for an error message.
    TakeAtExec {
        file: CString,
        word: CString,
        what: String,
    },
    /// Every signal's action to its default, none blocked: what a program may expect.
    DefaultSignals,
    /// Marks every descriptor from 3 up close-on-exec.
    CloseOnExec,
    /// The exec does not close it after all.
    KeepOpen(Fd),
    /// The file mode creation mask, where no [`Step::Spawn`] gives the caller's back.
    Umask(u32),
    /// Installs the filter; with `listener`, sends the descriptor of its notifications to the supervisor.
    Seccomp {
        program: Vec<Instruction>,
        listener: Option<RawFd>,
    },
    /// Tells the supervisor and waits until something comes through `gate`, a socket that only this process reads:
    /// the posture is read here where ptrace is forbidden.
    Handshake {
        channel: RawFd,
        gate: RawFd,
    },
    Execute {
        fd: Fd,
        argv: CStringArray,
        envp: CStringArray,
    },
    /// The first of the paths that is there, as execvp(3) does.
    ExecuteFirst {
        paths: Vec<CString>,
        argv: CStringArray,
        envp: CStringArray,
    },
    /// Reaps, forwards signals, reports the program's status, ends with the supervisor. Never returns.
    Init {
        channel: RawFd,
        filter: Vec<Instruction>,
        keep_capabilities: u64,
    },
}

/// A null-terminated array of C strings, made before the clone.
#[derive(Debug)]
pub struct CStringArray {
    // Owns what `pointers` points to.
    _strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl CStringArray {
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        CStringArray {
            _strings: strings,
            pointers,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const *const libc::c_char {
        self.pointers.as_ptr()
    }
}

impl Step {
    /// The path of what it makes, and the bytes that its content takes, in whole pages.
    pub fn makes(&self) -> Option<(&CStr, u64)> {
        match self {
            Step::Mkdir { path, .. }
            | Step::Symlink { path, .. }
            | Step::Whiteout { path }
            | Step::Device { path, .. } => Some((path, 0)),
            Step::File { path, content, .. } => {
                let page = rustix::param::page_size();
                Some((path, (content.len().div_ceil(page) * page) as u64))
            }
            _ => None,
        }
    }

    /// What the step does, for an error message.
    pub fn describe(&self) -> String {
        let text = |path: &CString| path.to_string_lossy().into_owned();
        match self {
            Step::OpenTree { path, .. } => format!("open the mount source {}", text(path)),
            Step::NewFs { fs, .. } => format!("make a {} file system", fs.to_string_lossy()),
            Step::AttachAt { path, .. } => format!("mount on {}", text(path)),
            Step::AttachIn { path, .. } => format!("mount on /{} of the view", text(path)),
            Step::Mkdir { path, .. } | Step::Owner { path, .. } | Step::OpenDir { path, .. } => {
                format!("prepare the directory {}", text(path))
            }
            Step::Symlink { path, .. }
            | Step::File { path, .. }
            | Step::Place { path }
            | Step::Whiteout { path }
            | Step::Device { path, .. } => format!("make {}", text(path)),
            Step::Mask { path, .. } => format!("mask /{}", text(path)),
            Step::MakeReadOnly { path, .. } => format!("make /{} read-only", text(path)),
            Step::ChangeDir(path) => format!("enter the working directory {}", text(path)),
            Step::OpenAndSend { path, .. } | Step::SendPlace { path, .. } | Step::OpenPlace { path, .. } => {
                format!("open {} in the view", text(path))
            }
            Step::Identity { uid, gid, .. } => format!("become uid {uid}, gid {gid}"),
            Step::Rlimit { resource, value } => format!("set resource limit {resource} to {value}"),
            Step::Unshare { namespaces } => format!("make namespaces {namespaces:#x}"),
            Step::Await { .. } => "hear from the supervisor".into(),
            Step::JoinGroup { .. } => "join the run's control group".into(),
            Step::Execute { .. } => "execute the program".into(),
            Step::ExecuteFirst { paths, .. } => match paths.as_slice() {
                [path] => format!("execute {}", text(path)),
                paths => format!(
                    "execute any of {}",
                    paths.iter().map(text).collect::<Vec<_>>().join(", ")
                ),
            },
            Step::Flags { .. } => "set the flags of a mount".into(),
            Step::PrepareLandlock { .. } => "make the Landlock ruleset".into(),
            Step::AllowOpened { .. } => "add the executable to the Landlock ruleset".into(),
            Step::AllowPlace { path, .. } => format!("let {}, which `files` names, be opened", text(path)),
            Step::EnterLandlock { .. } => "enter the Landlock domain".into(),
            Step::Seccomp { .. } => "load the seccomp filter".into(),
            Step::PrivateMounts => "make all mounts private".into(),
            Step::PivotHere => "change the root (pivot_root) and detach the old one".into(),
            Step::TakeRootHere => "take the new root".into(),
            Step::EnterNamespace { .. } => "enter a namespace of the run".into(),
            Step::Respawn | Step::Spawn { .. } => "start a process".into(),
            Step::Setting { path, .. } => format!("write {}", path.to_string_lossy()),
            Step::Hostname(_) => "set the host's name inside".into(),
            Step::MirrorDirectory { to, .. } => format!("copy mode and times to {}", text(to)),
            Step::ChangeDirTo(_) => "enter a directory of the view".into(),
            Step::OpenPty { .. } => "open a terminal in the view".into(),
            Step::Send { .. } => "send a descriptor to the supervisor".into(),
            Step::Handshake { .. } => "wait for the supervisor".into(),
            Step::CloseAllBut(_) | Step::CloseOnExec | Step::KeepOpen(_) => "close descriptors".into(),
            Step::Stdio { .. } => "set the standard streams".into(),
            Step::ControllingTerminal => "take the terminal".into(),
            Step::NewSession => "start a session".into(),
            Step::HideArguments(_) => "hide the arguments".into(),
            Step::DieWithParent => "be ended with the supervisor".into(),
            Step::NotDumpable | Step::Dumpable => "set whether it is dumpable".into(),
            Step::Affinity { .. } => "set its processors".into(),
            Step::DropBounding | Step::Capabilities { .. } => "give up capabilities".into(),
            Step::TakeAtExec { what, .. } => format!("put the program behind {what}"),
            Step::NoNewPrivileges => "set no_new_privs".into(),
            Step::DefaultSignals => "reset signals".into(),
            Step::Umask(_) => "set the file mode creation mask".into(),
            Step::Init { .. } => "watch over the program".into(),
        }
    }
}
