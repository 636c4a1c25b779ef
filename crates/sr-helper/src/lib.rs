//! `safe-run-helper`: the control groups and project quotas of an ordinary user's runs, made by root. It is started as root by sudo or pkexec,
//! its standard input one end of a socket pair, and trusts its own file, the kernel and its code: who asks, and all that they
//! send, is hostile. It knows no policies and opens no path that it is told.

pub mod config;
mod disk;
mod group;
mod peer;
mod serve;
mod slot;
mod trusted;
pub mod wire;

pub use peer::Told;
pub use serve::{Places, serve};

/// Where the operator's rules are.
pub const CONFIG: &str = "/etc/safe-run/helper.toml";
/// Where it notes what it has made.
pub const STATE: &str = "/run/safe-run-helper";
