//! The policy: its schema, the presets, strict parsing with spans, and validation. It knows no kernel, no host
//! and no VMM, and does no I/O: it is given text and gives back a [`PolicySpec`] or faults.

pub mod spec;

pub use spec::PolicySpec;
