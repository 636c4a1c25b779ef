//! What a guest uses, against what it may: counted as it happens, and reported. A limit that is met is a
//! [`ResourceViolation`], kept in the order in which they came.

use crate::error::SandboxError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Violations, paths and endpoints that are kept; more are counted.
const KEPT: usize = 1000;
/// Denials that are told apart, by function and reason.
const DENIALS: usize = 64;
/// The reason of the others.
const OTHERS: &str = "others";
/// The most characters of a reason, which can have a guest's words in it.
const REASON: usize = 200;
/// Over what a rate is taken.
const WINDOW: Duration = Duration::from_secs(1);

/// The most of each that a guest may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceLimits {
    /// Bytes of linear memories, tables and collected heaps together.
    pub max_memory_bytes: usize,
    /// Bytes of linear memories alone.
    pub max_heap_bytes: usize,
    /// Bytes of the stack that compiled code has.
    pub max_stack_bytes: usize,
    pub max_execution_time_ms: u64,
    /// Files and directories that the guest opened; what it is given at the start is not counted.
    pub max_open_files: usize,
    /// 0: none at all.
    pub max_network_connections: usize,
    pub max_syscalls_per_second: u64,
    pub max_total_syscalls: u64,
}

impl Default for ResourceLimits {
    /// 512 MiB, 8 MiB of stack, 30 s, 10 files, no network; 10⁹ host calls, 10⁸ a second.
    fn default() -> ResourceLimits {
        ResourceLimits {
            max_memory_bytes: 512 << 20,
            max_heap_bytes: 512 << 20,
            max_stack_bytes: 8 << 20,
            max_execution_time_ms: 30_000,
            max_open_files: 10,
            max_network_connections: 0,
            max_syscalls_per_second: 100_000_000,
            max_total_syscalls: 1_000_000_000,
        }
    }
}

impl ResourceLimits {
    pub fn new() -> ResourceLimits {
        ResourceLimits::default()
    }

    /// Bytes, of linear memories as of everything.
    pub fn with_memory_limit(self, bytes: usize) -> ResourceLimits {
        ResourceLimits {
            max_memory_bytes: bytes,
            max_heap_bytes: bytes,
            ..self
        }
    }

    pub fn with_time_limit(self, ms: u64) -> ResourceLimits {
        ResourceLimits {
            max_execution_time_ms: ms,
            ..self
        }
    }

    /// # Errors
    /// No memory, no time, or a part that is larger than the whole.
    pub fn validate(&self) -> Result<(), SandboxError> {
        if self.max_memory_bytes == 0 {
            let remedy = "a guest needs a page of 64 KiB at least";
            return Err(SandboxError::config("max_memory_bytes", "0", remedy));
        }
        if self.max_execution_time_ms == 0 {
            let remedy = "give the guest a millisecond at least";
            return Err(SandboxError::config("max_execution_time_ms", "0", remedy));
        }
        if self.max_heap_bytes > self.max_memory_bytes {
            let found = format!("{} of {} bytes in all", self.max_heap_bytes, self.max_memory_bytes);
            return Err(SandboxError::config(
                "max_heap_bytes",
                found,
                "it is a part of max_memory_bytes",
            ));
        }
        Ok(())
    }
}

