//! What a sandbox allows, in Rust or as the `[wasm]` section of a TOML document.

use crate::error::SandboxError;
use crate::fuel::FuelConfig;
use crate::monitor::ResourceLimits;
use serde::Deserialize;
use sr_common::module::{CodeSettings, MOST_MODULE, Metering, ModulePlan, Preopen};
use sr_common::{ByteSize, Millis};
use std::path::PathBuf;
use std::str::FromStr;

/// The most that 32-bit linear memories can have, bytes: 65,536 pages of 64 KiB (WebAssembly specification, 4.2.8).
pub const MOST_MEMORY: usize = 4 << 30;
/// The least: a page.
pub const LEAST_MEMORY: usize = 64 << 10;
/// wasmtime's own ceiling for the time being is the address space; above this, a guest's stack would be no stack.
const MOST_STACK: usize = 256 << 20;
const LEAST_STACK: usize = 16 << 10;

/// Limits that the field uses together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// 128 MiB, 5 s, 5·10⁹ fuel, 3 files, no network.
    Strict,
    /// 1 GiB, 300 s, 10¹¹ fuel, 20 files.
    Permissive,
}

/// What one guest may use and see. Everything that is not given is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureSandboxConfig {
    /// Bytes of linear memories, tables and collected heaps together; 64 KiB to 4 GiB.
    pub max_memory: usize,
    /// Of the guest's own time, also while it sleeps in a host call.
    pub max_execution_time_ms: u64,
    /// Units, where `enable_fuel`.
    pub max_fuel: u64,
    /// Meters the guest by instructions: deterministic, for a part of its speed.
    pub enable_fuel: bool,
    /// More fuel as time goes by; its start is `max_fuel`.
    pub refill: Option<FuelConfig>,
    /// Lets the guest be stopped by time while it computes, for some per cent of its speed. Without it nothing in this process
    /// stops a loop, and whoever runs the sandbox must be able to end the process.
    pub enable_epochs: bool,
    /// Directories that the guest sees, each at its own path, read-only.
    pub allowed_directories: Vec<PathBuf>,
    /// The same, in which it may also write.
    pub writable_directories: Vec<PathBuf>,
    /// Sockets of WASI preview 2, to anywhere. Modules have none.
    pub allow_network: bool,
    /// Files and directories that the guest has open at a time, but for those that it is given.
    pub max_open_files: usize,
    /// Elements of all tables together.
    pub max_table_elements: usize,
    /// Tables, memories and instances: of each so many.
    pub max_tables: usize,
    pub max_memories: usize,
    pub max_instances: usize,
    /// Bytes of the stack of compiled code.
    pub max_stack: usize,
    /// Bytes of a module, before anything looks at it.
    pub max_module_size: usize,
    /// The file that [`crate::SecureSandbox::validate_syscall`] goes by; `None`: what a worker of this sandbox needs.
    pub syscall_whitelist: Option<PathBuf>,
    /// Calls from the guest to its host.
    pub max_host_calls: u64,
    pub max_host_calls_per_second: u64,
}

impl Default for SecureSandboxConfig {
    /// 512 MiB, 30 s, 10¹⁰ fuel, 10 files; no directory, no network.
    fn default() -> SecureSandboxConfig {
        let limits = ResourceLimits::default();
        SecureSandboxConfig {
            max_memory: limits.max_memory_bytes,
            max_execution_time_ms: limits.max_execution_time_ms,
            max_fuel: 10_000_000_000,
            enable_fuel: true,
            refill: None,
            enable_epochs: true,
            allowed_directories: Vec::new(),
            writable_directories: Vec::new(),
            allow_network: false,
            max_open_files: limits.max_open_files,
            max_table_elements: 1 << 20,
            max_tables: 100,
            max_memories: 16,
            max_instances: 100,
            max_stack: 1 << 20,
            max_module_size: 64 << 20,
            syscall_whitelist: None,
            max_host_calls: limits.max_total_syscalls,
            max_host_calls_per_second: limits.max_syscalls_per_second,
        }
    }
}

impl SecureSandboxConfig {
    pub fn level(level: Level) -> SecureSandboxConfig {
        let own = SecureSandboxConfig::default();
        match level {
            Level::Strict => SecureSandboxConfig {
                max_memory: 128 << 20,
                max_execution_time_ms: 5_000,
                max_fuel: 5_000_000_000,
                max_open_files: 3,
                ..own
            },
            Level::Permissive => SecureSandboxConfig {
                max_memory: 1 << 30,
                max_execution_time_ms: 300_000,
                max_fuel: 100_000_000_000,
                max_open_files: 20,
                ..own
            },
        }
    }

