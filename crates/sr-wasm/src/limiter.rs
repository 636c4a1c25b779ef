//! What wasmtime asks before a guest's memory or table grows.

use crate::monitor::{ResourceMonitor, ResourceViolation};
use std::sync::Arc;
use wasmtime::ResourceLimiter;

/// Bytes of an element of a table.
const ELEMENT: usize = size_of::<usize>();

/// Which limit was met last. Growing fails where it is, as the specification has it; a guest that then ends in a trap has
/// ended by that limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    Memory,
    Table,
}

#[derive(Debug)]
pub(crate) struct Limiter {
    monitor: Arc<ResourceMonitor>,
    max_elements: usize,
    instances: usize,
    tables: usize,
    memories: usize,
    elements: usize,
    /// What was taken last, to be given back if the growing fails later: bytes of memories, elements of tables.
    last: (usize, usize),
    pub(crate) met: Option<Met>,
}

impl Limiter {
    pub(crate) fn new(config: &crate::SecureSandboxConfig, monitor: Arc<ResourceMonitor>) -> Limiter {
        Limiter {
            monitor,
            max_elements: config.max_table_elements,
            instances: config.max_instances,
            tables: config.max_tables,
            memories: config.max_memories,
            elements: 0,
            last: (0, 0),
            met: None,
        }
    }
}

/// What a guest's store keeps it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory: usize,
    pub(crate) table_elements: usize,
    pub(crate) open_files: usize,
}

impl Limiter {
    pub(crate) fn limits(&self) -> Limits {
        let limits = self.monitor.get_limits();
        Limits {
            memory: limits.max_memory_bytes,
            table_elements: self.max_elements,
            open_files: limits.max_open_files,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        if self.monitor.take(more, more).is_err() {
            self.met = Some(Met::Memory);
            return Ok(false);
        }
        // The module's own, which is no limit of ours; where it is the pool's, ours was met before.
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.monitor.release_memory(more);
            return Ok(false);
        }
        self.last.0 = more;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.monitor.release_memory(std::mem::take(&mut self.last.0));
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let used = self.elements.saturating_add(more);
        if used > self.max_elements {
            let limit = self.max_elements;
            self.monitor
                .record_violation(ResourceViolation::TableLimitExceeded { used, limit });
            self.met = Some(Met::Table);
            return Ok(false);
        }
        if self.monitor.take(more.saturating_mul(ELEMENT), 0).is_err() {
            self.met = Some(Met::Memory);
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.monitor.release(more.saturating_mul(ELEMENT), 0);
            return Ok(false);
        }
        self.elements = used;
        self.last.1 = more;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let elements = std::mem::take(&mut self.last.1);
        self.elements = self.elements.saturating_sub(elements);
        self.monitor.release(elements.saturating_mul(ELEMENT), 0);
        Ok(())
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}