/// What is used now, or was at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceStats {
    /// Since the monitor was made, or since its guest began.
    pub elapsed: Duration,
    /// Bytes of linear memories, tables and collected heaps together.
    pub memory_used: usize,
    /// The most of them at any time.
    pub memory_peak: usize,
    /// Bytes of linear memories alone.
    pub heap_used: usize,
    /// The deepest stack that was seen, bytes; it is looked at whenever the guest calls its host.
    pub stack_used: usize,
    pub open_files: usize,
    /// In all.
    pub files_opened: u64,
    pub network_connections: usize,
    /// Calls from the guest to its host.
    pub syscalls_called: u64,
    /// The same, by name.
    pub host_calls: BTreeMap<String, u64>,
    /// Calls a second, over the last full second.
    pub syscall_rate: f64,
    pub file_access: FileAccessStats,
    pub network_access: NetworkAccessStats,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileAccessStats {
    /// The first thousand that were opened.
    pub opened_files: Vec<PathBuf>,
    /// The first thousand that were refused, and why.
    pub denied_files: Vec<(PathBuf, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAccessStats {
    pub connection_attempts: u64,
    pub successful_connections: u64,
    /// The first thousand.
    pub connected_endpoints: Vec<String>,
}

/// A limit that a guest met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ResourceViolation {
    /// Bytes.
    MemoryLimitExceeded {
        used: usize,
        limit: usize,
    },
    /// Bytes.
    HeapLimitExceeded {
        used: usize,
        limit: usize,
    },
    /// Bytes.
    StackLimitExceeded {
        limit: usize,
    },
    /// Elements.
    TableLimitExceeded {
        used: usize,
        limit: usize,
    },
    /// Instances, memories or tables: which.
    TooManyInstances {
        what: String,
        limit: usize,
    },
    FuelExhausted {
        consumed: u64,
    },
    ExecutionTimeout {
        elapsed: Duration,
        limit: Duration,
    },
    TooManyOpenFiles {
        count: usize,
        limit: usize,
    },
    TooManyConnections {
        count: usize,
        limit: usize,
    },
    TooManySyscalls {
        count: u64,
        limit: u64,
    },
    /// Calls a second.
    SyscallRateExceeded {
        rate: f64,
        limit: u64,
    },
    /// A host call that the rules deny.
    HostCallDenied {
        function: String,
        reason: String,
    },
    FileAccessDenied {
        path: PathBuf,
        reason: String,
    },
    NetworkAccessDenied {
        endpoint: String,
        reason: String,
    },
}

// The numbers in it are never NaN.
impl Eq for ResourceViolation {}
impl std::error::Error for ResourceViolation {}

impl fmt::Display for ResourceViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ResourceViolation as V;
        match self {
            V::MemoryLimitExceeded { used, limit } => write!(f, "memory: {used} bytes, and {limit} are the limit"),
            V::HeapLimitExceeded { used, limit } => write!(f, "linear memory: {used} bytes, and {limit} are the limit"),
            V::StackLimitExceeded { limit } => write!(f, "stack: more than its limit of {limit} bytes"),
            V::TableLimitExceeded { used, limit } => write!(f, "tables: {used} elements, and {limit} are the limit"),
            V::TooManyInstances { what, limit } => write!(f, "{what}: more than {limit}"),
            V::FuelExhausted { consumed } => write!(f, "fuel: all of it is used up, {consumed} units"),
            V::ExecutionTimeout { elapsed, limit } => write!(f, "time: {elapsed:.1?}, and {limit:.1?} is the limit"),
            V::TooManyOpenFiles { count, limit } => write!(f, "open files: {count}, and {limit} are the limit"),
            V::TooManyConnections { count, limit } => write!(f, "connections: {count}, and {limit} are the limit"),
            V::TooManySyscalls { count, limit } => write!(f, "host calls: {count}, and {limit} are the limit"),
            V::SyscallRateExceeded { rate, limit } => {
                write!(f, "host calls: {rate:.0} a second, and {limit} are the limit")
            }
            V::HostCallDenied { function, reason } => write!(f, "host call {function}: {reason}"),
            V::FileAccessDenied { path, reason } => write!(f, "file {}: {reason}", path.display()),
            V::NetworkAccessDenied { endpoint, reason } => write!(f, "connection to {endpoint}: {reason}"),
        }
    }
}

/// Counts what one guest uses. What runs the guest tells it; whoever watches asks it, from any thread.
pub struct ResourceMonitor {
    limits: ResourceLimits,
    account: Mutex<Account>,
    told: Option<Told>,
}

/// Who is told of a denial when it is the first of its kind.
type Told = Box<dyn Fn(Denial) + Send + Sync>;

impl fmt::Debug for ResourceMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceMonitor")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Account {
    start: Instant,
    stats: ResourceStats,
    violations: Vec<ResourceViolation>,
    /// All of them, also those that are not kept.
    count: usize,
    /// By function and reason.
    denials: BTreeMap<(String, String), u64>,
    /// The window that fills now, and how many calls it has.
    window: (Instant, u64),
}

