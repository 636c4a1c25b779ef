//! The life of one run: facts and subject are gathered, the bundle compiled, the sandbox built, watched and cleaned
//! up, the evidence written. It knows no policy syntax and reads no environment variable.

mod absent;
mod asking;
pub mod broker;
pub mod changes;
mod confinement;
pub mod digests;
pub mod exec;
pub mod facts;
pub mod gc;
mod guest_wire;
mod guests;
pub mod helper;
pub mod journal;
mod module;
pub mod monitor;
pub mod parts;
mod paths;
mod redaction;
mod refusal;
mod removal;
pub mod request;
pub mod run;
mod session;
mod stdio;
pub mod store;
pub mod subject;
mod supervise;
pub mod takeover;
mod terminal;
mod told;
mod usage;
mod verdict;
pub mod walls;

pub use exec::{ExecOutcome, Joining, exec};
pub use request::{Caller, Compiled, Outcome, Refusal, Request, compile_for_host, coverage_for_host};
pub use run::run;
pub use store::{CapturedLayer, RunDir, Store};