    /// # Errors
    /// The first field that cannot be meant.
    pub fn validate(&self) -> Result<(), SandboxError> {
        let between = |field, value: usize, least: usize, most: usize, remedy| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(SandboxError::config(field, value.to_string(), remedy)),
        };
        let memory = "a guest has 64 KiB (a page) to 4 GiB (all that 32 bits address), in bytes";
        between("max_memory", self.max_memory, LEAST_MEMORY, MOST_MEMORY, memory)?;
        let stack = "compiled code takes 16 KiB to 256 MiB of stack, in bytes";
        between("max_stack", self.max_stack, LEAST_STACK, MOST_STACK, stack)?;
        let some = |field, value: usize| between(field, value, 1, usize::MAX, "a guest needs one at least");
        some("max_instances", self.max_instances)?;
        some("max_memories", self.max_memories)?;
        some("max_module_size", self.max_module_size)?;
        if self.max_execution_time_ms == 0 {
            let remedy = "give the guest a millisecond at least";
            return Err(SandboxError::config("max_execution_time_ms", "0", remedy));
        }
        if self.enable_fuel {
            self.fuel().validate()?;
        }
        if self.refill.is_some() && !(self.enable_fuel && self.enable_epochs) {
            let remedy = "fuel is refilled by the clock that epochs give; enable both";
            return Err(SandboxError::config(
                "refill",
                "without enable_fuel or enable_epochs",
                remedy,
            ));
        }
        Ok(())
    }

    /// The budget.
    pub fn fuel(&self) -> FuelConfig {
        match &self.refill {
            None => FuelConfig::new(self.max_fuel),
            Some(refill) => FuelConfig {
                initial_fuel: self.max_fuel,
                max_fuel_accumulation: refill.max_fuel_accumulation.max(self.max_fuel),
                ..refill.clone()
            },
        }
    }

    /// What one guest has by its plan, where somebody else keeps its time.
    ///
    /// # Errors
    /// A limit that cannot be meant.
    pub(crate) fn of_plan(plan: &ModulePlan) -> Result<SecureSandboxConfig, SandboxError> {
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let limits = &plan.limits;
        let config = SecureSandboxConfig {
            max_memory: number(limits.memory),
            max_table_elements: number(limits.table_elements),
            max_open_files: number(limits.open_files),
            max_fuel: limits.fuel.unwrap_or_default(),
            max_execution_time_ms: u64::MAX,
            max_host_calls: u64::MAX,
            max_host_calls_per_second: u64::MAX,
            ..SecureSandboxConfig::of_code(plan.settings)
        };
        if config.enable_fuel != limits.fuel.is_some() {
            let found = format!("{:?} and limits.fuel {:?}", plan.settings.metering, limits.fuel);
            let remedy = "fuel is given where it is metered, and nowhere else";
            return Err(SandboxError::config("metering", found, remedy));
        }
        config.validate()?;
        Ok(config)
    }

    /// As far as code depends on it.
    pub(crate) fn of_code(settings: CodeSettings) -> SecureSandboxConfig {
        SecureSandboxConfig {
            enable_fuel: settings.metering == Metering::Fuel,
            enable_epochs: settings.metering == Metering::Epochs,
            max_stack: usize::try_from(settings.stack).unwrap_or(usize::MAX),
            max_module_size: usize::try_from(MOST_MODULE).unwrap_or(usize::MAX),
            ..SecureSandboxConfig::default()
        }
    }

    /// Its directories, each by its own path: those that can only be read first.
    ///
    /// # Errors
    /// A path that is not absolute, or no UTF-8.
    pub(crate) fn preopens(&self) -> Result<Vec<Preopen>, SandboxError> {
        let read_only = self.allowed_directories.iter().map(|path| (path, false));
        let writable = self.writable_directories.iter().map(|path| (path, true));
        let preopen = |(path, writable): (&PathBuf, bool)| match path.to_str().filter(|_| path.is_absolute()) {
            Some(path) => Ok(Preopen {
                name: path.to_owned(),
                path: path.to_owned(),
                writable,
            }),
            None => Err(SandboxError::Directory {
                path: path.display().to_string(),
                found: "a guest's directory is named by an absolute path in UTF-8".into(),
            }),
        };
        read_only.chain(writable).map(preopen).collect()
    }

    pub(crate) fn limits(&self) -> ResourceLimits {
        ResourceLimits {
            max_memory_bytes: self.max_memory,
            max_heap_bytes: self.max_memory,
            max_stack_bytes: self.max_stack,
            max_execution_time_ms: self.max_execution_time_ms,
            max_open_files: self.max_open_files,
            max_network_connections: if self.allow_network { usize::MAX } else { 0 },
            max_syscalls_per_second: self.max_host_calls_per_second,
            max_total_syscalls: self.max_host_calls,
        }
    }

    /// Of a TOML document's `[wasm]` section. What it does not say is as in its `level`, or else as by default.
    ///
    /// # Errors
    /// No TOML, no such section, a key that is not known, or what [`SecureSandboxConfig::validate`] refuses.
    pub fn from_toml(text: &str) -> Result<SecureSandboxConfig, SandboxError> {
        let remedy = "see SecureSandboxConfig::from_toml for the keys";
        let bad = |e: toml::de::Error| SandboxError::config("[wasm]", e.to_string().trim().to_owned(), remedy);
        let document: Document = toml::from_str(text).map_err(bad)?;
        let config = document.wasm.over()?;
        config.validate()?;
        Ok(config)
    }
}

