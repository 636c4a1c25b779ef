//! One guest: what is compiled, what it is given, and its run.

use crate::cause::Cause;
use crate::config::SecureSandboxConfig;
use crate::error::SandboxError;
use crate::fuel::FuelLimiter;
use crate::host_calls;
use crate::limiter::{Limiter, Limits};
use crate::monitor::ResourceMonitor;
use crate::precompiled;
use crate::preview1::Preview1;
use crate::preview2;
use sr_common::host_calls::HostCalls;
use sr_common::module::{ModuleKind, Preopen};
use std::path::Path;
use std::sync::Arc;
use wasmtime::component::{Component, Linker as ComponentLinker, Resource};
use wasmtime::{Engine, ExternType, Linker, Module, Store, UpdateDeadline};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::filesystem::WasiFilesystemView;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiCtxView, WasiView};

const PREVIEW1: &str = "wasi_snapshot_preview1";
/// What a command exports.
pub(crate) const COMMAND: &str = "_start";

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
        Code::of_binary(engine, &binary)
    }

    /// No text.
    pub(crate) fn of_binary(engine: &Engine, binary: &[u8]) -> Result<Code, SandboxError> {
        let kind = match ModuleKind::of(binary) {
            Some(ModuleKind::Component) => {
                let component = Component::from_binary(engine, binary).map_err(SandboxError::module)?;
                Kind::Component(link_component(engine, &component, &HostCalls::default())?)
            }
            // The engine says what is wrong with what is neither.
            Some(ModuleKind::Core) | None => {
                let module = Module::from_binary(engine, binary).map_err(SandboxError::module)?;
                Kind::Module(link_module(engine, &module)?)
            }
        };
        Ok(Code { kind })
    }

    /// What [`Code::serialize`] gave, with the same settings: nothing else may be in that file, whoever wrote it.
    pub(crate) fn precompiled(engine: &Engine, kind: ModuleKind, file: &Path) -> Result<Code, SandboxError> {
        let kind = match kind {
            ModuleKind::Core => Kind::Module(link_module(engine, &precompiled::module(engine, file)?)?),
            ModuleKind::Component => Kind::Component(link_component(
                engine,
                &precompiled::component(engine, file)?,
                &HostCalls::default(),
            )?),
        };
        Ok(Code { kind })
    }

    pub(crate) fn serialize(&self) -> Result<Vec<u8>, SandboxError> {
        let bytes = match &self.kind {
            Kind::Module(pre) => pre.module().serialize(),
            Kind::Component(pre) => pre.component().serialize(),
        };
        bytes.map_err(|e| SandboxError::engine("the compiled code", e))
    }

    /// With the rules for calls of preview 2 in it. Those of preview 1 are the guest's.
    pub(crate) fn under(self, engine: &Engine, calls: &HostCalls) -> Result<Code, SandboxError> {
        match self.kind {
            Kind::Component(pre) if calls.rules.keys().any(|name| name.starts_with("wasi:")) => Ok(Code {
                kind: Kind::Component(link_component(engine, pre.component(), calls)?),
            }),
            kind => Ok(Code { kind }),
        }
    }

    /// Whether it is a command: a module with a function `_start` that takes nothing, or a component with `wasi:cli/run`.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn command(&self) -> Result<(), SandboxError> {
        match &self.kind {
            Kind::Module(pre) => entry(pre.module(), COMMAND),
            Kind::Component(pre) => match CommandPre::new(pre.clone()) {
                Ok(_) => Ok(()),
                Err(e) => Err(SandboxError::module(e)),
            },
        }
    }
}

/// Whether a module has a function of that name that takes nothing.
fn entry(module: &Module, name: &str) -> Result<(), SandboxError> {
    let found = module.get_export(name);
    match found.is_some_and(|found| matches!(found, ExternType::Func(f) if f.params().len() == 0)) {
        true => Ok(()),
        false => {
            let exports: Vec<&str> = module.exports().map(|export| export.name()).collect();
            Err(SandboxError::Entry {
                name: name.to_owned(),
                exports: exports.join(", "),
            })
        }
    }
}

