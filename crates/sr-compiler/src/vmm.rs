//! The final renderings for monitors: pure functions from typed machines to what the monitors read.

pub mod cloud_hypervisor;
pub mod firecracker;
pub mod qemu;
pub mod version;