impl FromStr for SecureSandboxConfig {
    type Err = SandboxError;

    fn from_str(text: &str) -> Result<SecureSandboxConfig, SandboxError> {
        SecureSandboxConfig::from_toml(text)
    }
}

/// Other sections are other people's.
#[derive(Deserialize)]
struct Document {
    wasm: Section,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    level: Option<Level>,
    max_memory: Option<ByteSize>,
    max_execution_time: Option<Millis>,
    max_execution_time_ms: Option<u64>,
    max_fuel: Option<u64>,
    enable_fuel: Option<bool>,
    fuel_refill_interval: Option<Millis>,
    fuel_refill_amount: Option<u64>,
    max_fuel_accumulation: Option<u64>,
    enable_epochs: Option<bool>,
    allowed_directories: Option<Vec<PathBuf>>,
    writable_directories: Option<Vec<PathBuf>>,
    allow_network: Option<bool>,
    max_open_files: Option<usize>,
    max_table_elements: Option<usize>,
    max_tables: Option<usize>,
    max_memories: Option<usize>,
    max_instances: Option<usize>,
    max_stack: Option<ByteSize>,
    max_module_size: Option<ByteSize>,
    syscall_whitelist: Option<PathBuf>,
    max_host_calls: Option<u64>,
    max_host_calls_per_second: Option<u64>,
}

impl Section {
    /// What it says, over its level.
    fn over(self) -> Result<SecureSandboxConfig, SandboxError> {
        let own = self
            .level
            .map_or_else(SecureSandboxConfig::default, SecureSandboxConfig::level);
        let refill = self.refill()?;
        let bytes =
            |size: Option<ByteSize>, own: usize| size.map_or(own, |size| usize::try_from(size.0).unwrap_or(usize::MAX));
        let time = match (self.max_execution_time, self.max_execution_time_ms) {
            (Some(_), Some(_)) => {
                let found = "beside max_execution_time";
                return Err(SandboxError::config("max_execution_time_ms", found, "say it once"));
            }
            (Some(time), None) => time.0,
            (None, ms) => ms.unwrap_or(own.max_execution_time_ms),
        };
        Ok(SecureSandboxConfig {
            max_memory: bytes(self.max_memory, own.max_memory),
            max_execution_time_ms: time,
            max_fuel: self.max_fuel.unwrap_or(own.max_fuel),
            enable_fuel: self.enable_fuel.unwrap_or(own.enable_fuel),
            refill,
            enable_epochs: self.enable_epochs.unwrap_or(own.enable_epochs),
            allowed_directories: self.allowed_directories.unwrap_or_default(),
            writable_directories: self.writable_directories.unwrap_or_default(),
            allow_network: self.allow_network.unwrap_or(own.allow_network),
            max_open_files: self.max_open_files.unwrap_or(own.max_open_files),
            max_table_elements: self.max_table_elements.unwrap_or(own.max_table_elements),
            max_tables: self.max_tables.unwrap_or(own.max_tables),
            max_memories: self.max_memories.unwrap_or(own.max_memories),
            max_instances: self.max_instances.unwrap_or(own.max_instances),
            max_stack: bytes(self.max_stack, own.max_stack),
            max_module_size: bytes(self.max_module_size, own.max_module_size),
            syscall_whitelist: self.syscall_whitelist,
            max_host_calls: self.max_host_calls.unwrap_or(own.max_host_calls),
            max_host_calls_per_second: self.max_host_calls_per_second.unwrap_or(own.max_host_calls_per_second),
        })
    }

