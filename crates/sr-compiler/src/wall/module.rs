//! A WebAssembly module: its worker, what that one's engine is told, and the native sandbox around it.

use super::{ROOT, Room, around, place};
use crate::bundle::{CompileBundle, FilesystemPlan, MonitorPlan, ViewEntry, ViewKind, WallPlan};
use crate::compile::Input;
use sr_common::facts::WallParts;
use sr_common::module::{CodeSettings, ModuleLimits, ModulePlan, Preopen};
use sr_common::{ByteSize, Fault, Millis, path};
use sr_policy::spec::Wasm;

/// Where the worker stands in its view.
pub(super) const WORKER: &str = "/wall/safe-run-wasm";
/// The compiled module among the images.
const CODE: &str = "code";

/// What the engine takes besides the module's memory: its own, and the code's.
const ENGINE: u64 = 96 << 20;
/// The worker's threads, and its init's.
const ENGINE_PIDS: u32 = 16;
/// What it has open besides what the module opens.
const ENGINE_FILES: u32 = 64;
/// From the worker's start until it holds the module: it loads what is compiled already.
const BOOT: Millis = Millis(30_000);
/// The most that the linear memories of a module have where nothing says otherwise: what 32 bits address.
const MOST_MEMORY: ByteSize = ByteSize(4 << 30);

pub(super) fn arguments() -> Vec<String> {
    ["safe-run-wasm", "run"].map(str::to_owned).to_vec()
}

pub(super) fn wall(
    input: Input<'_>,
    bundle: &CompileBundle,
    parts: &WallParts,
    faults: &mut Vec<Fault>,
) -> Option<WallPlan> {
    let module = input.subject.command.module.as_ref()?;
    let asked = input.policy.wasm.clone().unwrap_or_default();
    let limits = limits(input, &asked);
    let room = Room {
        memory: input.policy.resources.memory.map(|size| size.0.saturating_add(ENGINE)),
        pids: input.policy.resources.pids.map(|_| ENGINE_PIDS),
        files: Some(
            u32::try_from(limits.open_files)
                .unwrap_or(u32::MAX)
                .saturating_add(ENGINE_FILES),
        ),
    };
    let around = around(input, bundle, parts, room, Vec::new(), faults)?;
    Some(WallPlan {
        monitor: MonitorPlan::Wasm {
            argv: arguments(),
            kind: module.kind,
            code: place(CODE),
            settings: code_settings(&asked),
            preopens: preopens(&bundle.filesystem_plan, &bundle.process_plan.workdir),
            limits,
            own_time: asked.time.is_some_and(|time| time < input.policy.resources.wall_time),
            host_calls: asked.host_calls,
        },
        root: ROOT.to_owned(),
        images: parts.images.clone(),
        boot_timeout: BOOT,
        around: Box::new(around),
    })
}

/// What changes the code of a module under this policy.
pub fn code_settings(asked: &Wasm) -> CodeSettings {
    CodeSettings {
        metering: asked.metering,
        stack: asked.stack.0,
    }
}

fn limits(input: Input<'_>, asked: &Wasm) -> ModuleLimits {
    let resources = &input.policy.resources;
    let both = [asked.memory, resources.memory]
        .into_iter()
        .flatten()
        .map(|size| size.0);
    let files = u64::from(resources.open_files);
    ModuleLimits {
        memory: both.min().unwrap_or(MOST_MEMORY.0).min(MOST_MEMORY.0),
        table_elements: asked.table_elements,
        open_files: asked.open_files.map_or(files, |own| own.min(files)),
        fuel: asked.fuel,
    }
}

/// The working directory as `.`, and each directory that is mounted, at its own path.
fn preopens(view: &FilesystemPlan, workdir: &str) -> Vec<Preopen> {
    let below = |target: &str| path::join(ROOT, target.trim_start_matches('/'));
    let is_shown = |entry: &&ViewEntry| entry.what.is_directory() && !matches!(entry.what, ViewKind::Directory { .. });
    let mounted: Vec<Preopen> = view
        .entries
        .iter()
        .filter(is_shown)
        .map(|entry| Preopen {
            name: entry.target.clone(),
            path: below(&entry.target),
            writable: entry.what.is_writable(),
        })
        .collect();
    let covering = mounted.iter().filter(|own| path::within(workdir, &own.name));
    let writable = covering
        .max_by_key(|own| own.name.len())
        .is_some_and(|own| own.writable);
    let own = Preopen {
        name: ".".to_owned(),
        path: below(workdir),
        writable,
    };
    std::iter::once(own).chain(mounted).collect()
}

/// The worker's orders.
pub fn module_plan(bundle: &CompileBundle) -> Option<ModulePlan> {
    let MonitorPlan::Wasm {
        kind,
        code,
        settings,
        preopens,
        limits,
        host_calls,
        ..
    } = &bundle.wall_plan.as_ref()?.monitor
    else {
        return None;
    };
    Some(ModulePlan {
        kind: *kind,
        code: code.clone(),
        settings: *settings,
        argv: bundle.process_plan.argv.clone(),
        env: bundle.process_plan.env.clone(),
        preopens: preopens.clone(),
        limits: limits.clone(),
        host_calls: host_calls.clone(),
    })
}
