//! What the engine lets a program of WebAssembly have, and the levels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr_common::host_calls::HostCalls;
use sr_common::module::Metering;
use sr_common::{ByteSize, Millis};

/// A program of WebAssembly under its engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Wasm {
    /// What gave the values that were not written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub level: Option<Level>,
    pub metering: Metering,
    /// Units; there only where fuel is metered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fuel: Option<u64>,
    /// Linear memories, tables and collected heaps together. `None`: as much as `resources` lets it have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<ByteSize>,
    /// `None`: as long as `resources` lets it run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time: Option<Millis>,
    /// Files and directories that it opens, at a time. `None`: as many as `resources` lets it have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub open_files: Option<u64>,
    pub stack: ByteSize,
    /// Of all tables together.
    pub table_elements: u64,
    pub compile_time: Millis,
    pub host_calls: HostCalls,
}

/// Values for what a policy does not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// For code that nobody looked at: a short computation.
    Strict,
    /// For a tool that works for minutes.
    Permissive,
}

impl Default for Wasm {
    fn default() -> Wasm {
        Wasm {
            level: None,
            metering: Metering::Deadline,
            fuel: None,
            memory: None,
            time: None,
            open_files: None,
            stack: ByteSize(1 << 20),
            table_elements: 1 << 20,
            compile_time: Millis(30_000),
            host_calls: HostCalls::default(),
        }
    }
}

impl Wasm {
    /// What a level says where nothing else is written.
    pub fn at(level: Level) -> Wasm {
        let (memory, time, fuel, files) = match level {
            Level::Strict => (128 << 20, 5_000, 5_000_000_000, 3),
            Level::Permissive => (1 << 30, 300_000, 100_000_000_000, 20),
        };
        Wasm {
            level: Some(level),
            metering: Metering::Fuel,
            fuel: Some(fuel),
            memory: Some(ByteSize(memory)),
            time: Some(Millis(time)),
            open_files: Some(files),
            ..Wasm::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_not_written() {
        let plain =
            r#"{"metering":"deadline","stack":"1MiB","tableElements":1048576,"compileTime":"30s","hostCalls":{}}"#;
        assert_eq!(serde_json::to_string(&Wasm::default()).unwrap(), plain);
        for wasm in [Wasm::default(), Wasm::at(Level::Strict), Wasm::at(Level::Permissive)] {
            let text = serde_json::to_string(&wasm).unwrap();
            assert_eq!(serde_json::from_str::<Wasm>(&text).unwrap(), wasm);
        }
    }
}
