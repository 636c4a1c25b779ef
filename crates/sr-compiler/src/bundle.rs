//! The bundle: every plan of a run, in types that cannot express a dangerous state.

use crate::syscalls::interpreter::Instruction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr_common::facts::Image;
use sr_common::guest::DiskFormat;
use sr_common::host_calls::HostCalls;
use sr_common::module::{CodeSettings, ModuleKind, ModuleLimits, Preopen};
use sr_common::{Backend, ByteSize, Choice, Digest, Millis, Obligation, Strength};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a backend is given: nothing else decides what a run may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompileBundle {
    pub api_version: String,
    /// `CompileBundle`.
    pub kind: String,
    pub backend: Backend,
    /// Why it is that wall; left out where the policy names it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub choice: Option<Choice>,
    /// Digests of the canonical JSON of what went in.
    pub inputs: BundleInputs,
    pub process_plan: ProcessPlan,
    pub filesystem_plan: FilesystemPlan,
    pub syscalls_plan: SyscallsPlan,
    pub resources_plan: ResourcesPlan,
    /// `null`: no network at all.
    pub network_plan: Option<NetworkPlan>,
    /// Left out: the wall alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac_plan: Option<MacPlan>,
    pub evidence_plan: EvidencePlan,
    /// Left out: the program's kernel is the host's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wall_plan: Option<WallPlan>,
    /// Every clause of the policy and what will enforce it.
    pub obligations: Vec<Obligation>,
    /// Digests of the final renderings, by name (`seccomp.x86_64`).
    pub renderings: BTreeMap<String, Digest>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleInputs {
    pub policy: Digest,
    pub facts: Digest,
    pub subject: Digest,
}

impl CompileBundle {
    /// Whether somebody is told of what the wall denies.
    pub fn tells_denials(&self) -> bool {
        self.syscalls_plan.told || self.backend == Backend::Wasm
    }

    /// The field of the policy that says how long the program may run.
    pub fn time_clause(&self) -> &'static str {
        match self.wall_plan.as_ref().map(|wall| &wall.monitor) {
            Some(MonitorPlan::Wasm { own_time: true, .. }) => "wasm.time",
            _ => "resources.wallTime",
        }
    }

    /// What the host's kernel is told to hold: around the program itself, or around the monitor of its kernel.
    pub fn around(&self) -> &CompileBundle {
        self.wall_plan.as_ref().map_or(self, |wall| &wall.around)
    }
}

/// A kernel of the program's own: the monitor that runs it is a program behind the native wall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WallPlan {
    pub monitor: MonitorPlan,
    /// Where the program's view stands in the monitor's.
    pub root: String,
    /// Hashed on the opened file before the launch.
    pub images: Vec<Image>,
    /// From the monitor's start until its guest holds the program: then it is no launch.
    pub boot_timeout: Millis,
    /// The sandbox of the monitor.
    pub around: Box<CompileBundle>,
}

impl WallPlan {
    /// Whether the program is a file of its view, below `root`: it is not in an image, nor a module.
    pub fn shows_program(&self) -> bool {
        self.disk().is_none() && !matches!(self.monitor, MonitorPlan::Wasm { .. })
    }

    /// The file system on the disk that is the guest's root, if that is what it has for one.
    pub fn disk(&self) -> Option<DiskFormat> {
        self.images.iter().find_map(|image| image.format)
    }
}

/// The monitor and its complete arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum MonitorPlan {
    Qemu {
        argv: Vec<String>,
    },
    /// `runsc`; what it is told besides stands in its view.
    Gvisor {
        argv: Vec<String>,
    },
    /// The worker of a WebAssembly module, and what its engine holds. Arguments and environment are the program's.
    Wasm {
        argv: Vec<String>,
        kind: ModuleKind,
        /// Compiled: absolute in its view.
        code: String,
        settings: CodeSettings,
        preopens: Vec<Preopen>,
        limits: ModuleLimits,
        host_calls: HostCalls,
        /// `wasm.time` is shorter than the wall time of the policy's resources.
        own_time: bool,
    },
    /// Its configuration stands in its view. The guest's connections arrive at these sockets there: the agent's, and the
    /// one for its files.
    Firecracker {
        argv: Vec<String>,
        agent: String,
        files: String,
    },
    /// The same; its configuration, at `config`, is told it by its API.
    CloudHypervisor {
        argv: Vec<String>,
        config: String,
        agent: String,
        files: String,
    },
}

