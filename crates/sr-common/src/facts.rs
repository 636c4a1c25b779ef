//! What compilation must know besides the policy: the host (`HostFacts`) and what is to be run (`Subject`).
//! Plain data, gathered by sr-runner; equal facts give equal bundles.

use crate::Digest;
use crate::guest::DiskFormat;
use crate::module::ModuleKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What this host can enforce. Gathered once a run; nothing is changed by gathering.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostFacts {
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// `uname -r`.
    pub kernel: String,
    /// Effective uid is 0 and CAP_SYS_ADMIN is held in the initial or own user namespace.
    pub privileged: bool,
    pub uid: u32,
    pub gid: u32,
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Why user namespaces cannot be made here; `None` where they can.
    pub user_namespaces_blocked: Option<String>,
    /// The Landlock ABI, 0 where the kernel has none.
    pub landlock_abi: u32,
    pub seccomp: bool,
    /// Whether `PTRACE_SEIZE` of an own child works.
    pub ptrace: bool,
    pub cgroup: CgroupFacts,
    /// The top level of the host's system tree, in the order in which it is mounted.
    pub system: Vec<SystemDir>,
    /// The members of the `/etc` allow-list that exist, absolute; directories end in `/`.
    pub etc: Vec<String>,
    /// The run store, absolute: hidden in every view.
    pub store: String,
    /// Key folders and other paths of Safe-Run's own that no view may show, absolute.
    pub private: Vec<String>,
    /// The invoking person's home directory, if known.
    pub home: Option<String>,
    /// First host id of the range that sandboxes of a privileged supervisor use.
    pub id_base: u32,
    /// The project quota that a run can have for what it writes into the run store; `None`: none, or not looked at, because
    /// the policy has no use for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub disk: Option<DiskCeilings>,
    /// What there is of mandatory access control; `None`: not looked at, because the policy names nothing of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<MacFacts>,
    /// What there is of other walls than the native one; `None`: not looked at, because the policy asks for none of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub walls: Option<WallFacts>,
}

/// What other walls than the native one are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WallFacts {
    /// The worker for WebAssembly.
    pub wasm: ProgramFacts,
    pub runsc: ProgramFacts,
    pub qemu: ProgramFacts,
    pub cloud_hypervisor: ProgramFacts,
    pub firecracker: ProgramFacts,
    /// The agent in guests and containers.
    pub guest: ProgramFacts,
    /// Why no guest can be made with KVM here; `None` where one can.
    pub kvm_blocked: Option<String>,
    /// Names of kernels among the run store's artifacts, sorted.
    pub kernels: Vec<String>,
    /// Names of root file systems among them, sorted.
    pub rootfs: Vec<String>,
}

/// A program of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ProgramFacts {
    Found {
        /// Absolute.
        path: String,
        /// As it says of itself; `null`: it says none, or was not asked.
        version: Option<String>,
    },
    Missing {
        /// Such as `there is no runsc on PATH`.
        why: String,
    },
}

/// Mandatory access control on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MacFacts {
    /// `None`: not in this kernel, or switched off.
    pub apparmor: Option<AppArmorFacts>,
    /// `None`: not in this kernel, switched off, or not shown here.
    pub selinux: Option<SelinuxFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppArmorFacts {
    /// Where in `/proc/PID` its files are: `attr/apparmor`, before Linux 5.8 `attr`.
    pub directory: String,
    /// By what Safe-Run itself is held: `unconfined`, or `PROFILE (MODE)`.
    pub label: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelinuxFacts {
    /// It denies, and does not only log.
    pub enforcing: bool,
    /// Safe-Run's own context.
    pub context: String,
}

/// One name in the host's root directory that belongs to the operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SystemDir {
    /// Absolute: `/usr`, `/bin`, `/lib64` …
    pub path: String,
    /// Where it points, if it is a symbolic link.
    pub link: Option<String>,
}

/// The cgroup controllers that this process may use below its own group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CgroupFacts {
    pub memory: Option<CgroupController>,
    pub cpu: Option<CgroupController>,
    pub pids: Option<CgroupController>,
    /// `safe-run-helper` makes the groups of the controllers that are named in it, and they hold no more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<HelperCeilings>,
}

/// The most that the helper's operator allows a run; `None`: the user's own groups have that controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HelperCeilings {
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
}

/// The most that the helper's operator lets a run hold on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskCeilings {
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// Where a controller's groups can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CgroupController {
    /// 1 or 2.
    pub version: u8,
    /// The directory below which a group for the run is made, absolute.
    pub parent: String,
}

/// What is to be run, as found on this host: the working directory and the resolved command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// The current directory of the caller, absolute and canonical.
    pub cwd: String,
    /// The top of the git work tree that holds `cwd`, or `cwd` itself.
    pub workspace: String,
    /// Owner of the workspace directory on the host.
    pub workspace_uid: u32,
    pub workspace_gid: u32,
    /// Paths in captured mounts that match the policy's `hide`, absolute on the host, sorted.
    pub hidden: Vec<HiddenPath>,
    pub command: Command,
    /// The policy's mounts as resolved on the host, in the policy's order.
    pub mounts: Vec<ResolvedMount>,
    /// The policy's root directory as resolved on the host; `None`: the host's system directories.
    pub root: Option<ResolvedMount>,
    /// What a wall with a kernel of its own is made of; `None`: the host's kernel is the wall.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wall: Option<WallParts>,
}

/// The programs and images of a wall that has a kernel of its own, as found on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WallParts {
    /// Safe-Run's own program, which drives the monitor: canonical.
    pub driver: String,
    /// The monitor (`qemu-system-x86_64`, `runsc`): canonical.
    pub monitor: String,
    pub images: Vec<Image>,
}

/// A file of the artifact store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Image {
    /// What it is to the monitor: `kernel`, `initrd`, `rootfs`.
    pub role: String,
    /// Absolute on the host.
    pub path: String,
    pub digest: Digest,
    /// The file system in it, of a guest's disk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub format: Option<DiskFormat>,
}

/// A file or directory that the view does not show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HiddenPath {
    /// Absolute on the host.
    pub path: String,
    /// The pattern of `hide` that matched.
    pub pattern: String,
    /// Text that stands in for the file (`.git/config` without its credentials); `None`: the name is absent.
    pub replacement: Option<String>,
}

/// A mount of the policy, its source canonicalised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolvedMount {
    /// Canonical absolute path on the host.
    pub source: String,
    /// Absolute path in the view.
    pub target: String,
    pub directory: bool,
    /// Owner of the source.
    pub uid: u32,
    pub gid: u32,
}

/// The program: what the person wrote and what it resolves to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// As written: `argv[0]`.
    pub written: String,
    /// Absolute path in the view of the file that is executed or interpreted.
    pub path: String,
    /// `#!` chain, outermost interpreter last; empty for a binary.
    pub interpreters: Vec<Interpreter>,
    /// Installation prefix outside the system directories that the command needs, canonical.
    pub prefixes: Vec<String>,
    /// Directory put first in the sandbox's PATH for that prefix.
    pub path_dirs: Vec<String>,
    /// It is WebAssembly: nothing that the host's kernel executes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<ModuleFile>,
}

/// A file of WebAssembly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleFile {
    pub kind: ModuleKind,
    /// Absolute on the host, canonical.
    pub source: String,
}

/// One `#!` line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interpreter {
    /// Absolute path in the view.
    pub path: String,
    /// The rest of the `#!` line, if any: one argument, as the kernel gives it.
    pub argument: Option<String>,
}
