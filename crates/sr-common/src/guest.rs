//! What the agent in a guest is told to do: the part of a policy that the guest's own kernel holds. Made by compilation,
//! part of the bundle, sent to the agent as JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of this document, and of what is said between host and guest.
pub const GUEST_VERSION: u16 = 1;

/// Where a guest's connections arrive on its host, where a vsock leads to it: its agent's, and the one for its files.
pub const AGENT_PORT: u32 = 1024;
pub const FILES_PORT: u32 = 1025;

/// One program in one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestPlan {
    pub version: u16,
    /// `None`: nothing is shared.
    pub share: Option<GuestShare>,
    pub root: GuestRoot,
    /// In mount order, on places that the root has.
    pub mounts: Vec<GuestMount>,
    pub hostname: String,
    /// Absolute in the view. Of a root on a disk also a name without `/`, which is looked for in the `PATH` of `env`.
    pub executable: String,
    /// What the executable is told to interpret, if it is a script: absolute in the view.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<String>,
    pub argv: Vec<String>,
    /// Complete.
    pub env: BTreeMap<String, String>,
    /// Absolute in the view.
    pub workdir: String,
    /// uid and gid.
    pub user: u32,
    /// The system-call filter: `struct sock_filter`s, little-endian, in hexadecimal.
    pub filter: String,
    /// `RLIMIT_*` name (`NOFILE`) and value, soft and hard alike.
    pub rlimits: BTreeMap<String, u64>,
    pub limits: GuestLimits,
    /// The program gets a terminal.
    pub terminal: bool,
}

/// How the guest is shown a directory of its host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum GuestShare {
    /// By the monitor (9p over virtio), by its tag.
    Virtio { tag: String },
    /// By the monitor's driver (9p over vsock), at a port of the host's.
    Vsock { port: u32 },
}

/// What the guest's root directory is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum GuestRoot {
    /// The directory that is shared.
    Shared,
    /// What is on a disk, read-only; above it, in the guest's memory, the places that something is mounted on.
    Disk {
        /// Its name in `/dev`.
        device: String,
        format: DiskFormat,
    },
    /// The one that the agent has itself: a container's, in which all else is mounted already.
    Own,
}

/// The file system of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DiskFormat {
    Erofs,
    Squashfs,
    Ext4,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestMount {
    /// Absolute in the view.
    pub target: String,
    pub what: GuestMountKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum GuestMountKind {
    Proc,
    /// A minimal `/dev`: null, zero, full, random, urandom, tty, fd, std*, ptmx, pts, and an empty `shm` to mount on.
    Dev,
    /// Empty, in the guest's memory.
    Tmpfs {
        bytes: u64,
        inodes: u64,
        mode: u32,
    },
    /// What is shared has there, over a mount above it, or a root, that does not show it.
    Shared {
        directory: bool,
    },
    /// Covered by an empty read-only file or directory, if it is there.
    Masked,
    /// Remounted read-only, if it is there.
    ReadOnly,
}

/// Limits of the program and all that it starts, together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestLimits {
    /// Bytes.
    pub memory: Option<u64>,
    pub pids: Option<u64>,
    /// Thousandths of a CPU.
    pub cpu: Option<u64>,
}
