//! One guest: what is compiled, what it is given, and its run.

use crate::cause::Cause;
use crate::config::SecureSandboxConfig;
use crate::error::SandboxError;
use crate::host_calls::HostCalls;
use crate::limiter::Limiter;
use crate::monitor::ResourceMonitor;
use crate::preview1::Preview1;
use std::path::Path;
use std::sync::Arc;
use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Engine, ExternType, Linker, Module, Store};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

const PREVIEW1: &str = "wasi_snapshot_preview1";

/// A module or a component, compiled and joined with what its host gives it.
#[derive(Clone)]
pub struct Code {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Module(wasmtime::InstancePre<State>),
    Component(wasmtime::component::InstancePre<State>),
}

/// What the guest's store holds.
pub(crate) struct State {
    pub(crate) preview1: Preview1,
    pub(crate) limiter: Limiter,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.preview1.ctx()
    }
}

impl Code {
    pub(crate) fn compile(engine: &Engine, config: &SecureSandboxConfig, wasm: &[u8]) -> Result<Code, SandboxError> {
        if wasm.len() > config.max_module_size {
            let found = format!(
                "{} bytes, and max_module_size is {}",
                wasm.len(),
                config.max_module_size
            );
            return Err(SandboxError::Module { found });
        }
        let binary = wat::parse_bytes(wasm).map_err(SandboxError::module)?;
        let kind = match is_component(&binary) {
            true => Kind::Component(component(engine, &binary)?),
            false => Kind::Module(module(engine, &binary)?),
        };
        Ok(Code { kind })
    }
}

/// By the layer that its preamble names (component model, Binary.md: `component ::= <magic> <version> <layer>`).
fn is_component(binary: &[u8]) -> bool {
    binary.get(6..8) == Some(&[1, 0])
}

fn module(engine: &Engine, binary: &[u8]) -> Result<wasmtime::InstancePre<State>, SandboxError> {
    let module = Module::from_binary(engine, binary).map_err(SandboxError::module)?;
    for import in module.imports() {
        if import.module() != PREVIEW1 {
            return Err(SandboxError::Import {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
                why: "a module has WASI preview 1 and nothing else",
            });
        }
    }
    let mut linker: Linker<State> = Linker::new(engine);
    wasmtime_wasi::p1::wasi_snapshot_preview1::add_to_linker(&mut linker, |state: &mut State| &mut state.preview1)
        .map_err(|e| SandboxError::engine("WASI preview 1", e))?;
    linker.instantiate_pre(&module).map_err(SandboxError::module)
}

fn component(engine: &Engine, binary: &[u8]) -> Result<wasmtime::component::InstancePre<State>, SandboxError> {
    let component = Component::from_binary(engine, binary).map_err(SandboxError::module)?;
    let mut linker: ComponentLinker<State> = ComponentLinker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(|e| SandboxError::engine("WASI preview 2", e))?;
    linker.instantiate_pre(&component).map_err(SandboxError::module)
}

/// What a guest is given for one run.
#[derive(Default)]
pub struct Invocation {
    pub(crate) entry: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    calls: HostCalls,
    stdin: Option<Box<dyn StdinStream + Sync>>,
    stdout: Option<Box<dyn StdoutStream + Sync>>,
    stderr: Option<Box<dyn StdoutStream + Sync>>,
}

impl Invocation {
    /// Of a function by its name.
    pub fn of(entry: &str) -> Invocation {
        Invocation {
            entry: entry.to_owned(),
            ..Invocation::default()
        }
    }

    /// The guest's arguments; the first is by custom its name.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Invocation {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Invocation {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What it may ask of its host. Without it, all that there is.
    pub fn host_calls(mut self, calls: HostCalls) -> Invocation {
        self.calls = calls;
        self
    }

    pub fn stdin(mut self, stream: impl StdinStream + Sync + 'static) -> Invocation {
        self.stdin = Some(Box::new(stream));
        self
    }

    pub fn stdout(mut self, stream: impl StdoutStream + Sync + 'static) -> Invocation {
        self.stdout = Some(Box::new(stream));
        self
    }

    pub fn stderr(mut self, stream: impl StdoutStream + Sync + 'static) -> Invocation {
        self.stderr = Some(Box::new(stream));
        self
    }
}

pub(crate) struct Guest {
    pub(crate) store: Store<State>,
}

