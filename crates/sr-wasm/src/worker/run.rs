//! One module or component, compiled before, once: held until the supervisor says go, and then run to its end.

use super::ending::Ending;
use super::posture::posture;
use super::streams::{Input, Output};
use super::supervisor::Supervisor;
use super::{ENGINE, FAILED, Failure};
use crate::config::SecureSandboxConfig;
use crate::engine::{self, Purpose};
use crate::guest::{COMMAND, Code, Guest, Invocation};
use crate::monitor::ResourceMonitor;
use crate::ticker::Ticker;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sr_common::Usage;
use sr_common::module::{ModuleKind, ModulePlan};
use sr_common::monitor::{Order, Said};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// It returns where nothing of the module ran.
pub(super) fn run() -> u8 {
    let supervisor = match Supervisor::inherited() {
        Ok(supervisor) => supervisor,
        // There is nobody else to tell.
        Err(e) => {
            eprintln!("safe-run-wasm: {e}: it is started by safe-run, and by nothing else");
            return FAILED;
        }
    };
    let supervisor = Arc::new(supervisor);
    let Err(failure) = hold(&supervisor).and_then(|held| held.go(&supervisor));
    supervisor.fail(&failure);
    FAILED
}

/// A guest whose next step is its first.
struct Held {
    guest: Guest,
    code: Code,
    monitor: Arc<ResourceMonitor>,
    ticker: Option<Ticker>,
    runtime: Runtime,
}

/// Makes ready what the supervisor orders, and waits until it may run.
fn hold(supervisor: &Arc<Supervisor>) -> Result<Held, Failure> {
    let Order::Module { plan } = supervisor.wait()? else {
        return Err(Failure::own("the supervisor's order", "no module is named yet"));
    };
    let mut held = prepare(&plan, supervisor)?;
    let posture = held.runtime.block_on(posture(&mut held.guest, &plan))?;
    supervisor.tell(&Said::Booted {
        kernel: ENGINE.to_owned(),
    })?;
    supervisor.tell(&Said::Held { posture })?;
    match supervisor.wait()? {
        Order::Go => Ok(held),
        _ => Err(Failure::own("the supervisor's order", "a module is held already")),
    }
}

fn prepare(plan: &ModulePlan, supervisor: &Arc<Supervisor>) -> Result<Held, Failure> {
    let config = SecureSandboxConfig::of_plan(plan)?;
    let engine = engine::engine(&config, Purpose::Once)?;
    let code = Code::precompiled(&engine, plan.kind, Path::new(&plan.code))?.under(&engine, &plan.host_calls)?;
    code.command()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::own("the event loop", e))?;
    let teller = Arc::clone(supervisor);
    // At once, since a module may never end by itself. A supervisor that is gone ends this process.
    let monitor = ResourceMonitor::new(config.limits())?.telling(move |denial| drop(teller.denied(denial)));
    let monitor = Arc::new(monitor);
    let mut invocation = Invocation::of(COMMAND)
        .alone()
        .args(&plan.argv)
        .host_calls(plan.host_calls.clone())
        .stdin(Input)
        .stdout(Output::Out)
        .stderr(Output::Err);
    for (name, value) in &plan.env {
        invocation = invocation.env(name, value);
    }
    let mut guest = Guest::new(&engine, &config, &monitor, &plan.preopens, invocation)?;
    if let Some(fuel) = plan.limits.fuel {
        guest.store.set_fuel(fuel).map_err(|e| Failure::own("fuel", e))?;
    }
    let ticker = config.enable_epochs.then(|| Ticker::of(&engine));
    if config.enable_epochs {
        guest.yield_at_epochs(None);
    }
    if plan.kind == ModuleKind::Component {
        bound_descriptors(plan)?;
    }
    Ok(Held {
        guest,
        code,
        monitor,
        ticker,
        runtime,
    })
}

/// A component's files are counted by the kernel, with this process's own.
fn bound_descriptors(plan: &ModulePlan) -> Result<(), Failure> {
    let bad = |e| Failure::own("RLIMIT_NOFILE", e);
    let most = first_free().map_err(bad)?.saturating_add(plan.limits.open_files);
    let before = getrlimit(Resource::Nofile).maximum;
    let most = before.map_or(most, |before| before.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Nofile, limit).map_err(bad)
}

/// The number that the next descriptor gets: how many there are.
pub(super) fn first_free() -> rustix::io::Result<u64> {
    let next = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 0)?;
    Ok(u64::try_from(next.as_raw_fd()).unwrap_or_default())
}

/// There is no other end of a module that ran than this process's.
enum Never {}

impl Held {
    fn go(mut self, supervisor: &Supervisor) -> Result<Never, Failure> {
        let ticks = self.ticker.as_ref().map(Ticker::run);
        let ran = self.runtime.block_on(self.guest.run(&self.code, COMMAND));
        drop(ticks);
        let (cause, error) = ran?;
        let ending = Ending::of(&cause, error.as_deref());
        // The first of each was told as it happened.
        for mut denial in self.monitor.denials() {
            denial.count -= 1;
            if denial.count > 0 {
                supervisor.denied(denial)?;
            }
        }
        let usage = Usage {
            memory_bytes: u64::try_from(self.monitor.get_stats().memory_peak).ok(),
            ..Usage::default()
        };
        supervisor.tell(&Said::Sample { usage })?;
        if let Some((by, detail)) = ending.trapped {
            supervisor.tell(&Said::Trapped { by, detail })?;
        }
        // There is no agent: what this process took, its sandbox counts.
        supervisor.tell(&Said::Ended { agent_bytes: 0 })?;
        // Nothing is taken down that the kernel does not take down faster.
        std::process::exit(ending.status.into())
    }
}
