//! Code that was compiled before, loaded as it is: the one place of this crate where somebody's word must be taken.
#![allow(unsafe_code)]

use crate::error::SandboxError;
use std::path::Path;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Of a file that this crate wrote ([`crate::Code`]), which stays as it is while anybody has its code.
///
/// # Errors
/// It is none, or of an engine with other settings.
pub(crate) fn module(engine: &Engine, file: &Path) -> Result<Module, SandboxError> {
    // SAFETY: the supervisor has hashed the file, on the descriptor by which the sandbox shows it, and compared it with what
    // it stored when this very program had compiled it, in a folder that nobody else can write.
    unsafe { Module::deserialize_file(engine, file) }.map_err(|e| SandboxError::code(file, e))
}

/// The same, of a component.
///
/// # Errors
/// As there.
pub(crate) fn component(engine: &Engine, file: &Path) -> Result<Component, SandboxError> {
    // SAFETY: as above.
    unsafe { Component::deserialize_file(engine, file) }.map_err(|e| SandboxError::code(file, e))
}