impl Account {
    fn now() -> Account {
        let start = Instant::now();
        Account {
            start,
            stats: ResourceStats::default(),
            violations: Vec::new(),
            count: 0,
            denials: BTreeMap::new(),
            window: (start, 0),
        }
    }

    fn violated(&mut self, violation: ResourceViolation) -> SandboxError {
        self.count += 1;
        if self.violations.len() < KEPT {
            self.violations.push(violation.clone());
        }
        violation.into()
    }
}

impl Account {
    /// What was not denied before.
    fn denied(&mut self, function: &str, reason: &str) -> Option<Denial> {
        let reason: String = reason.chars().take(REASON).collect();
        let key = (function.to_owned(), reason);
        let full = self.denials.len() >= DENIALS;
        match self.denials.get_mut(&key) {
            Some(count) => {
                *count += 1;
                None
            }
            // Functions are the host's own: there are only so many.
            None if full => {
                let key = (key.0, OTHERS.to_owned());
                let count = self.denials.entry(key.clone()).or_default();
                *count += 1;
                (*count == 1).then(|| Denial::first(key))
            }
            None => {
                self.denials.insert(key.clone(), 1);
                Some(Denial::first(key))
            }
        }
    }
}

/// Host calls that the rules denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub function: String,
    pub reason: String,
    pub count: u64,
}

impl Denial {
    fn first((function, reason): (String, String)) -> Denial {
        Denial {
            function,
            reason,
            count: 1,
        }
    }
}

impl ResourceMonitor {
    /// # Errors
    /// As [`ResourceLimits::validate`].
    pub fn new(limits: ResourceLimits) -> Result<ResourceMonitor, SandboxError> {
        limits.validate()?;
        Ok(ResourceMonitor {
            limits,
            account: Mutex::new(Account::now()),
            told: None,
        })
    }

    /// `told` hears of each denial that is the first of its kind, as it happens.
    pub(crate) fn telling(self, told: impl Fn(Denial) + Send + Sync + 'static) -> ResourceMonitor {
        ResourceMonitor {
            told: Some(Box::new(told)),
            ..self
        }
    }

    /// # Errors
    /// None: they are valid.
    pub fn with_default_limits() -> Result<ResourceMonitor, SandboxError> {
        ResourceMonitor::new(ResourceLimits::default())
    }

    pub fn get_limits(&self) -> &ResourceLimits {
        &self.limits
    }

    /// What a thread that panicked left is as good as ever: numbers.
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many bytes more for linear memories.
    ///
    /// # Errors
    /// The limit is met: nothing is taken, and the violation is kept.
    pub fn check_memory(&self, additional_bytes: usize) -> Result<(), SandboxError> {
        self.take(additional_bytes, additional_bytes)
    }

    /// Takes bytes more: of everything, and of these for linear memories.
    pub(crate) fn take(&self, bytes: usize, heap: usize) -> Result<(), SandboxError> {
        let mut account = self.account();
        let used = account.stats.memory_used.saturating_add(bytes);
        if used > self.limits.max_memory_bytes {
            let limit = self.limits.max_memory_bytes;
            return Err(account.violated(ResourceViolation::MemoryLimitExceeded { used, limit }));
        }
        let heap = account.stats.heap_used.saturating_add(heap);
        if heap > self.limits.max_heap_bytes {
            let limit = self.limits.max_heap_bytes;
            return Err(account.violated(ResourceViolation::HeapLimitExceeded { used: heap, limit }));
        }
        account.stats.memory_used = used;
        account.stats.heap_used = heap;
        account.stats.memory_peak = account.stats.memory_peak.max(used);
        Ok(())
    }

    /// Gives back bytes of linear memories.
    pub fn release_memory(&self, bytes: usize) {
        self.release(bytes, bytes);
    }

    pub(crate) fn release(&self, bytes: usize, heap: usize) {
        let stats = &mut self.account().stats;
        stats.memory_used = stats.memory_used.saturating_sub(bytes);
        stats.heap_used = stats.heap_used.saturating_sub(heap);
    }

    /// Notes how deep the stack is now, in bytes.
    ///
    /// # Errors
    /// It is deeper than its limit.
    pub fn check_stack(&self, bytes: usize) -> Result<(), SandboxError> {
        let mut account = self.account();
        account.stats.stack_used = account.stats.stack_used.max(bytes);
        let limit = self.limits.max_stack_bytes;
        match bytes > limit {
            true => Err(account.violated(ResourceViolation::StackLimitExceeded { limit })),
            false => Ok(()),
        }
    }

