//! Policy and host facts in, [`CompileBundle`] out. Pure and deterministic: no I/O, no system call, no clock;
//! equal inputs give equal bytes. One module a plan.

pub mod bundle;
mod compile;
mod coverage;
mod filesystem;
pub mod gvisor;
mod mac;
mod network;
mod obligations;
mod process;
mod resources;
pub mod syscalls;
pub mod vmm;
mod wall;

pub use bundle::CompileBundle;
pub use compile::{bundle_schema, compile, wall_for};
pub use coverage::{coverage_schema, matrix};
pub use resources::wants_quota;
pub use syscalls::{Arch, Denial, denial, known_syscall, syscall_name};
pub use wall::{code_settings, guest_plan, module_plan};
