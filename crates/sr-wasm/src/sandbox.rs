//! One guest at a time, behind its limits.

use crate::cause::Cause;
use crate::config::SecureSandboxConfig;
use crate::engine::{self, Purpose};
use crate::error::SandboxError;
use crate::fuel::FuelLimiter;
use crate::guest::{Code, Guest, Invocation};
use crate::monitor::{ResourceMonitor, ResourceStats, ResourceViolation};
use crate::ticker::Ticker;
use crate::whitelist::SyscallWhitelist;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use wasmtime::Engine;

/// A WebAssembly sandbox: what it runs has what its configuration gives, and nothing else.
///
/// It runs one guest at a time, and its monitor is that guest's; [`SecureSandbox::another`] makes one for another guest, of
/// the same engine.
pub struct SecureSandbox {
    config: Arc<SecureSandboxConfig>,
    engine: Engine,
    ticker: Option<Arc<Ticker>>,
    monitor: Arc<ResourceMonitor>,
    whitelist: Arc<SyscallWhitelist>,
    /// Held while a guest runs.
    busy: Mutex<()>,
}

fn whitelist(path: &Path) -> Result<SyscallWhitelist, SandboxError> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        let found = format!("{}: {e}", path.display());
        SandboxError::config("syscall_whitelist", found, "name a file that can be read")
    })?;
    SyscallWhitelist::from_yaml(&text)
}

/// What became of a guest.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecutionResult {
    /// It ended by itself, with status 0.
    pub success: bool,
    pub cause: Cause,
    /// From its instantiation to its end.
    pub execution_time: Duration,
    /// Where fuel is metered.
    pub fuel_consumed: Option<u64>,
    pub resource_stats: ResourceStats,
    pub violations: Vec<ResourceViolation>,
    /// What it says of an end without success.
    pub error: Option<String>,
}

impl SecureSandbox {
    /// # Errors
    /// A configuration that cannot be meant, or that this machine has no room for.
    pub fn new(config: SecureSandboxConfig) -> Result<SecureSandbox, SandboxError> {
        config.validate()?;
        let engine = engine::engine(&config, Purpose::Pool)?;
        let whitelist = config.syscall_whitelist.as_deref().map(whitelist).transpose()?;
        Ok(SecureSandbox {
            whitelist: Arc::new(whitelist.unwrap_or_default()),
            ticker: config.enable_epochs.then(|| Arc::new(Ticker::of(&engine))),
            monitor: Arc::new(ResourceMonitor::new(config.limits())?),
            config: Arc::new(config),
            engine,
            busy: Mutex::new(()),
        })
    }

    /// # Errors
    /// This machine has no room for it.
    pub fn with_default_config() -> Result<SecureSandbox, SandboxError> {
        SecureSandbox::new(SecureSandboxConfig::default())
    }

    /// One more, for another guest at the same time: the engine and what it has compiled are shared, nothing else is.
    ///
    /// # Errors
    /// None: the configuration is valid.
    pub fn another(&self) -> Result<SecureSandbox, SandboxError> {
        Ok(SecureSandbox {
            config: Arc::clone(&self.config),
            engine: self.engine.clone(),
            ticker: self.ticker.clone(),
            whitelist: Arc::clone(&self.whitelist),
            monitor: Arc::new(ResourceMonitor::new(self.config.limits())?),
            busy: Mutex::new(()),
        })
    }

    pub fn config(&self) -> &SecureSandboxConfig {
        &self.config
    }

    /// What the guest that runs uses, or the last one used.
    pub fn monitor(&self) -> &Arc<ResourceMonitor> {
        &self.monitor
    }

    /// Whether a worker of this sandbox may make a system call, by its number on this machine. No guest makes any: this is
    /// about the process that runs it, and whatever filters that one's calls goes by the same list.
    ///
    /// # Errors
    /// It may not: why.
    pub fn validate_syscall(&self, number: i64) -> Result<(), SandboxError> {
        self.whitelist.check(number, None)
    }

