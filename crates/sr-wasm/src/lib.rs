//! WebAssembly modules and components that nobody should trust, under limits that hold in this process: memory, time, fuel,
//! stack, files, host calls. [`SecureSandbox`] is where to begin.
//!
//! ```
//! use sr_wasm::{Cause, SecureSandbox, SecureSandboxConfig};
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let config = SecureSandboxConfig::from_toml(
//!     r#"
//!     [wasm]
//!     level = "strict"
//!     max_memory = "16MiB"
//!     max_fuel = 1000000
//!     "#,
//! )?;
//! let sandbox = SecureSandbox::new(config)?;
//! let endless = br#"(module (func (export "_start") (loop $again (br $again))))"#;
//! let result = sandbox.execute_module(endless, "_start").await?;
//! assert_eq!(result.cause, Cause::Fuel);
//! assert!(sandbox.monitor().has_violations());
//! println!("{}", sandbox.monitor().generate_report());
//! # Ok::<(), sr_wasm::SandboxError>(())
//! # })?;
//! # Ok::<(), sr_wasm::SandboxError>(())
//! ```
//!
//! A budget that grows with time, and a monitor by itself:
//!
//! ```
//! use sr_wasm::{FuelConfig, FuelLimiter, ResourceLimits, ResourceMonitor};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), sr_wasm::SandboxError> {
//! let budget = FuelConfig::new(1_000_000).with_refill(Duration::from_millis(100), 50_000);
//! let limiter = FuelLimiter::new(budget)?;
//! assert_eq!(limiter.initial_fuel(), 1_000_000);
//!
//! let monitor = ResourceMonitor::new(ResourceLimits::new().with_memory_limit(1 << 20))?;
//! assert!(monitor.check_memory(64 << 10).is_ok());
//! assert!(monitor.check_memory(2 << 20).is_err());
//! assert_eq!(monitor.get_violations().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! What the process that runs guests may call, by the whitelist's file:
//!
//! ```
//! let sandbox = sr_wasm::SecureSandbox::with_default_config()?;
//! # #[cfg(target_arch = "x86_64")]
//! assert!(sandbox.validate_syscall(0).is_ok(), "read(2)");
//! # #[cfg(target_arch = "x86_64")]
//! assert!(sandbox.validate_syscall(59).is_err(), "execve(2)");
//! # Ok::<(), sr_wasm::SandboxError>(())
//! ```

mod cause;
mod config;
mod engine;
mod error;
mod fuel;
mod guest;
mod host_calls;
mod limiter;
mod monitor;
mod precompiled;
mod preview1;
mod preview2;
mod sandbox;
mod ticker;
mod whitelist;
pub mod worker;

pub use cause::Cause;
pub use config::{LEAST_MEMORY, Level, MOST_MEMORY, SecureSandboxConfig};
pub use error::SandboxError;
pub use fuel::{FuelAnalyzer, FuelAnomaly, FuelConfig, FuelLimiter, FuelStats, FuelTrend, Interval};
pub use guest::{Code, Invocation};
pub use monitor::{
    Denial, FileAccessStats, MonitoringReport, NetworkAccessStats, ResourceLimits, ResourceMonitor, ResourceStats,
    ResourceUtilization, ResourceViolation,
};
pub use sandbox::{ExecutionResult, SecureSandbox};
pub use sr_common::host_calls::{Clock, HostCalls, Rule};
pub use whitelist::SyscallWhitelist;