impl MonitorPlan {
    /// Whether the guest's kernel keeps the account of its memory. Else that is the monitor's, and the host counts it.
    pub fn guest_counts_memory(&self) -> bool {
        !matches!(self, MonitorPlan::Gvisor { .. } | MonitorPlan::Wasm { .. })
    }

    pub fn argv(&self) -> &[String] {
        match self {
            MonitorPlan::Qemu { argv }
            | MonitorPlan::Gvisor { argv }
            | MonitorPlan::Wasm { argv, .. }
            | MonitorPlan::Firecracker { argv, .. }
            | MonitorPlan::CloudHypervisor { argv, .. } => argv,
        }
    }
}

/// The program and the identity under which it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessPlan {
    /// Absolute in the view: the file that is executed (the interpreter, for a script).
    pub executable: String,
    /// The script, for `#!`: absolute in the view. Hashed, run by its path.
    pub script: Option<String>,
    /// Complete, `#!` already resolved.
    pub argv: Vec<String>,
    /// Complete and sorted; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Absolute in the view.
    pub workdir: String,
    pub hostname: String,
    pub user: UserPlan,
    /// `false` where the policy degrades it and the host forbids it.
    pub posture_at_exec: bool,
}

/// Who the program is, inside and on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserPlan {
    /// uid and gid inside. Never 0 on the host.
    pub inside: u32,
    pub map: IdMap,
}

/// The user namespace's maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum IdMap {
    /// An ordinary user: one id, the caller's own, appears as `inside`.
    Single { host_uid: u32, host_gid: u32 },
    /// Root: ids 0..count inside are base..base+count on the host; host id 0 is not among them.
    Range { base: u32, count: u32 },
}

/// What the program sees, from the root down. Entries are in mount order: parents before children.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesystemPlan {
    pub entries: Vec<ViewEntry>,
    /// Where captured writes, `/tmp` and `/dev/shm` live, and how they are limited.
    pub writable: WritableStore,
    /// Absolute in the view; each is covered by an empty read-only file or directory.
    pub masked: Vec<String>,
    /// Absolute in the view; remounted read-only (`/proc/sys` …).
    pub read_only_paths: Vec<String>,
    /// Paths on the host that the view leaves out, and why; for the report.
    pub hidden: Vec<Hidden>,
    /// Installation prefixes shown for the command's sake; for the report.
    pub prefixes: Vec<String>,
    /// `None` where the kernel has no Landlock and the policy degrades it.
    pub landlock: Option<LandlockPlan>,
    /// Captured writes are kept under this name.
    pub session: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hidden {
    pub path: String,
    pub reason: String,
}

/// One thing in the view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ViewEntry {
    /// Absolute in the view, normalised (no `.`, `..`, `//` or trailing `/`; the root is `/`).
    pub target: String,
    pub what: ViewKind,
}

/// What stands at a place in the view. There is no variant for a writable system directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ViewKind {
    /// A host file or directory, read-only, with everything mounted below it.
    ReadOnly {
        source: String,
        directory: bool,
    },
    /// A host file or directory that the policy names as writable: writes go through.
    Writable {
        source: WritableSource,
        directory: bool,
        owner: Option<Owner>,
    },
    /// A host directory under an overlay: writes go to captured layer `layer`.
    Captured {
        source: String,
        layer: u32,
        owner: Option<Owner>,
        hidden: Vec<LayerMask>,
    },
    /// An empty directory whose contents count against the writable store.
    Scratch {
        mode: u32,
    },
    /// A directory in the (read-only) root skeleton.
    Directory {
        mode: u32,
    },
    Symlink {
        to: String,
    },
    /// A made-up file (`/etc/passwd` …), mode 0444.
    File {
        content: String,
    },
    /// A copy of a small file of the host, made at the start, mode 0444: cheaper than a mount.
    Copy {
        source: String,
    },
    /// A fresh procfs for the sandbox's pid namespace.
    Proc,
    /// A minimal `/dev`: null, zero, full, random, urandom, tty, fd, std*, ptmx.
    Dev,
    /// A devpts instance of the sandbox's own.
    Devpts,
    /// KVM's device, in a `/dev` that has no others but its own.
    Kvm,
}