    /// The same, of a call whose arguments are known.
    ///
    /// # Errors
    /// It may not: why.
    pub fn validate_syscall_with(&self, number: i64, arguments: &[u64; 6]) -> Result<(), SandboxError> {
        self.whitelist.check(number, Some(arguments))
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Compiles a module or a component, binary or text. It can be run any number of times, each time anew.
    ///
    /// # Errors
    /// It is none, it is too large, or it needs more than any guest has here.
    pub fn compile(&self, wasm: &[u8]) -> Result<Code, SandboxError> {
        Code::compile(&self.engine, &self.config, wasm)
    }

    /// Runs the function `entry_point` of a module, which takes nothing; `_start` of a command. Of a component it is a function
    /// that it exports, or `run` for `wasi:cli/run`. It has no arguments, no variables, an empty standard input, and its output
    /// goes nowhere.
    ///
    /// # Errors
    /// Nothing ran. What became of a guest that ran is in the result.
    pub async fn execute_module(&self, wasm_bytes: &[u8], entry_point: &str) -> Result<ExecutionResult, SandboxError> {
        let code = self.compile(wasm_bytes)?;
        self.execute(&code, Invocation::of(entry_point)).await
    }

    /// Runs what is compiled already, as `invocation` has it.
    ///
    /// # Errors
    /// Nothing ran. What became of a guest that ran is in the result.
    pub async fn execute(&self, code: &Code, invocation: Invocation) -> Result<ExecutionResult, SandboxError> {
        let _busy = self.busy.lock().await;
        self.monitor.reset();
        let fuel = match self.config.enable_fuel {
            true => Some(Arc::new(FuelLimiter::new(self.config.fuel())?)),
            false => None,
        };
        let entry = invocation.entry.clone();
        let code = code.clone().under(&self.engine, invocation.calls())?;
        let preopens = self.config.preopens()?;
        let mut guest = Guest::new(&self.engine, &self.config, &self.monitor, &preopens, invocation)?;
        if let Some(fuel) = &fuel {
            fuel.set_fuel_to_store(&mut guest.store)?;
        }
        let _ticks = self.ticker.as_ref().map(|ticker| ticker.run());
        if self.config.enable_epochs {
            guest.yield_at_epochs(fuel.clone());
        }
        let limit = Duration::from_millis(self.config.max_execution_time_ms);
        let start = Instant::now();
        let ran = tokio::time::timeout(limit, guest.run(&code, &entry)).await;
        let execution_time = start.elapsed();
        guest.store.data_mut().preview1.tell();
        let (cause, error) = match ran {
            Ok(ended) => ended?,
            Err(_) => (Cause::Deadline, None),
        };
        self.note(&cause, execution_time, limit);
        let fuel_consumed = match &fuel {
            Some(fuel) => Some(fuel.get_stats(&guest.store)?.consumed_fuel),
            None => None,
        };
        if cause == Cause::Fuel {
            let consumed = fuel_consumed.unwrap_or_default();
            self.monitor
                .record_violation(ResourceViolation::FuelExhausted { consumed });
        }
        Ok(ExecutionResult {
            success: cause.is_success(),
            execution_time,
            fuel_consumed,
            resource_stats: self.monitor.get_stats(),
            violations: self.monitor.get_violations(),
            error: error.or_else(|| (!cause.is_success()).then(|| cause.to_string())),
            cause,
        })
    }

    /// The limits that nothing else has noted yet.
    fn note(&self, cause: &Cause, elapsed: Duration, limit: Duration) {
        match cause {
            Cause::Deadline => self
                .monitor
                .record_violation(ResourceViolation::ExecutionTimeout { elapsed, limit }),
            Cause::Stack => self.monitor.record_violation(ResourceViolation::StackLimitExceeded {
                limit: self.config.max_stack,
            }),
            _ => {}
        }
    }
}
