//! A policy with every field filled in: what validation produces and the compiler reads.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr_common::{Backend, ByteSize, Control, Millis, Vmm};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

mod wasm;

pub use wasm::{Level, Wasm};

/// A complete policy: `extends` resolved, presets merged, every default written out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySpec {
    pub api_version: String,
    pub metadata: Metadata,
    /// The preset that lies beneath.
    pub preset: Preset,
    pub runtime: Runtime,
    pub rootfs: Rootfs,
    pub mounts: Vec<Mount>,
    /// Names that captured mounts do not show: a file name, `*` and `?` allowed; `.git/config` is shown without its credentials.
    pub hide: Vec<String>,
    /// What of the view the program may open; `None`: all of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub files: Option<Files>,
    pub resources: Resources,
    pub syscalls: Syscalls,
    pub network: Network,
    /// Mandatory access control besides the wall.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<Mac>,
    /// The guest, where a virtual machine is the wall; `None`: as [`Microvm::default`] says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub microvm: Option<Microvm>,
    /// What the engine lets a program of WebAssembly have; `None`: as [`Wasm::default`] says.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wasm: Option<Wasm>,
    pub evidence: Evidence,
    /// Captured writes are kept under this name and shown to the next run; `auto` names it after the workspace.
    pub session: Option<String>,
    /// Controls that the run may go without, each recorded as `enforced: false`.
    pub degrade: Vec<Control>,
}

impl PolicySpec {
    /// The artifact that a guest has for its root.
    pub fn guest_root(&self) -> Option<&str> {
        self.microvm.as_ref()?.rootfs.as_deref()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Preset {
    Strict,
    Standard,
    Agent,
    Build,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Runtime {
    pub backend: BackendChoice,
    /// `None`: given after `--`.
    pub command: Option<String>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Absolute in the view. `None`: the current directory where it is in the view, else `/`.
    pub workdir: Option<String>,
    /// uid and gid inside.
    pub user: u32,
}

/// Which wall a policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("enum" = BackendChoice::all().map(BackendChoice::name).collect::<Vec<_>>()))]
pub enum BackendChoice {
    /// The native wall; where the program is WebAssembly, an engine behind it.
    Auto,
    /// The strongest that covers the policy on the host.
    Strongest,
    /// The strongest of the virtual machines that covers the policy on the host.
    Microvm,
    /// This one and no other.
    This(Backend),
}

impl BackendChoice {
    /// Each of them.
    pub fn all() -> impl Iterator<Item = BackendChoice> {
        let named = Backend::ALL.into_iter().map(BackendChoice::This);
        [BackendChoice::Auto, BackendChoice::Strongest, BackendChoice::Microvm]
            .into_iter()
            .chain(named)
    }

    pub fn name(self) -> &'static str {
        match self {
            BackendChoice::Auto => "auto",
            BackendChoice::Strongest => "strongest",
            BackendChoice::Microvm => "microvm",
            BackendChoice::This(backend) => backend.name(),
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BackendChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = BackendChoice::all().find(|choice| choice.name() == text);
        found.ok_or_else(|| format!("{text:?} is no backend"))
    }
}

impl TryFrom<String> for BackendChoice {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BackendChoice> for String {
    fn from(choice: BackendChoice) -> String {
        choice.name().to_owned()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rootfs {
    pub source: RootfsSource,
    /// The directory, for `source: dir`.
    pub path: Option<String>,
    pub writable: RootWritable,
    /// What happens when the command lives in an installation of its own outside the system directories (pyenv, nvm, a venv).
    pub installation: Installation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RootfsSource {
    Host,
    Dir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RootWritable {
    /// Writes to the system directories are captured.
    Overlay,
    ReadOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Installation {
    /// Shown read-only.
    ReadOnly,
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// On the host; relative to the directory where the run starts. `.` in a git work tree is its top.
    pub source: String,
    /// In the view, absolute. `None`: the same path as the source.
    pub target: Option<String>,
    pub read_only: bool,
    /// Writable for the program, its writes kept apart for `diff` and `apply`.
    pub captured: bool,
}

/// Files, and directories with all below them, by their places in the view. All others may be looked for and listed, and
/// not opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Files {
    /// To read and to execute.
    pub read: Vec<String>,
    /// To read, execute and change, as far as the view lets.
    pub write: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// CPUs' worth of time; `None`: all of the host's.
    pub cpu: Option<f64>,
    /// `None`: all of the host's.
    pub memory: Option<ByteSize>,
    /// `None`: as many as the host has.
    pub pids: Option<u32>,
    pub disk: ByteSize,
    pub wall_time: Millis,
    pub open_files: u32,
    pub output: ByteSize,
    pub on_output: OnOutput,
    pub strength: RequiredStrength,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnOutput {
    Kill,
    Truncate,
}

/// The weakest strength that the policy accepts for its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RequiredStrength {
    Any,
    PerProcess,
    Kernel,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Syscalls {
    pub profile: SyscallProfile,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub on_denied: OnDenied,
    /// By call, the values that the argument which selects among its many uses may have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SyscallProfile {
    /// None but those that `allow` names, and what every start and end needs.
    Named,
    Strict,
    Standard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDenied {
    Errno,
    Kill,
    Log,
    /// A question to the person at the terminal.
    Ask,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    pub mode: NetworkMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    None,
}

/// What the program is put behind as it is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mac {
    /// A profile, by its name.
    Apparmor(String),
    /// A context.
    Selinux(String),
}

/// The guest of a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Microvm {
    /// `None`: the one that the backend names, else the strongest that the host has.
    pub vmm: Option<Vmm>,
    /// A kernel among the run store's artifacts, by its name.
    pub kernel: String,
    /// A root file system among the run store's artifacts, by its name. `None`: what `rootfs` says.
    pub rootfs: Option<String>,
    pub accel: Accel,
    /// From the monitor's start until its guest holds the program.
    pub boot_timeout: Millis,
}

impl Default for Microvm {
    fn default() -> Microvm {
        Microvm {
            vmm: None,
            kernel: "default".into(),
            rootfs: None,
            accel: Accel::Kvm,
            // Without the processor's help, on a busy host.
            boot_timeout: Millis(120_000),
        }
    }
}

/// Who carries out the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Accel {
    /// The processor, by KVM.
    Kvm,
    /// QEMU, one by one: many times slower, and all of QEMU's translator is within the guest's reach.
    Tcg,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// `default`, `none`, or the name of a key.
    pub sign: String,
    pub sample_interval: Millis,
    pub hash: HashScope,
    pub durability: Durability,
    /// Recorded before there was a choice: network sockets.
    #[serde(default)]
    pub denied: DeniedScope,
    #[serde(default)]
    pub observe: ObserveScope,
}

/// What the program does is told of, and recorded in `observed.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ObserveScope {
    #[default]
    None,
    /// System calls, with the arguments that select among them, and files.
    Calls,
}

/// What the program was denied is told of, and recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeniedScope {
    /// As `calls`, where the wall can tell of them; where it cannot, the report's `denied` is `null`.
    Available,
    /// Network sockets alone.
    #[default]
    Network,
    /// System calls that the filter denies.
    Calls,
    /// Besides, files that the view does not show or does not let be changed: each call that names a file by its path
    /// waits for the supervisor.
    Paths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HashScope {
    /// Executable, interpreter, script and regular-file mounts.
    Files,
    /// Directory mounts too.
    Tree,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Durability {
    /// Nothing is kept: no events, no report.
    None,
    /// Survives SIGKILL of everything.
    Process,
    /// Survives power loss too.
    Machine,
}
