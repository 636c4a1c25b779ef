//! Words that every Safe-Run crate uses, defined once: ids, sizes, durations, digests, canonical JSON,
//! error codes, and the plain data that travels between the rooms. It knows nothing of what is above it.

pub mod backend;
pub mod canonical;
pub mod control;
pub mod coverage;
pub mod digest;
pub mod facts;
pub mod fault;
pub mod guest;
pub mod host_calls;
pub mod id;
pub mod module;
pub mod monitor;
pub mod outcome;
pub mod path;
pub mod quantity;

pub use backend::{Backend, Vmm};
pub use control::{Control, Obligation, Observed, Strength};
pub use coverage::{Answer, Choice, Coverage, Declaration, Hold, Holder, Lack, Matrix, PassedOver};
pub use digest::Digest;
pub use facts::{HostFacts, Subject};
pub use fault::{Code, Fault, SourceLine};
pub use id::RunId;
pub use outcome::{Cause, Usage, Waited};
pub use quantity::{ByteSize, Millis};

/// The version that every document carries.
pub const API_VERSION: &str = "safe-run/v1";