fn link_module(engine: &Engine, module: &Module) -> Result<wasmtime::InstancePre<State>, SandboxError> {
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
    linker.instantiate_pre(module).map_err(SandboxError::module)
}

fn link_component(
    engine: &Engine,
    component: &Component,
    calls: &HostCalls,
) -> Result<wasmtime::component::InstancePre<State>, SandboxError> {
    let mut linker: ComponentLinker<State> = ComponentLinker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(|e| SandboxError::engine("WASI preview 2", e))?;
    preview2::restrict(engine, &mut linker, component, calls)?;
    linker.instantiate_pre(component).map_err(SandboxError::module)
}

/// What a guest is given for one run.
#[derive(Default)]
pub struct Invocation {
    pub(crate) entry: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    calls: HostCalls,
    /// Nothing else runs in this thread: what waits may hold it up.
    alone: bool,
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

    pub(crate) fn calls(&self) -> &HostCalls {
        &self.calls
    }

    pub(crate) fn alone(mut self) -> Invocation {
        self.alone = true;
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
        preopens: &[Preopen],
        invocation: Invocation,
    ) -> Result<Guest, SandboxError> {
        let checked = invocation.calls.validate();
        checked.map_err(|(found, remedy)| SandboxError::config("hostCalls", found, remedy))?;
        let mut wasi = WasiCtxBuilder::new();
        // Before directories are shown, which take it over.
        wasi.allow_blocking_current_thread(invocation.alone)
            .args(&invocation.args)
            .envs(&invocation.env)
            .allow_tcp(config.allow_network)
            .allow_udp(config.allow_network)
            .allow_ip_name_lookup(config.allow_network);
        if config.allow_network {
            wasi.inherit_network();
        }
        for preopen in preopens {
            show(&mut wasi, preopen)?;
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
        let places = host_calls::places(preopens);
        let preview1 = Preview1::new(wasi.build_p1(), &invocation.calls, places, Arc::clone(monitor));
        let limiter = Limiter::new(config, Arc::clone(monitor));
        let mut store = Store::new(engine, State { preview1, limiter });
        store.limiter(|state| &mut state.limiter);
        Ok(Guest { store })
    }

    /// The directories that it has, and whether it may write there: as WASI tells them a guest.
    pub(crate) async fn directories(&mut self) -> wasmtime::Result<Vec<(String, bool)>> {
        let mut view = self.store.data_mut().filesystem();
        let mut all = Vec::new();
        for (directory, name) in preopens::Host::get_directories(&mut view)? {
            let flags = types::HostDescriptor::get_flags(&mut view, Resource::new_borrow(directory.rep())).await?;
            all.push((name, flags.contains(types::DescriptorFlags::MUTATE_DIRECTORY)));
            types::HostDescriptor::drop(&mut view, directory)?;
        }
        Ok(all)
    }

    /// What its store keeps it to.
    pub(crate) fn limits(&self) -> Limits {
        self.store.data().limiter.limits()
    }

    /// How many of these rules are in force for calls of preview 1.
    pub(crate) fn rules_held(&self, calls: &HostCalls) -> usize {
        self.store.data().preview1.rules_held(calls)
    }

    /// Lets others run whenever the engine's clock ticks, and gives it the fuel that became due.
    pub(crate) fn yield_at_epochs(&mut self, fuel: Option<Arc<FuelLimiter>>) {
        self.store.set_epoch_deadline(1);
        // The time itself is kept outside: a guest that is at its end is not asked any more.
        self.store.epoch_deadline_callback(move |store| {
            if let Some(fuel) = &fuel {
                fuel.check_and_refill(store)?;
            }
            Ok(UpdateDeadline::Yield(1))
        });
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
        self::entry(pre.module(), entry)?;
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

fn show(wasi: &mut WasiCtxBuilder, preopen: &Preopen) -> Result<(), SandboxError> {
    let perms = match preopen.writable {
        true => FsPerms::ReadWrite,
        false => FsPerms::ReadOnly,
    };
    wasi.preopened_dir(&preopen.path, &preopen.name, perms)
        .map(drop)
        .map_err(|e| SandboxError::Directory {
            path: preopen.path.clone(),
            found: format!("it cannot be shown: {e:#}"),
        })
}
