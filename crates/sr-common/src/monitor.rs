//! What the supervisor and the driver of a monitor say to each other: one JSON document a message, over a socket that keeps
//! messages whole. The driver has read what the guest says; the supervisor believes neither.

use crate::control::Observed;
use crate::guest::GuestPlan;
use crate::module::ModulePlan;
use crate::outcome::Usage;
use crate::quantity::Millis;
use serde::{Deserialize, Serialize};

/// The most bytes of a message from the driver.
pub const MESSAGE: usize = 64 << 10;

/// From the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Order {
    /// First: how the monitor is spoken with, its program and arguments, and what its guest is told.
    Start {
        speech: Speech,
        argv: Vec<String>,
        plan: Box<GuestPlan>,
        /// From the monitor's start until its guest holds the program.
        boot_timeout: Millis,
    },
    /// First, to the worker of a module: what it is to run.
    Module { plan: Box<ModulePlan> },
    /// The program may run.
    Go,
}

/// The oldest QEMU that is taken: those before it make no machine without a keyboard's controller.
pub const OLDEST_QEMU: [u32; 3] = [7, 0, 0];

/// How a monitor is spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Speech {
    /// It inherits sockets: one that is the guest's port, one for QMP, one that is the console.
    Qemu,
    /// It inherits one socket for the agent in its container.
    Gvisor,
    /// It inherits pipes for its log and its metrics; the guest connects to Unix sockets.
    Firecracker { sockets: GuestSockets },
    /// It inherits a socket for its API, by which it is told the document at `config`, and a pipe for its events; the guest
    /// connects to Unix sockets.
    CloudHypervisor { sockets: GuestSockets, config: String },
}

/// Where the connections of a guest arrive, each a Unix socket that the driver makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestSockets {
    /// Its agent's.
    pub agent: String,
    /// Its files'; `None`: it has all that it needs.
    pub share: Option<Share>,
}

/// A directory that the driver serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    pub socket: String,
    pub directory: String,
}

/// From the driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Said {
    /// The guest's agent runs, on a kernel of this release.
    Booted { kernel: String },
    /// The program is held before its first instruction; what the guest's kernel shows of it.
    Held { posture: Vec<Observed> },
    /// What is used in the guest.
    Sample { usage: Usage },
    /// The program has ended; how much memory the agent took at most, in bytes.
    Ended { agent_bytes: u64 },
    /// The guest's kernel met a limit: the clause.
    Limit { clause: Clause },
    /// The module asked its host for what its rules deny, so many times since that was last told.
    Denied {
        function: String,
        reason: String,
        count: u64,
    },
    /// The engine has ended the module.
    Trapped { by: Trap, detail: String },
    /// What became of the monitor or its guest.
    Event { name: EventName, detail: String },
    /// The program was not started, or is lost. Nothing else follows.
    Failed {
        path: String,
        found: String,
        remedy: String,
    },
}

/// What an engine ends a module for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trap {
    Fuel,
    Memory,
    Table,
    Stack,
    /// A host call that its rules deny and that cannot fail.
    HostCall,
    /// Anything else that the module did itself.
    Other,
}

/// A limit that a guest's kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Clause {
    Memory,
    Pids,
    Disk,
}

impl Clause {
    /// The policy's field.
    pub fn path(self) -> &'static str {
        match self {
            Clause::Memory => "resources.memory",
            Clause::Pids => "resources.pids",
            Clause::Disk => "resources.disk",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventName {
    /// The monitor's process runs.
    MonitorStarted,
    /// It has ended.
    MonitorEnded,
    /// What it counted, by its own account.
    MonitorCounted,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// It reset the machine.
    GuestReset,
    /// It shut the machine down.
    GuestShutdown,
    /// Its memory was used up and it killed a process.
    GuestOutOfMemory,
}
