//! The engine, as a configuration wants it.

use crate::config::{MOST_MEMORY, SecureSandboxConfig};
use crate::error::SandboxError;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// What the stack of a call has beyond what the guest may use of it: the host functions that it calls run there.
const HOST_STACK: usize = 512 << 10;
/// Of a table, as in browsers (WebAssembly JavaScript Interface, implementation-defined limits).
const MOST_ELEMENTS: usize = 10_000_000;
/// Guests that one engine has at a time.
const GUESTS: u32 = 64;

/// What an engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Guests, one after the other and side by side.
    Pool,
    /// To compile, and run nothing.
    Compiler,
    /// One guest that is compiled already.
    Once,
}

pub(crate) fn engine(config: &SecureSandboxConfig, purpose: Purpose) -> Result<Engine, SandboxError> {
    Engine::new(&settings(config, purpose)).map_err(|e| SandboxError::engine("its configuration", e))
}

/// What a guest is compiled to does not depend on the purpose: one engine loads what another has compiled.
fn settings(config: &SecureSandboxConfig, purpose: Purpose) -> Config {
    let mut settings = Config::new();
    // Making one takes longer than all else that an engine of its own needs.
    settings.enable_compiler(purpose != Purpose::Once);
    settings
        .consume_fuel(config.enable_fuel)
        .epoch_interruption(config.enable_epochs)
        .max_wasm_stack(config.max_stack)
        .async_stack_size(config.max_stack.saturating_add(HOST_STACK))
        // The same answer on every machine.
        .relaxed_simd_deterministic(true)
        // What several threads share no limiter is asked about.
        .wasm_threads(false)
        .wasm_multi_memory(true)
        .wasm_memory64(true)
        .wasm_tail_call(true)
        .wasm_function_references(true)
        .wasm_gc(true)
        .wasm_exceptions(true)
        .wasm_component_model(true)
        // A guest's own words in an error are bounded, and nothing of the host's environment decides what is in it.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true)
        .allocation_strategy(match purpose {
            Purpose::Pool => InstanceAllocationStrategy::Pooling(pool(config)),
            Purpose::Compiler | Purpose::Once => InstanceAllocationStrategy::OnDemand,
        });
    settings
}

/// Places for instances, made once and used again: what a guest leaves in one is gone before the next has it.
fn pool(config: &SecureSandboxConfig) -> PoolingAllocationConfig {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    // A pool is addresses, not memory; but the kernel keeps tables of those too.
    let places = |count: usize| number(count).saturating_mul(4).min(GUESTS.max(number(count)));
    let mut pool = PoolingAllocationConfig::new();
    // As much as any module may ask for: how much this guest gets, its limiter says.
    pool.max_memory_size(MOST_MEMORY)
        .table_elements(MOST_ELEMENTS)
        .total_memories(places(config.max_memories))
        .total_tables(places(config.max_tables))
        .total_core_instances(places(config.max_instances))
        .total_component_instances(GUESTS)
        .total_gc_heaps(GUESTS)
        .total_stacks(GUESTS)
        .max_memories_per_module(number(config.max_memories))
        .max_tables_per_module(number(config.max_tables))
        .max_memories_per_component(number(config.max_memories))
        .max_tables_per_component(number(config.max_tables))
        .max_core_instances_per_component(number(config.max_instances))
        .max_core_instance_size(4 << 20)
        .max_component_instance_size(4 << 20);
    pool
}