    /// # Errors
    /// The time is up.
    pub fn check_timeout(&self) -> Result<(), SandboxError> {
        let mut account = self.account();
        let elapsed = account.start.elapsed();
        let limit = Duration::from_millis(self.limits.max_execution_time_ms);
        match elapsed > limit {
            true => Err(account.violated(ResourceViolation::ExecutionTimeout { elapsed, limit })),
            false => Ok(()),
        }
    }

    /// # Errors
    /// As many are open as may be: this one is not counted.
    pub fn record_file_open(&self, path: PathBuf) -> Result<(), SandboxError> {
        let mut account = self.account();
        let limit = self.limits.max_open_files;
        let count = account.stats.open_files;
        if count >= limit {
            return Err(account.violated(ResourceViolation::TooManyOpenFiles { count, limit }));
        }
        account.stats.open_files += 1;
        account.stats.files_opened += 1;
        keep(&mut account.stats.file_access.opened_files, path);
        Ok(())
    }

    pub fn record_file_close(&self) {
        let stats = &mut self.account().stats;
        stats.open_files = stats.open_files.saturating_sub(1);
    }

    pub fn record_file_access_denied(&self, path: &Path, reason: &str) {
        let (path, reason) = (path.to_owned(), reason.to_owned());
        let mut account = self.account();
        keep(
            &mut account.stats.file_access.denied_files,
            (path.clone(), reason.clone()),
        );
        account.violated(ResourceViolation::FileAccessDenied { path, reason });
    }

    /// # Errors
    /// As many are there as may be: this one is not counted.
    pub fn record_network_connection(&self, endpoint: String) -> Result<(), SandboxError> {
        let mut account = self.account();
        account.stats.network_access.connection_attempts += 1;
        let limit = self.limits.max_network_connections;
        let count = account.stats.network_connections;
        if count >= limit {
            return Err(account.violated(ResourceViolation::TooManyConnections { count, limit }));
        }
        account.stats.network_connections += 1;
        account.stats.network_access.successful_connections += 1;
        keep(&mut account.stats.network_access.connected_endpoints, endpoint);
        Ok(())
    }

    pub fn record_network_disconnect(&self) {
        let stats = &mut self.account().stats;
        stats.network_connections = stats.network_connections.saturating_sub(1);
    }

    /// A host call, by the number of what it stands for.
    ///
    /// # Errors
    /// Too many, or too many in this second.
    pub fn record_syscall(&self, number: i64) -> Result<(), SandboxError> {
        self.record_host_call(&number.to_string())
    }

    /// A host call, by name.
    ///
    /// # Errors
    /// Too many, or too many in this second.
    pub fn record_host_call(&self, function: &str) -> Result<(), SandboxError> {
        self.record_host_call_at(function, Instant::now())
    }

    fn record_host_call_at(&self, function: &str, now: Instant) -> Result<(), SandboxError> {
        let mut account = self.account();
        let (count, limit) = (account.stats.syscalls_called, self.limits.max_total_syscalls);
        if count >= limit {
            return Err(account.violated(ResourceViolation::TooManySyscalls { count, limit }));
        }
        let (begun, calls) = account.window;
        let passed = now.saturating_duration_since(begun);
        if passed >= WINDOW {
            account.stats.syscall_rate = calls as f64 / passed.as_secs_f64();
            account.window = (now, 0);
        }
        let limit = self.limits.max_syscalls_per_second;
        if account.window.1 >= limit {
            let rate = account.window.1 as f64;
            return Err(account.violated(ResourceViolation::SyscallRateExceeded { rate, limit }));
        }
        account.window.1 += 1;
        account.stats.syscalls_called += 1;
        let calls = &mut account.stats.host_calls;
        // Names are the host's own, or numbers that a caller gives.
        let full = calls.len() >= KEPT;
        match calls.get_mut(function) {
            Some(count) => *count += 1,
            None if full => {}
            None => drop(calls.insert(function.to_owned(), 1)),
        }
        Ok(())
    }

