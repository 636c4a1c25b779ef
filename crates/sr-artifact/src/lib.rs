//! What a virtual machine starts from: kernels, modules, root file systems, programs. Made without root and reproducibly, kept
//! by their digests below the run store, and hashed again on the descriptor by which they are used. Nothing here knows of
//! policies, or of how a machine is started.

pub mod apt;
pub mod cpio;
pub mod debian;
pub mod erofs;
pub mod ext4;
mod fault;
pub mod fetch;
pub mod image;
pub mod import;
pub mod kernel;
pub mod modules;
pub mod name;
pub mod packed;
pub mod provenance;
pub mod rootfs;
mod scratch;
pub mod store;
pub mod tar;
mod tool;
pub mod tree;

pub use name::{Kind, Wanted};
pub use provenance::{Input, Provenance};
pub use scratch::Scratch;
pub use store::{Artifact, Artifacts, Opened};
