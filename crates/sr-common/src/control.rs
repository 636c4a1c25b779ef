//! What a policy asks for, and by what it is enforced: controls, strengths, obligations, observations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A protection that a policy can ask for and a host can lack. The names are those of `degrade:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Control {
    UserNamespace,
    MountNamespace,
    PidNamespace,
    NetworkNamespace,
    IpcNamespace,
    UtsNamespace,
    CgroupNamespace,
    Filesystem,
    Landlock,
    Seccomp,
    Capabilities,
    NoNewPrivileges,
    PostureAtExec,
    Cpu,
    Memory,
    Pids,
    Disk,
    WallTime,
    OpenFiles,
    Output,
    Network,
    Mac,
    ExecutableDigest,
    /// Which calls a WebAssembly module may make of its host.
    HostCalls,
    /// How much a WebAssembly module may compute.
    Fuel,
    /// The processor's help for a guest (KVM); without it a monitor computes the guest's instructions itself.
    HardwareVirtualization,
}

impl Control {
    /// The controls whose absence `degrade:` may accept. The others are the wall itself.
    pub const DEGRADABLE: [Control; 8] = [
        Control::HardwareVirtualization,
        Control::Landlock,
        Control::Mac,
        Control::PostureAtExec,
        Control::Cpu,
        Control::Memory,
        Control::Pids,
        Control::Disk,
    ];

    /// The name as documents write it.
    pub fn name(self) -> String {
        serde_json::to_value(self)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    }
}

/// How strongly a limit holds, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Strength {
    /// The kernel holds it for the whole tree of processes (cgroup, tmpfs size, namespace).
    Kernel,
    /// The kernel holds it for each process (rlimit).
    PerProcess,
    /// The supervisor looks at intervals and kills.
    Sampled,
}

/// One clause of the policy and the mechanism that will enforce it on this backend and host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Obligation {
    /// The policy's field, such as `resources.memory`.
    pub clause: String,
    /// What was asked, as text.
    pub requested: String,
    pub control: Control,
    /// What enforces it, such as `cgroup v1 memory.limit_in_bytes`.
    pub mechanism: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strength: Option<Strength>,
    /// `false` only where the policy's `degrade` lists the control.
    pub enforced: bool,
    /// Why it is not enforced, or enforced with less than `kernel`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// One line of the posture: what was asked, by what, and what the kernel said at the exec stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observed {
    pub control: Control,
    pub requested: String,
    pub mechanism: String,
    /// What was read back, from where.
    pub observed: String,
    /// Whether the observation agrees with the request.
    pub holds: bool,
}
