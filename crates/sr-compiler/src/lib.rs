//! Policy and host facts in, [`CompileBundle`] out. Pure and deterministic: no I/O, no system call, no clock;
//! equal inputs give equal bytes. One module a plan.

pub mod bundle;

pub use bundle::CompileBundle;
