//! Why a guest ended.

use crate::limiter::Met;
use serde::{Deserialize, Serialize};
use std::fmt;
use wasmtime::Trap;
use wasmtime_wasi::I32Exit;

/// Every end has exactly one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Cause {
    /// It returned, or left with this status (`proc_exit`, `wasi:cli/exit`).
    Exit { code: i32 },
    /// All fuel was used up.
    Fuel,
    /// Its time was up, whether it computed or slept.
    Deadline,
    /// It trapped after it had been refused memory, or needs more at its start than it may have.
    Memory,
    /// The same, for tables.
    Table,
    /// Its stack was used up.
    Stack,
    /// A call of its host was denied in a way that cannot be told the guest.
    HostDenied { function: String },
    /// Another trap, in wasmtime's words.
    Trap { trap: String },
}

impl Cause {
    /// Of a call that failed. `met`: the limit that the guest met last.
    pub(crate) fn of(error: &wasmtime::Error, met: Option<Met>) -> Cause {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Cause::Exit { code: exit.0 };
        }
        if let Some(denied) = error.downcast_ref::<Denied>() {
            return Cause::HostDenied {
                function: denied.0.clone(),
            };
        }
        match (error.downcast_ref::<Trap>(), met) {
            (Some(Trap::OutOfFuel), _) => Cause::Fuel,
            (Some(Trap::Interrupt), _) => Cause::Deadline,
            (Some(Trap::StackOverflow), _) => Cause::Stack,
            (_, Some(Met::Memory)) => Cause::Memory,
            (_, Some(Met::Table)) => Cause::Table,
            (Some(trap), None) => Cause::Trap { trap: trap.to_string() },
            // A host function's own error.
            (None, None) => Cause::Trap {
                trap: error.root_cause().to_string(),
            },
        }
    }

    pub fn is_success(&self) -> bool {
        matches!(self, Cause::Exit { code: 0 })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Exit { code } => write!(f, "exit status {code}"),
            Cause::Fuel => f.write_str("all fuel is used up"),
            Cause::Deadline => f.write_str("the time is up"),
            Cause::Memory => f.write_str("more memory than its limit"),
            Cause::Table => f.write_str("larger tables than their limit"),
            Cause::Stack => f.write_str("the stack is used up"),
            Cause::HostDenied { function } => write!(f, "host call {function} is denied"),
            Cause::Trap { trap } => f.write_str(trap),
        }
    }
}

/// What a host function that is denied ends a guest with, where its type has no place for an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("host call {0} is denied")]
pub(crate) struct Denied(pub(crate) String);
