//! The native sandbox: namespaces, a view of named files, Landlock, seccomp, capabilities, limits. It is given a
//! compiled plan and knows neither policies nor reports.
//!
//! The data's way: [`view`] and [`program`] turn the plan into steps (data), [`sandbox`] starts the process that
//! carries them out, hands it the root that is [`kept`] or the file system of `stage`, and the mounts of [`trees`], and
//! brings the program to its exec stop, [`posture`] reads there what holds.

pub mod join;
pub mod kept;
mod mac;
pub mod posture;
pub mod program;
pub mod sandbox;
mod skeleton;
mod stage;
pub mod trees;
pub mod view;

pub use sandbox::{Building, Ended, Guest, Namespaces, Options, Prepared, Running, Stdio, Stopped, begin};
pub use stage::Devices;
