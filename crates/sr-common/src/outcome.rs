//! How a run ended and what it used.

use crate::canonical::MAX_INTEGER;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a run ended. Every end has exactly one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The program ended by itself; its status is its own.
    Exit,
    /// A signal that Safe-Run did not send ended the program.
    Signal,
    /// Wall time was used up.
    Timeout,
    Memory,
    Pids,
    Disk,
    Output,
    /// A denied call, under `onDenied: kill`.
    Policy,
    /// A WebAssembly module has computed all that it may.
    Fuel,
    /// Its stack was used up.
    Stack,
    /// It did what its engine ends a module for, such as reaching `unreachable`.
    Trap,
    Anomaly,
    /// The person who started the run stopped it.
    Cancelled,
    /// Safe-Run itself could not go on.
    Supervisor,
}

impl Cause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Exit => "exit",
            Cause::Signal => "signal",
            Cause::Timeout => "timeout",
            Cause::Memory => "memory",
            Cause::Pids => "pids",
            Cause::Disk => "disk",
            Cause::Output => "output",
            Cause::Policy => "policy",
            Cause::Fuel => "fuel",
            Cause::Stack => "stack",
            Cause::Trap => "trap",
            Cause::Anomaly => "anomaly",
            Cause::Cancelled => "cancelled",
            Cause::Supervisor => "supervisor",
        }
    }
}

/// Resources used by the sandbox. `None` where nothing measured it, never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Usage {
    /// User and system time of the whole tree, microseconds.
    pub cpu_micros: Option<u64>,
    /// Memory in use, bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Bytes written to the captured layers, `/tmp` and `/dev/shm`.
    pub disk_bytes: Option<u64>,
    /// What the run was kept waiting for, as a control group of version 2 counts it.
    pub waited: Option<Waited>,
}

/// For how long at least one of the run's processes had to wait for a resource, microseconds: the totals of `some` in the
/// kernel's pressure stall information (Documentation/accounting/psi.rst). A CPU limit that is used up counts as waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Waited {
    pub cpu_micros: u64,
    pub memory_micros: u64,
    pub io_micros: u64,
}

impl Usage {
    /// The larger of both, field by field.
    pub fn max(self, other: Usage) -> Usage {
        Usage {
            cpu_micros: self.cpu_micros.max(other.cpu_micros),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            pids: self.pids.max(other.pids),
            disk_bytes: self.disk_bytes.max(other.disk_bytes),
            // These only grow.
            waited: self.waited.max(other.waited),
        }
    }

    /// Whether a document can hold all of it: a figure beyond that measures nothing.
    pub fn can_be_written(&self) -> bool {
        let waited = self.waited.unwrap_or_default();
        let own = [self.cpu_micros, self.memory_bytes, self.pids, self.disk_bytes];
        let waited = [waited.cpu_micros, waited.memory_micros, waited.io_micros];
        let mut all = own.into_iter().flatten().chain(waited);
        all.all(|figure| figure <= MAX_INTEGER)
    }
}