    fn refill(&self) -> Result<Option<FuelConfig>, SandboxError> {
        match (self.fuel_refill_interval, self.fuel_refill_amount) {
            (None, None) if self.max_fuel_accumulation.is_none() => Ok(None),
            (Some(interval), Some(amount)) => {
                let most = self.max_fuel_accumulation.unwrap_or(0);
                Ok(Some(
                    FuelConfig::new(1)
                        .with_refill(interval.0, amount)
                        .with_max_accumulation(most.max(1)),
                ))
            }
            _ => Err(SandboxError::config(
                "fuel_refill_interval",
                "one without the other",
                "a refill has fuel_refill_interval and fuel_refill_amount; max_fuel_accumulation is its ceiling",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut SecureSandboxConfig)) -> &'static str {
        let mut config = SecureSandboxConfig::default();
        change(&mut config);
        match config.validate() {
            Err(SandboxError::Config { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_field() {
        assert_eq!(refused(|c| c.max_memory = 0), "max_memory");
        assert_eq!(refused(|c| c.max_memory = MOST_MEMORY + 1), "max_memory");
        assert_eq!(refused(|c| c.max_execution_time_ms = 0), "max_execution_time_ms");
        assert_eq!(refused(|c| c.max_stack = 1), "max_stack");
        assert_eq!(refused(|c| c.max_instances = 0), "max_instances");
        assert_eq!(refused(|c| c.max_fuel = 0), "initial_fuel");
        let refill = FuelConfig::new(1).with_refill(10, 1);
        assert_eq!(
            refused(|c| (c.refill, c.enable_epochs) = (Some(refill), false)),
            "refill"
        );
        let most = SecureSandboxConfig {
            max_memory: MOST_MEMORY,
            ..SecureSandboxConfig::default()
        };
        assert_eq!(most.validate(), Ok(()));
        for level in [Level::Strict, Level::Permissive] {
            assert_eq!(SecureSandboxConfig::level(level).validate(), Ok(()));
        }
    }

    #[test]
    fn a_section_says_what_differs_from_its_level() {
        let text =
            "title = 'x'\n[wasm]\nlevel = 'strict'\nmax_execution_time = '2s'\nallowed_directories = ['/data']\n";
        let config: SecureSandboxConfig = text.parse().unwrap();
        assert_eq!(
            config,
            SecureSandboxConfig {
                max_execution_time_ms: 2000,
                allowed_directories: vec!["/data".into()],
                ..SecureSandboxConfig::level(Level::Strict)
            }
        );
        let field = "[wasm]\nmax_memory = '128MB'\nmax_execution_time = '5s'\nmax_fuel = 5_000_000_000\n\
                     enable_fuel = true\nallow_network = false\nmax_open_files = 3\n";
        let config = SecureSandboxConfig::from_toml(field).unwrap();
        assert_eq!(
            (config.max_memory, config.max_fuel, config.max_open_files),
            (128_000_000, 5_000_000_000, 3)
        );
        let refill = "[wasm]\nmax_fuel = 100\nfuel_refill_interval = '1s'\nfuel_refill_amount = 7\n";
        let config = SecureSandboxConfig::from_toml(refill).unwrap();
        assert_eq!(config.fuel(), FuelConfig::new(100).with_refill(1000, 7));
    }

    #[test]
    fn a_section_that_is_wrong_says_where() {
        let wrong = |text: &str| SecureSandboxConfig::from_toml(text).unwrap_err().to_string();
        assert!(wrong("").contains("missing field `wasm`"));
        assert!(wrong("[wasm]\nmax_memroy = 1\n").contains("unknown field `max_memroy`"));
        assert!(wrong("[wasm]\nmax_memory = '1 potato'\n").contains("not a size"));
        assert!(wrong("[wasm]\nmax_memory = '8GiB'\n").starts_with("max_memory: 8589934592; a guest has 64 KiB"));
        assert!(wrong("[wasm]\nmax_execution_time = 5\n").contains("5 has no unit"));
        assert!(wrong("[wasm]\nmax_execution_time = '1s'\nmax_execution_time_ms = 1\n").contains("say it once"));
        assert!(wrong("[wasm]\nfuel_refill_amount = 1\n").starts_with("fuel_refill_interval: one without the other"));
    }
}
