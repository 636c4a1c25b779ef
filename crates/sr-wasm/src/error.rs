//! Why something could not be run. What became of something that ran is no error: see [`crate::ExecutionResult`].

use std::fmt;
use std::path::Path;

/// Nothing ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A configuration that cannot be meant.
    #[error("{field}: {found}; {remedy}")]
    Config {
        /// As in [`crate::SecureSandboxConfig`] and its `[wasm]` section.
        field: &'static str,
        found: String,
        remedy: &'static str,
    },
    /// The bytes are no module or component that the sandbox takes.
    #[error("the module: {found}")]
    Module { found: String },
    /// What it was compiled to cannot be loaded.
    #[error("the compiled code, {path}: {found}")]
    Code { path: String, found: String },
    /// It wants from its host what nobody gives it.
    #[error("the module imports {module}.{name}, which this sandbox does not give it: {why}")]
    Import {
        module: String,
        name: String,
        why: &'static str,
    },
    /// It has no function of that name that takes nothing.
    #[error("the module exports no function {name:?} without parameters; it exports: {exports}")]
    Entry { name: String, exports: String },
    /// A directory that is to be shown cannot be opened.
    #[error("{path}: {found}")]
    Directory { path: String, found: String },
    /// The whitelist forbids it.
    #[error("system call {call}: {why}")]
    Syscall { call: String, why: String },
    /// The limit that is named was met.
    #[error(transparent)]
    Violation(#[from] crate::ResourceViolation),
    /// wasmtime refused something that it should not refuse.
    #[error("the engine ({what}): {found}")]
    Engine { what: &'static str, found: String },
}

impl SandboxError {
    pub(crate) fn config(field: &'static str, found: impl Into<String>, remedy: &'static str) -> SandboxError {
        SandboxError::Config {
            field,
            found: found.into(),
            remedy,
        }
    }

    /// The whole chain, since wasmtime's first line often says where and not what.
    pub(crate) fn engine(what: &'static str, error: impl fmt::Debug) -> SandboxError {
        SandboxError::Engine {
            what,
            found: first_lines(error),
        }
    }

    pub(crate) fn code(path: &Path, error: impl fmt::Debug) -> SandboxError {
        SandboxError::Code {
            path: path.display().to_string(),
            found: first_lines(error),
        }
    }

    pub(crate) fn module(error: impl fmt::Debug) -> SandboxError {
        SandboxError::Module {
            found: first_lines(error),
        }
    }
}

/// `wasmtime::Error`'s `Debug` is its chain of causes and then a backtrace, which nobody is to read.
fn first_lines(error: impl fmt::Debug) -> String {
    let text = format!("{error:?}");
    let text = text.split("\n\nStack backtrace").next().unwrap_or_default();
    let words: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    words.join(" ")
}
