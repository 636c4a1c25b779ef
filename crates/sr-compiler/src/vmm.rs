//! The final renderings for monitors: pure functions from typed machines to what the monitors read.

pub mod qemu;
