//! WebAssembly modules and components that nobody should trust, under limits that hold in this process: memory, time, fuel,
//! stack, files, host calls. [`SecureSandbox`] is where to begin.

mod cause;
mod config;
mod engine;
mod error;
mod fuel;
mod guest;
mod host_calls;
mod limiter;
mod monitor;
mod preview1;
mod sandbox;
mod ticker;
mod whitelist;

pub use cause::Cause;
pub use config::{LEAST_MEMORY, Level, MOST_MEMORY, SecureSandboxConfig};
pub use error::SandboxError;
pub use fuel::{FuelAnalyzer, FuelAnomaly, FuelConfig, FuelLimiter, FuelStats, FuelTrend, Interval};
pub use guest::{Code, Invocation};
pub use host_calls::{Clock, HostCalls, Rule};
pub use monitor::{
    FileAccessStats, MonitoringReport, NetworkAccessStats, ResourceLimits, ResourceMonitor, ResourceStats,
    ResourceUtilization, ResourceViolation,
};
pub use sandbox::{ExecutionResult, SecureSandbox};
pub use whitelist::SyscallWhitelist;
