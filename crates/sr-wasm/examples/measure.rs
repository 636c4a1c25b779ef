//! What this sandbox costs beside the engine used bare, in turn in the same process: one JSON document, nanoseconds.
//! `cargo xtask bench wasm` runs it and judges.
#![allow(clippy::unwrap_used)] // Nobody is told better than by its place what went wrong in a measurement.

use sr_wasm::{Code, Invocation, SecureSandbox, SecureSandboxConfig};
use std::time::Instant;
use tokio::runtime::Runtime;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig, Store,
};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

const ROUNDS: usize = 400;
const LOOPS: u32 = 20_000_000;
const CALLS: u32 = 1_000_000;

fn empty() -> String {
    r#"(module (memory (export "memory") 1) (func (export "f")))"#.to_owned()
}

/// Sums, so that nothing of it can be left out.
fn computing() -> String {
    format!(
        r#"(module (memory (export "memory") 1) (func (export "f") (local $i i32) (local $s i32)
  (loop $l
    (local.set $s (i32.xor (i32.mul (local.get $s) (i32.const 31)) (local.get $i)))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const {LOOPS}))))
  (i32.store (i32.const 0) (local.get $s))))"#
    )
}

/// The host's cheapest call.
fn calling() -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "fd_tell" (func $call (param i32 i32) (result i32)))
  (memory (export "memory") 1) (func (export "f") (local $i i32)
  (loop $l
    (drop (call $call (i32.const 9) (i32.const 0)))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const {CALLS}))))))"#
    )
}

fn config() -> SecureSandboxConfig {
    SecureSandboxConfig {
        enable_fuel: false,
        enable_epochs: false,
        max_execution_time_ms: 600_000,
        ..SecureSandboxConfig::default()
    }
}

struct Ours {
    sandbox: SecureSandbox,
    code: Code,
}

impl Ours {
    fn new(config: SecureSandboxConfig, text: &str) -> Ours {
        let sandbox = SecureSandbox::new(config).unwrap();
        let code = sandbox.compile(text.as_bytes()).unwrap();
        Ours { sandbox, code }
    }

    fn run(&self, runtime: &Runtime) -> f64 {
        let start = Instant::now();
        let ended = runtime
            .block_on(self.sandbox.execute(&self.code, Invocation::of("f")))
            .unwrap();
        let took = start.elapsed();
        assert!(ended.success, "{ended:?}");
        took.as_nanos() as f64
    }
}

/// wasmtime with pooling, as its documentation has it: a store, an instance, a call.
struct Bare {
    engine: Engine,
    pre: InstancePre<WasiP1Ctx>,
}

impl Bare {
    fn new(text: &str) -> Bare {
        let mut config = Config::new();
        let pool = PoolingAllocationConfig::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, text).unwrap();
        let mut linker = Linker::new(&engine);
        p1::add_to_linker_async(&mut linker, |own: &mut WasiP1Ctx| own).unwrap();
        let pre = linker.instantiate_pre(&module).unwrap();
        Bare { engine, pre }
    }

    fn run(&self, runtime: &Runtime) -> f64 {
        let start = Instant::now();
        runtime.block_on(async {
            let mut store = Store::new(&self.engine, WasiCtxBuilder::new().build_p1());
            let instance = self.pre.instantiate_async(&mut store).await.unwrap();
            let call = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
            call.call_async(&mut store, ()).await.unwrap();
        });
        start.elapsed().as_nanos() as f64
    }
}

/// Each in turn.
fn measure(runtime: &Runtime, rounds: usize, ours: &Ours, bare: &Bare) -> serde_json::Value {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..rounds + 2 {
        let pair = (ours.run(runtime), bare.run(runtime));
        // The first rounds touch what the others find touched.
        if round >= 2 {
            own.push(pair.0);
            other.push(pair.1);
        }
    }
    serde_json::json!({"ours": own, "bare": other})
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut all = serde_json::Map::new();
    let mut put = |name: &str, value| drop(all.insert(name.to_owned(), value));
    put(
        "instantiate",
        measure(&runtime, ROUNDS, &Ours::new(config(), &empty()), &Bare::new(&empty())),
    );
    let bare = Bare::new(&computing());
    for (name, fuel, epochs) in [
        ("deadline", false, false),
        ("epochs", false, true),
        ("fuel", true, false),
    ] {
        let config = SecureSandboxConfig {
            enable_fuel: fuel,
            enable_epochs: epochs,
            ..config()
        };
        put(name, measure(&runtime, 10, &Ours::new(config, &computing()), &bare));
    }
    // What is compiled to the same instructions takes as many.
    let ours = SecureSandbox::new(config()).unwrap();
    let own = Module::new(ours.engine(), computing()).unwrap();
    put("sameCode", (own.text() == bare.pre.module().text()).into());
    put(
        "hostCall",
        measure(&runtime, 10, &Ours::new(config(), &calling()), &Bare::new(&calling())),
    );
    put("loops", LOOPS.into());
    put("calls", CALLS.into());
    println!("{}", serde_json::Value::Object(all));
}