    /// Counts calls that were let through by whoever keeps the limits.
    pub(crate) fn add_host_calls(&self, function: &str, calls: u64) {
        if calls == 0 {
            return;
        }
        let stats = &mut self.account().stats;
        stats.syscalls_called = stats.syscalls_called.saturating_add(calls);
        *stats.host_calls.entry(function.to_owned()).or_default() += calls;
    }

    /// Keeps a violation that something else has found.
    pub fn record_violation(&self, violation: ResourceViolation) {
        let mut first = None;
        let mut account = self.account();
        if let ResourceViolation::HostCallDenied { function, reason } = &violation {
            first = account.denied(function, reason);
        }
        account.violated(violation);
        drop(account);
        if let (Some(denial), Some(told)) = (first, &self.told) {
            told(denial);
        }
    }

    pub fn get_stats(&self) -> ResourceStats {
        let account = self.account();
        ResourceStats {
            elapsed: account.start.elapsed(),
            ..account.stats.clone()
        }
    }

    /// The same as [`ResourceMonitor::get_stats`].
    pub fn get_usage(&self) -> ResourceStats {
        self.get_stats()
    }

    pub fn has_violations(&self) -> bool {
        self.account().count > 0
    }

    /// The first thousand.
    pub fn get_violations(&self) -> Vec<ResourceViolation> {
        self.account().violations.clone()
    }

    /// All host calls that were denied, by function and reason: the first 64 of these, and the rest under the reason `others`.
    pub fn denials(&self) -> Vec<Denial> {
        let denial = |((function, reason), count): (&(String, String), &u64)| Denial {
            function: function.clone(),
            reason: reason.clone(),
            count: *count,
        };
        self.account().denials.iter().map(denial).collect()
    }

    /// Of each, how much of its limit is used.
    pub fn get_utilization(&self) -> ResourceUtilization {
        ResourceUtilization::of(&self.get_stats(), &self.limits)
    }

    pub fn generate_report(&self) -> MonitoringReport {
        let account = self.account();
        let usage = ResourceStats {
            elapsed: account.start.elapsed(),
            ..account.stats.clone()
        };
        MonitoringReport {
            execution_time: usage.elapsed,
            utilization: ResourceUtilization::of(&usage, &self.limits),
            resource_usage: usage,
            resource_limits: self.limits.clone(),
            violations: account.violations.clone(),
            total_violations: account.count,
        }
    }

    /// As new: nothing used, and time begins.
    pub fn reset(&self) {
        *self.account() = Account::now();
    }
}

fn keep<T>(list: &mut Vec<T>, item: T) {
    if list.len() < KEPT {
        list.push(item);
    }
}

/// Parts of limits, 0 to 1; of a limit that is nothing, 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceUtilization {
    pub memory_utilization: f64,
    pub time_utilization: f64,
    pub file_utilization: f64,
    pub network_utilization: f64,
    pub syscall_utilization: f64,
}

impl ResourceUtilization {
    fn of(stats: &ResourceStats, limits: &ResourceLimits) -> ResourceUtilization {
        let part = |used: f64, limit: f64| if limit > 0.0 { used / limit } else { 0.0 };
        ResourceUtilization {
            memory_utilization: part(stats.memory_used as f64, limits.max_memory_bytes as f64),
            time_utilization: part(
                stats.elapsed.as_secs_f64() * 1000.0,
                limits.max_execution_time_ms as f64,
            ),
            file_utilization: part(stats.open_files as f64, limits.max_open_files as f64),
            network_utilization: part(stats.network_connections as f64, limits.max_network_connections as f64),
            syscall_utilization: part(stats.syscalls_called as f64, limits.max_total_syscalls as f64),
        }
    }

    /// Whether any is above `threshold`.
    pub fn has_pressure(&self, threshold: f64) -> bool {
        let all = [
            self.memory_utilization,
            self.time_utilization,
            self.file_utilization,
            self.network_utilization,
            self.syscall_utilization,
        ];
        all.into_iter().any(|part| part > threshold)
    }
}

/// All of it at one moment. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MonitoringReport {
    pub execution_time: Duration,
    pub resource_usage: ResourceStats,
    pub resource_limits: ResourceLimits,
    pub utilization: ResourceUtilization,
    /// The first thousand.
    pub violations: Vec<ResourceViolation>,
    pub total_violations: usize,
}

