//! Virtual machines, below policies: the frames that are exchanged with the agent in a guest ([`protocol`]), and the
//! program that drives a virtual machine monitor inside the native sandbox ([`monitor`]). What comes from a guest is hostile.

pub mod monitor;
pub mod protocol;