impl Guest {
    pub(crate) fn new(
        engine: &Engine,
        config: &SecureSandboxConfig,
        monitor: &Arc<ResourceMonitor>,
        invocation: Invocation,
    ) -> Result<Guest, SandboxError> {
        invocation.calls.validate()?;
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&invocation.args)
            .envs(&invocation.env)
            .allow_tcp(config.allow_network)
            .allow_udp(config.allow_network)
            .allow_ip_name_lookup(config.allow_network);
        if config.allow_network {
            wasi.inherit_network();
        }
        let mut preopens = Vec::new();
        let read_only = config.allowed_directories.iter().map(|path| (path, FsPerms::ReadOnly));
        let writable = config
            .writable_directories
            .iter()
            .map(|path| (path, FsPerms::ReadWrite));
        for (path, perms) in read_only.chain(writable) {
            preopens.push(preopen(&mut wasi, path, perms)?);
        }
        if let Some(stream) = invocation.stdin {
            wasi.stdin(stream);
        }
        if let Some(stream) = invocation.stdout {
            wasi.stdout(stream);
        }
        if let Some(stream) = invocation.stderr {
            wasi.stderr(stream);
        }
        let preview1 = Preview1::new(wasi.build_p1(), &invocation.calls, &preopens, Arc::clone(monitor));
        let limiter = Limiter::new(config, Arc::clone(monitor));
        let mut store = Store::new(engine, State { preview1, limiter });
        store.limiter(|state| &mut state.limiter);
        Ok(Guest { store })
    }

    /// Runs it to its end: why it ended, and what wasmtime says of that.
    pub(crate) async fn run(&mut self, code: &Code, entry: &str) -> Result<(Cause, Option<String>), SandboxError> {
        let called = match &code.kind {
            Kind::Module(pre) => self.module(pre, entry).await?,
            Kind::Component(pre) => self.component(pre, entry).await?,
        };
        let met = self.store.data().limiter.met;
        Ok(match called {
            Ok(code) => (Cause::Exit { code }, None),
            Err(e) => {
                let cause = Cause::of(&e, met);
                let error = (!cause.is_success()).then(|| format!("{e:#}"));
                (cause, error)
            }
        })
    }

    async fn module(&mut self, pre: &wasmtime::InstancePre<State>, entry: &str) -> Called {
        let found = pre.module().get_export(entry);
        if !found.is_some_and(|found| matches!(found, ExternType::Func(f) if f.params().len() == 0)) {
            let exports: Vec<&str> = pre.module().exports().map(|export| export.name()).collect();
            return Err(SandboxError::Entry {
                name: entry.to_owned(),
                exports: exports.join(", "),
            });
        }
        let instance = match pre.instantiate_async(&mut self.store).await {
            Ok(instance) => instance,
            Err(e) => return Ok(Err(e)),
        };
        let Some(function) = instance.get_func(&mut self.store, entry) else {
            return Ok(Err(wasmtime::Error::msg("the function is gone")));
        };
        let mut results = vec![wasmtime::Val::I32(0); function.ty(&self.store).results().len()];
        let called = function.call_async(&mut self.store, &[], &mut results).await;
        Ok(called.map(|()| 0))
    }

    async fn component(&mut self, pre: &wasmtime::component::InstancePre<State>, entry: &str) -> Called {
        if let Ok(command) = CommandPre::new(pre.clone()) {
            let command = match command.instantiate_async(&mut self.store).await {
                Ok(command) => command,
                Err(e) => return Ok(Err(e)),
            };
            let called = command.wasi_cli_run().call_run(&mut self.store).await;
            return Ok(called.map(|ended| i32::from(ended.is_err())));
        }
        let instance = match pre.instantiate_async(&mut self.store).await {
            Ok(instance) => instance,
            Err(e) => return Ok(Err(e)),
        };
        let Some(function) = instance.get_func(&mut self.store, entry) else {
            return Err(SandboxError::Entry {
                name: entry.to_owned(),
                exports: "see wasm-tools component wit".into(),
            });
        };
        let mut results = vec![wasmtime::component::Val::Bool(false); function.ty(&self.store).results().len()];
        let called = function.call_async(&mut self.store, &[], &mut results).await;
        Ok(called.map(|()| 0))
    }
}

/// `Err`: nothing ran. Within it what the call came to: a status, or wasmtime's error.
type Called = Result<Result<i32, wasmtime::Error>, SandboxError>;

/// Shows a directory at its own path: its name.
fn preopen(wasi: &mut WasiCtxBuilder, path: &Path, perms: FsPerms) -> Result<String, SandboxError> {
    let bad = |found: String| SandboxError::Directory {
        path: path.display().to_string(),
        found,
    };
    let Some(name) = path.to_str().filter(|_| path.is_absolute()) else {
        return Err(bad("a guest's directory is named by an absolute path in UTF-8".into()));
    };
    wasi.preopened_dir(path, name, perms)
        .map_err(|e| bad(format!("it cannot be shown: {:#}", e)))?;
    Ok(name.to_owned())
}