impl ViewKind {
    /// Whether it is one, or leads to one.
    pub fn is_directory(&self) -> bool {
        match self {
            ViewKind::ReadOnly { directory, .. } | ViewKind::Writable { directory, .. } => *directory,
            ViewKind::File { .. } | ViewKind::Copy { .. } | ViewKind::Kvm => false,
            _ => true,
        }
    }

    /// Whether names are made, and files changed, there.
    pub fn is_writable(&self) -> bool {
        matches!(
            self,
            ViewKind::Scratch { .. } | ViewKind::Captured { .. } | ViewKind::Writable { .. }
        )
    }
}

/// Owner on the host of a directory that is shown as the sandbox user's own (idmapped mount; privileged supervisor only).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// A name below a captured directory that its lower layer does not show, or shows with other text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerMask {
    /// Relative to the captured directory, `/`-separated.
    pub path: String,
    /// `None`: absent.
    pub replacement: Option<String>,
}

/// A host path that may be written through: never `/`, a system directory, or an ancestor of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct WritableSource(String);

/// Directories of the operating system: never mounted writable, never a workspace.
pub const SYSTEM_DIRECTORIES: [&str; 14] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr",
    "/var",
];

impl WritableSource {
    /// `None` for `/`, a system directory, or anything below one (`/var/tmp` and `/var/lib/…` user data are refused too;
    /// a run that must write there mounts a directory of its own).
    pub fn new(path: &str) -> Option<Self> {
        let normal = path.starts_with('/')
            && path.len() > 1
            && path
                .split('/')
                .skip(1)
                .all(|part| !part.is_empty() && part != "." && part != "..");
        let system = SYSTEM_DIRECTORIES
            .iter()
            .any(|dir| path == *dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')));
        (normal && !system).then(|| WritableSource(path.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WritableSource {
    type Error = String;
    fn try_from(path: String) -> Result<Self, String> {
        WritableSource::new(&path).ok_or_else(|| format!("{path} cannot be mounted writable"))
    }
}

impl From<WritableSource> for String {
    fn from(source: WritableSource) -> String {
        source.0
    }
}

/// Where writes go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WritableStore {
    pub backing: Backing,
    /// Bytes in all of it.
    pub bytes: ByteSize,
    /// Files and directories in all of it.
    pub inodes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Backing {
    /// One size-limited tmpfs, held by the kernel, copied to the run store at the end.
    Tmpfs,
    /// A directory of the run store, its size sampled; `/tmp` and `/dev/shm` stay on a tmpfs of the same limit.
    Store,
}

/// Landlock rules: what the view allows, said once more to another part of the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LandlockPlan {
    /// The ABI whose rights are handled; never more than the host's.
    pub abi: u32,
    /// Absolute in the view.
    pub rules: Vec<LandlockRule>,
    /// Deny TCP bind and connect (ABI 4), abstract sockets and signals out of the domain (ABI 6).
    pub deny_network: bool,
    pub scope: bool,
}

impl LandlockPlan {
    /// Whether only a part of the view may be opened (`files`).
    pub fn holds_files(&self) -> bool {
        self.rules.iter().any(|rule| rule.access == LandlockAccess::List)
    }

    /// Whether a file that may not be changed may not be emptied by truncate(2) either: `LANDLOCK_ACCESS_FS_TRUNCATE`, of
    /// Linux 6.2.
    pub fn keeps_from_truncating(&self) -> bool {
        self.abi >= 3
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LandlockRule {
    pub path: String,
    pub access: LandlockAccess,
    #[serde(default, skip_serializing_if = "LandlockLinks::are_followed")]
    pub links: LandlockLinks,
}

/// What becomes of symbolic links on the way to a rule's place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LandlockLinks {
    #[default]
    Followed,
    /// Followed, and the rule is for a regular file or for nothing.
    ToFile,
    /// The run is refused: a program may have made them, or may make what they lead through.
    Refused,
    /// The rule is for the very file that was hashed, by its descriptor: the executable or its script.
    Hashed,
}

impl LandlockLinks {
    fn are_followed(&self) -> bool {
        *self == LandlockLinks::Followed
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LandlockAccess {
    /// Read directories.
    List,
    /// Read files and directories, execute.
    Read,
    /// All that a directory allows, except making device nodes.
    Write,
    /// Read, write and ioctl an existing device.
    Device,
}

/// The system-call filter, as rules by name and as the final program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SyscallsPlan {
    pub profile: String,
    pub arch: String,
    /// What an unnamed, known system call gets.
    pub on_denied: DeniedAction,
    /// Whether it gets that from the supervisor, which is told of the call (seccomp user notification) and records it.
    #[serde(default)]
    pub told: bool,
    /// The names that the policy takes from its profile.
    #[serde(default)]
    pub denied: Vec<String>,
    /// Allowed whatever the arguments, sorted.
    pub allowed: Vec<Cow<'static, str>>,
    /// The supervisor is told of allowed calls too, but for those of the launch, and lets them go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
    /// Allowed, but the supervisor is told of each and looks at its path first, sorted (`evidence.denied: paths`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Cow<'static, str>>,
    /// Allowed only with some arguments; every other argument gets `onDenied` or the rule's own errno.
    pub conditional: Vec<ConditionalRule>,
    /// The compiled classic BPF (code, jt, jf, k). As text: the `struct sock_filter`s as they are loaded, little-endian, in
    /// hexadecimal; their digest is in the bundle's `renderings`.
    #[serde(with = "filter_text")]
    #[schemars(with = "String")]
    pub program: Vec<Instruction>,
}

/// A filter as text: hundreds of lists of numbers would be most of the bundle's parts, and tell nobody more.
mod filter_text {
    use crate::syscalls::{bpf, interpreter::Instruction};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(program: &[Instruction], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&sr_common::digest::hex(&bpf::bytes(program)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Instruction>, D::Error> {
        let text = String::deserialize(from)?;
        sr_common::digest::unhex(&text)
            .and_then(|bytes| bpf::from_bytes(&bytes))
            .ok_or_else(|| D::Error::custom("not a filter in hexadecimal"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeniedAction {
    /// EPERM.
    Errno,
    /// SIGSYS for the whole process.
    Kill,
    /// Logged by the kernel, and allowed (learning only).
    Log,
    /// A question to the person at the terminal; EPERM where they say no.
    Ask,
}

/// An argument rule. No test of `deny` may match; then the call is allowed if a test of `allow` matches, or if there is
/// none in `allow` and some in `deny`. With both empty the call is never allowed and answers `otherwiseErrno`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionalRule {
    pub syscall: String,
    pub allow: Vec<ArgumentTest>,
    pub deny: Vec<ArgumentTest>,
    /// What the call answers where it is not allowed; `None`: `onDenied`.
    pub otherwise_errno: Option<u16>,
    /// The supervisor is told of the call where it is not allowed (seccomp user notification) and gives it that errno.
    /// What a pointer leads to is never read.
    #[serde(default)]
    pub told: bool,
    /// Names of executables, a `*` at the end for any ending: only to these a told call answers the errno, and for every
    /// other program it goes on as if it were allowed. Empty: nobody gets it.
    #[serde(default)]
    pub only_for: Vec<String>,
    /// Why the supervisor is told.
    #[serde(default)]
    pub reason: Option<String>,
}

impl ConditionalRule {
    /// Whether the told call is denied to a program whose executable has this name.
    pub fn denies(&self, executable: &str) -> bool {
        let fits = |name: &String| match name.strip_suffix('*') {
            Some(stem) => executable.starts_with(stem),
            None => executable == name,
        };
        self.only_for.is_empty() || self.only_for.iter().any(fits)
    }
}

/// `(arg & mask) == value` on the low 32 bits: the tested arguments are `int`s, or have all their flags there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArgumentTest {
    pub index: u8,
    pub mask: u32,
    pub value: u32,
}

/// Limits, each with the mechanism and strength that this host gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourcesPlan {
    /// Milli-CPUs; `None`, here and below: no limit asked.
    pub cpu: Option<Limit>,
    /// Bytes.
    pub memory: Option<Limit>,
    pub pids: Option<Limit>,
    pub disk: Limit,
    pub wall_time: Millis,
    pub open_files: u64,
    pub output: ByteSize,
    /// Kill at the output limit rather than drop what comes after it.
    pub output_kills: bool,
    /// `RLIMIT_*` name (`NOFILE`) and value, soft and hard alike.
    pub rlimits: BTreeMap<String, u64>,
}

impl ResourcesPlan {
    /// How many files the project quota allows, where there is one.
    pub fn quota(&self) -> Option<u64> {
        match self.disk.mechanism {
            LimitMechanism::Quota { files } => Some(files),
            _ => None,
        }
    }

    /// Whether `safe-run-helper` makes control groups for the run.
    pub fn needs_helper(&self) -> bool {
        let limits = [&self.cpu, &self.memory, &self.pids];
        limits
            .into_iter()
            .flatten()
            .any(|limit| matches!(limit.mechanism, LimitMechanism::Cgroup { helper: true, .. }))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    pub value: u64,
    pub mechanism: LimitMechanism,
    pub strength: Strength,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum LimitMechanism {
    /// A group for the run below `parent`.
    Cgroup {
        version: u8,
        parent: String,
        /// Made by `safe-run-helper`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        helper: bool,
    },
    Rlimit,
    /// CPUs that the program may be scheduled on.
    Affinity {
        cpus: u32,
    },
    /// A group of the guest's own kernel.
    Guest,
    Tmpfs,
    /// A project quota for all that is written, in the run's folder, by `safe-run-helper`.
    Quota {
        /// Files and directories.
        files: u64,
    },
    Watchdog,
}

/// No network mode but `none` exists yet, so no value of this type does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum NetworkPlan {}

/// What the program is put behind by a security module as it is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum MacPlan {
    Apparmor {
        profile: String,
        /// Where in `/proc/PID` the module's files are.
        directory: String,
        /// It is added to the profile that Safe-Run itself is held by.
        stacked: bool,
    },
    Selinux {
        context: String,
    },
}

impl MacPlan {
    /// Where in `/proc/PID` the module's files are.
    pub fn directory(&self) -> &str {
        match self {
            MacPlan::Apparmor { directory, .. } => directory,
            MacPlan::Selinux { .. } => "attr",
        }
    }

    /// What is written to the module's file `exec`.
    pub fn word(&self) -> String {
        match self {
            MacPlan::Apparmor {
                profile, stacked: true, ..
            } => format!("stack {profile}"),
            MacPlan::Apparmor { profile, .. } => format!("exec {profile}"),
            MacPlan::Selinux { context } => context.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidencePlan {
    /// Whether there is any.
    #[serde(default = "evidence_is_kept")]
    pub kept: bool,
    pub sign: bool,
    pub sample_interval: Millis,
    pub hash_trees: bool,
    /// fsync at launch and end.
    pub durable: bool,
    /// What the policy shows of the host: its mounts in their order, then its root directory.
    #[serde(default)]
    pub mounts: Vec<MountEvidence>,
}

/// What a bundle says that was written when all evidence was kept.
fn evidence_is_kept() -> bool {
    true
}

/// A mount as the evidence names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountEvidence {
    /// Absolute on the host.
    pub source: String,
    /// Absolute in the view.
    pub target: String,
    pub directory: bool,
    /// Its content is hashed before the launch, as the view shows it.
    pub hashed: bool,
}
