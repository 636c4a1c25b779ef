//! The kernel boundary of the native backend. What a sandboxed process must do is data: a list of [`Step`]s that
//! the parent builds and checks, and that [`child`] carries out, allocation-free, in the new process.
//! All `unsafe` of the native backend is here. It knows no policies.

pub mod cgroup;
pub mod child;
pub mod clone;
pub mod confine;
pub mod counter;
pub mod cradle;
pub mod idmap;
pub mod kvm;
pub mod landlock;
pub mod peer;
pub mod probe;
pub mod process;
pub mod pseudo;
pub mod ptrace;
pub mod quota;
pub mod seccomp;
pub mod selinux;
pub mod step;
pub mod vsock;
pub mod wire;

pub use step::{Fd, Step};
