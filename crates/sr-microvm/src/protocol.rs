//! What a host and the agent in a guest say to each other over one stream of bytes. Frames ([`frame`]), what they mean in
//! each direction ([`host`], [`guest`]: all that is not expected there is refused), and what may be under way
//! ([`credit`]). Neither side allocates more than it has said before.

pub mod credit;
pub mod frame;
pub mod guest;
pub mod host;

use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest plan, as JSON: a program's arguments and environment are the most of it.
pub const MOST_PLAN: usize = 4 << 20;

/// The longest name of a kernel's release that is believed.
const MOST_RELEASE: usize = 64;

/// How many events a guest may tell of.
pub const MOST_EVENTS: u32 = 1000;

/// Something that the other side may not say, or not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl Violation {
    pub(crate) fn new(what: impl Into<String>) -> Violation {
        Violation(what.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// One of the program's streams. A terminal has [`Stream::In`] and [`Stream::Out`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    In,
    Out,
    Err,
}

impl Stream {
    fn number(self) -> u8 {
        match self {
            Stream::In => 0,
            Stream::Out => 1,
            Stream::Err => 2,
        }
    }

    fn of(number: u8) -> Option<Stream> {
        [Stream::In, Stream::Out, Stream::Err].get(usize::from(number)).copied()
    }
}

/// What happened in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum GuestEvent {
    /// The limit of memory could not be kept without ending processes: so often until now.
    LimitOfMemory { times: u64 },
    /// A process could not be made, because of the limit: so often until now.
    LimitOfProcesses { times: u64 },
    /// All of the guest's memory was used up, and its kernel ended processes of the program's: so many until now.
    OutOfMemory { processes: u64 },
}

/// Why the agent could not start the program, or not tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestFailure {
    /// What it was about to do.
    pub step: String,
    /// What came of it.
    pub found: String,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestEnd {
    /// As wait(2) gives it.
    pub status: i32,
    /// The most that was used at once; the time is all of it.
    pub peaks: sr_common::Usage,
    /// The agent's own memory at most, bytes.
    pub agent_bytes: u64,
}

/// Reads a document out of a frame.
fn document<'a, T: Deserialize<'a>>(what: &str, payload: &'a [u8]) -> Result<T, Violation> {
    serde_json::from_slice(payload).map_err(|e| Violation::new(format!("{what} that is none: {e}")))
}

/// Writes a document for a frame.
fn written<T: Serialize>(what: &str, document: &T) -> Result<Vec<u8>, Violation> {
    serde_json::to_vec(document).map_err(|e| Violation::new(format!("{what} cannot be written: {e}")))
}

#[cfg(test)]
mod tests;