impl MonitoringReport {
    pub fn is_success(&self) -> bool {
        self.total_violations == 0
    }
}

impl fmt::Display for MonitoringReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (usage, limits, part) = (&self.resource_usage, &self.resource_limits, &self.utilization);
        let percent = |part: f64| part * 100.0;
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        writeln!(
            f,
            "time         {:>10.3} of {} s ({:.1} %)",
            self.execution_time.as_secs_f64(),
            limits.max_execution_time_ms as f64 / 1000.0,
            percent(part.time_utilization)
        )?;
        writeln!(
            f,
            "memory       {:>10.1} of {:.1} MiB ({:.1} %), {:.1} at most",
            mib(usage.memory_used),
            mib(limits.max_memory_bytes),
            percent(part.memory_utilization),
            mib(usage.memory_peak)
        )?;
        writeln!(f, "open files   {:>10} of {}", usage.open_files, limits.max_open_files)?;
        writeln!(
            f,
            "connections  {:>10} of {}",
            usage.network_connections, limits.max_network_connections
        )?;
        writeln!(
            f,
            "host calls   {:>10} of {}",
            usage.syscalls_called, limits.max_total_syscalls
        )?;
        match self.total_violations {
            0 => writeln!(f, "no violations"),
            count => {
                writeln!(f, "violations   {count:>10}")?;
                self.violations
                    .iter()
                    .try_for_each(|violation| writeln!(f, "  {violation}"))?;
                match count - self.violations.len() {
                    0 => Ok(()),
                    more => writeln!(f, "  and {more} later ones, which are not kept"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn monitor(change: impl FnOnce(&mut ResourceLimits)) -> ResourceMonitor {
        let mut limits = ResourceLimits::default();
        change(&mut limits);
        limits.max_heap_bytes = limits.max_heap_bytes.min(limits.max_memory_bytes);
        ResourceMonitor::new(limits).unwrap()
    }

    #[test]
    fn limits_that_cannot_be_meant_are_refused() {
        let refused = |limits: ResourceLimits| ResourceMonitor::new(limits).is_err();
        assert!(refused(ResourceLimits::new().with_memory_limit(0)));
        assert!(refused(ResourceLimits::new().with_time_limit(0)));
        assert!(refused(ResourceLimits {
            max_memory_bytes: 1,
            ..ResourceLimits::default()
        }));
        assert!(!refused(ResourceLimits::new().with_memory_limit(1).with_time_limit(1)));
    }

    #[test]
    fn memory_is_taken_up_to_its_limit_and_given_back() {
        let monitor = monitor(|limits| limits.max_memory_bytes = 1000);
        monitor.check_memory(500).unwrap();
        let refused = monitor.check_memory(600).unwrap_err();
        let violation = ResourceViolation::MemoryLimitExceeded {
            used: 1100,
            limit: 1000,
        };
        assert_eq!(refused, SandboxError::Violation(violation.clone()));
        assert_eq!(refused.to_string(), "memory: 1100 bytes, and 1000 are the limit");
        assert_eq!(monitor.get_violations(), [violation]);
        monitor.check_memory(500).unwrap();
        assert!(monitor.check_memory(1).is_err());
        monitor.release_memory(300);
        let stats = monitor.get_stats();
        assert_eq!((stats.memory_used, stats.memory_peak), (700, 1000));
        assert!(monitor.check_memory(usize::MAX).is_err());
        assert!((monitor.get_utilization().memory_utilization - 0.7).abs() < 1e-9);
        assert!(monitor.get_utilization().has_pressure(0.6) && !monitor.get_utilization().has_pressure(0.8));
    }

    #[test]
    fn tables_count_for_all_but_not_for_the_heap() {
        let monitor = monitor(|limits| (limits.max_memory_bytes, limits.max_heap_bytes) = (1000, 400));
        monitor.take(600, 0).unwrap();
        monitor.take(400, 400).unwrap();
        monitor.reset();
        let refused = monitor.check_memory(401).unwrap_err();
        assert!(matches!(
            refused,
            SandboxError::Violation(ResourceViolation::HeapLimitExceeded { used: 401, limit: 400 })
        ));
    }

    #[test]
    fn files_and_connections_are_counted_while_they_are_open() {
        let monitor = monitor(|limits| (limits.max_open_files, limits.max_network_connections) = (2, 1));
        let open = || monitor.record_file_open("/x".into());
        assert!(open().is_ok() && open().is_ok() && open().is_err());
        monitor.record_file_close();
        assert!(open().is_ok());
        let connect = || monitor.record_network_connection("example.com:80".into());
        assert!(connect().is_ok() && connect().is_err());
        monitor.record_network_disconnect();
        assert!(connect().is_ok());
        let stats = monitor.get_stats();
        assert_eq!((stats.open_files, stats.files_opened), (2, 3));
        assert_eq!(stats.network_access.connection_attempts, 3);
        assert!(
            super::ResourceMonitor::with_default_limits()
                .unwrap()
                .record_network_connection("x".into())
                .is_err()
        );
    }

    #[test]
    fn host_calls_have_a_number_and_a_rate() {
        let total = monitor(|limits| limits.max_total_syscalls = 3);
        assert!((0..3).all(|_| total.record_host_call("fd_write").is_ok()));
        assert!(total.record_syscall(1).is_err());
        assert_eq!(
            total.get_stats().host_calls,
            BTreeMap::from([("fd_write".to_owned(), 3)])
        );

        let rate = monitor(|limits| limits.max_syscalls_per_second = 10);
        let start = rate.account().window.0;
        let call = |millis| rate.record_host_call_at("f", start + Duration::from_millis(millis));
        assert!((0..10).all(|n| call(n * 90).is_ok()));
        assert!(call(999).is_err());
        assert!(call(1000).is_ok());
        assert!((rate.get_stats().syscall_rate - 10.0).abs() < 1e-9);
    }

    #[test]
    fn time_that_is_up_is_a_violation() {
        let monitor = monitor(|limits| limits.max_execution_time_ms = 20);
        assert!(monitor.check_timeout().is_ok());
        monitor.account().start -= Duration::from_millis(21);
        assert!(monitor.check_timeout().is_err() && monitor.has_violations());
        monitor.reset();
        assert!(monitor.check_timeout().is_ok() && !monitor.has_violations());
    }

    #[test]
    fn what_a_hostile_guest_can_fill_is_bounded_and_counted() {
        let monitor = monitor(|_| {});
        for n in 0..KEPT + 5 {
            monitor.record_file_access_denied(Path::new("/etc/shadow"), "outside");
            monitor.record_syscall(n as i64).unwrap();
        }
        let report = monitor.generate_report();
        assert_eq!((report.violations.len(), report.total_violations), (KEPT, KEPT + 5));
        assert_eq!(report.resource_usage.host_calls.len(), KEPT);
        assert_eq!(report.resource_usage.file_access.denied_files.len(), KEPT);
        let text = report.to_string();
        assert!(
            text.contains("file /etc/shadow: outside") && text.ends_with("  and 5 later ones, which are not kept\n")
        );
        assert!(!report.is_success());
    }

    #[test]
    fn denials_are_counted_by_function_and_reason() {
        let monitor = monitor(|_| {});
        for n in 0..3000 {
            monitor.record_violation(ResourceViolation::HostCallDenied {
                function: "path_open".into(),
                reason: format!("{} {}", n % 100, "x".repeat(1000)),
            });
        }
        let denials = monitor.denials();
        assert_eq!(denials.len(), DENIALS + 1);
        assert_eq!(denials.iter().map(|denial| denial.count).sum::<u64>(), 3000);
        let others = denials.iter().find(|denial| denial.reason == OTHERS).unwrap();
        assert_eq!(others.count, 36 * 30);
        assert!(denials.iter().all(|denial| denial.reason.len() <= REASON));
    }

    #[test]
    fn a_report_is_read_by_people() {
        let monitor = monitor(|_| {});
        monitor.check_memory(1 << 20).unwrap();
        let report = monitor.generate_report();
        let text = report.to_string();
        assert!(report.is_success() && text.contains("1.0 of 512.0 MiB (0.2 %)") && text.ends_with("no violations\n"));
    }
}
