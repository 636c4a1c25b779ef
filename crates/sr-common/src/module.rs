//! What the worker of a WebAssembly module is told to do: the part of a policy that the engine holds. Made by compilation,
//! part of the bundle, sent to the worker as JSON.

use crate::Control;
use crate::host_calls::HostCalls;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest module that anything looks at, bytes.
pub const MOST_MODULE: u64 = 64 << 20;
/// The first bytes of a module or a component (WebAssembly specification, 5.5.16).
pub const MAGIC: [u8; 4] = *b"\0asm";

/// What a file of WebAssembly is, by the layer that its preamble names (component model, Binary.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ModuleKind {
    /// A core module.
    Core,
    Component,
}

impl ModuleKind {
    /// By the first eight bytes of a file.
    pub fn of(preamble: &[u8]) -> Option<ModuleKind> {
        if preamble.get(..4) != Some(&MAGIC) {
            return None;
        }
        match preamble.get(4..8)? {
            [1, 0, 0, 0] => Some(ModuleKind::Core),
            [_, _, 1, 0] => Some(ModuleKind::Component),
            _ => None,
        }
    }
}

/// How the engine counts what a module computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Metering {
    /// Not at all: who stands outside ends the process when its time is up. Costs nothing.
    #[default]
    Deadline,
    /// The engine looks at a clock at every loop and call.
    Epochs,
    /// Every instruction is counted, against a budget: the same module with the same input ends at the same place.
    Fuel,
}

/// What changes the code that a module is compiled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeSettings {
    pub metering: Metering,
    /// Bytes.
    pub stack: u64,
}

/// One module or component, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModulePlan {
    pub kind: ModuleKind,
    /// Compiled, with these settings: absolute in the worker's view.
    pub code: String,
    pub settings: CodeSettings,
    pub argv: Vec<String>,
    /// Complete.
    pub env: BTreeMap<String, String>,
    /// In the order of their descriptors, from 3 on.
    pub preopens: Vec<Preopen>,
    pub limits: ModuleLimits,
    pub host_calls: HostCalls,
}

impl ModulePlan {
    /// What is asked of the engine by a control, as its posture has it; `None`: nothing.
    pub fn requested(&self, control: Control) -> Option<String> {
        let limits = &self.limits;
        Some(match control {
            Control::Memory => format!("{} bytes, {} elements", limits.memory, limits.table_elements),
            Control::Fuel => match (limits.fuel, self.settings.metering) {
                (Some(units), _) => format!("{units} units"),
                (None, Metering::Epochs) => "epochs".to_owned(),
                (None, Metering::Deadline | Metering::Fuel) => "not metered".to_owned(),
            },
            Control::OpenFiles => format!("{} files", limits.open_files),
            Control::HostCalls => format!("{} rules", self.host_calls.rules.len()),
            Control::Filesystem => Preopen::list(self.preopens.iter().map(|own| (own.name.as_str(), own.writable))),
            _ => return None,
        })
    }
}

/// A directory that the module has from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preopen {
    /// By what the module knows it: absolute, or `.`.
    pub name: String,
    /// Absolute in the worker's view.
    pub path: String,
    pub writable: bool,
}

impl Preopen {
    /// Names, and whether they can be written to, as a posture has them.
    pub fn list<'a>(all: impl Iterator<Item = (&'a str, bool)>) -> String {
        let all: Vec<String> = all
            .map(|(name, writable)| format!("{name} {}", if writable { "rw" } else { "ro" }))
            .collect();
        match all.is_empty() {
            true => "no directory".to_owned(),
            false => all.join(", "),
        }
    }
}

/// What the engine lets a module have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModuleLimits {
    /// Bytes of linear memories, tables and collected heaps together.
    pub memory: u64,
    /// Elements of all tables together.
    pub table_elements: u64,
    /// Files and directories that it opens, at a time.
    pub open_files: u64,
    /// Units; only where fuel is metered.
    pub fuel: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_told_by_its_preamble() {
        assert_eq!(ModuleKind::of(b"\0asm\x01\0\0\0"), Some(ModuleKind::Core));
        assert_eq!(ModuleKind::of(b"\0asm\x0d\0\x01\0rest"), Some(ModuleKind::Component));
        for other in [
            &b"\0asm"[..],
            b"",
            b"#!/bin/sh",
            b"\0asm\x02\0\0\0",
            b"\x7fELF\x02\x01\x01\0",
        ] {
            assert_eq!(ModuleKind::of(other), None, "{other:?}");
        }
    }
}
