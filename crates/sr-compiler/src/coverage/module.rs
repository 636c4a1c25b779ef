//! What the wall of WebAssembly makes of each clause: an engine in a process of its own, and the native wall around that.

use super::clause::{Clause, WasmField};
use super::native::by;
use super::table::Row;
use crate::compile::Input;
use sr_common::facts::{ProgramFacts, WallFacts};
use sr_common::module::{Metering, ModuleKind};
use sr_common::{Answer, Backend, Code, Control, Declaration, Fault, Holder, Lack, Strength};
use sr_policy::spec::{BackendChoice, DeniedScope, ObserveScope, OnDenied, RootWritable, RootfsSource};

/// What brings the worker.
const BUILD: &str = "build it with `cargo xtask wasm`, beside safe-run, or name it in SAFE_RUN_WASM";

/// Why the program does not go with the wall that is asked for, or with what the policy says of modules.
pub(super) fn other_kind(asked: BackendChoice, input: Input<'_>) -> Option<Fault> {
    let command = &input.subject.command;
    let engine = asked == BackendChoice::This(Backend::Wasm);
    let open = matches!(asked, BackendChoice::Auto | BackendChoice::Strongest);
    let (path, what, remedy) = match &command.module {
        None if engine => (
            "runtime.command",
            "no WebAssembly",
            "name a module or a component, or write another backend",
        ),
        // Else a file of the project's would decide whether its limits hold.
        None if input.policy.wasm.is_some() => (
            "wasm",
            "no WebAssembly, and the policy has limits for such",
            "name a module or a component, or remove this section",
        ),
        Some(_) if !engine && !open => (
            "runtime.command",
            "WebAssembly, which no kernel executes",
            "write backend: wasm, or leave the backend out",
        ),
        _ => return None,
    };
    let found = format!("{} is {what}", command.written);
    Some(Fault::new(Code::Cmp001, path, found, remedy))
}

pub(super) fn missing(walls: &WallFacts) -> Vec<Lack> {
    match &walls.wasm {
        ProgramFacts::Found { .. } => Vec::new(),
        ProgramFacts::Missing { why } => vec![Lack {
            path: "launch.preflight.wasm".to_owned(),
            found: why.clone(),
            remedy: BUILD.to_owned(),
        }],
    }
}

/// What it has whatever the policy says.
pub(super) fn promises(native: &[Declaration], input: Input<'_>) -> Vec<Declaration> {
    let version = match input.facts.walls.as_ref().map(|walls| &walls.wasm) {
        Some(ProgramFacts::Found {
            version: Some(version), ..
        }) => format!(" {version}"),
        _ => String::new(),
    };
    let engine = Declaration {
        clause: super::PROMISES.to_owned(),
        requested: "memory and calls of its own".to_owned(),
        control: Control::HostCalls,
        holds: vec![by(
            Holder::Engine,
            format!("safe-run-wasm{version}: no address of its process, no call but WASI's"),
            None,
        )],
        answer: Answer::Held,
        reason: None,
        remedy: None,
    };
    let kept = native.iter().map(|native| match native.control {
        Control::PostureAtExec => Declaration {
            reason: Some("the worker's; of the module its engine tells before it starts it".to_owned()),
            ..native.clone()
        },
        _ => native.clone(),
    });
    std::iter::once(engine).chain(kept).collect()
}

/// What becomes of `native`'s clause.
pub(super) fn declare(clause: Clause, native: &Declaration, input: Input<'_>) -> Declaration {
    let policy = input.policy;
    let row = Row::engine(native);
    let own = |mechanism: &str| row.of(Holder::Engine, mechanism);
    match clause {
        Clause::Command => row.of(
            Holder::Supervisor,
            "hashed before the launch; run as the code that the worker made of it behind a wall of its own",
        ),
        Clause::Args => own("args_get of WASI"),
        Clause::Env => own("environ_get of WASI; nothing is inherited"),
        Clause::Workdir => own("the directory `.`"),
        Clause::Rootfs => match (policy.rootfs.source, policy.rootfs.writable) {
            (RootfsSource::Host, RootWritable::ReadOnly) => own("a module has no root: what is mounted, and /tmp"),
            _ => row.refused(
                "a module has no root directory",
                "leave `rootfs` out, and mount what it needs",
            ),
        },
        Clause::Mount(at) => match input.subject.mounts.get(at) {
            Some(mount) if mount.directory => row.besides("a directory of its own, by WASI"),
            _ => row.refused(
                "a module has directories, and this is a file",
                "mount the directory that holds it",
            ),
        },
        Clause::User
        | Clause::Installation
        | Clause::Hide
        | Clause::Session
        | Clause::Disk
        | Clause::WallTime
        | Clause::Output
        | Clause::Sign
        | Clause::SampleInterval
        | Clause::Hash
        | Clause::Durability
        | Clause::Vmm
        | Clause::Kernel
        | Clause::GuestRoot
        | Clause::Accel
        | Clause::BootTimeout => native.clone(),
        Clause::FilesRead | Clause::FilesWrite => row.refused(
            "its worker opens what a module opens, and its own files besides",
            "leave `files` out and mount less, or rule path_open in wasm.hostCalls",
        ),
        Clause::Cpu if policy.resources.cpu.is_none() => native.clone(),
        Clause::Cpu => row.around(),
        Clause::Memory if policy.resources.memory.is_none() => native.clone(),
        Clause::Memory => {
            let mut declared = row.memory(policy, "there is room for the engine's own memory besides");
            let limiter = by(Holder::Engine, "asked before a memory or a table grows", None);
            declared.holds.insert(0, limiter);
            declared
        }
        Clause::Pids => own("a module makes no process and no thread"),
        Clause::OpenFiles => own(open_files(input)),
        Clause::Profile | Clause::Allow | Clause::Arguments | Clause::Deny => {
            let mut declared = own("a module makes no system call");
            declared
                .holds
                .push(by(Holder::Host, "a filter of its worker's own", Some(Strength::Kernel)));
            declared
        }
        Clause::OnDenied => match policy.syscalls.on_denied {
            OnDenied::Ask => row.refused(
                "a module makes no system call that anybody could be asked about",
                "write onDenied: errno or kill, or backend: process",
            ),
            _ => own("a module makes no system call"),
        },
        Clause::Network => row.besides("no socket"),
        Clause::Mac => row.without_profile(
            policy,
            "a profile holds programs of the host's kernel, and a module is none",
        ),
        Clause::Denied => match policy.evidence.denied {
            DeniedScope::Available | DeniedScope::Network => own("told of host calls that rules deny"),
            DeniedScope::Calls | DeniedScope::Paths => row.refused(
                "a module makes no system calls",
                "write evidence: {denied: available}: host calls that are denied are told of",
            ),
        },
        Clause::Observe => match policy.evidence.observe {
            ObserveScope::None => native.clone(),
            ObserveScope::Calls => row.refused("a module makes no system calls", "leave evidence.observe out"),
        },
        Clause::Wasm(field) => match field {
            WasmField::Metering => own(match policy.wasm.as_ref().map(|wasm| wasm.metering) {
                Some(Metering::Epochs) => "a clock is looked at in every loop and call",
                Some(Metering::Fuel) => "instructions are counted",
                Some(Metering::Deadline) | None => "nothing is counted: the time is kept outside",
            }),
            WasmField::Fuel => own("a trap when it is used up"),
            WasmField::Memory | WasmField::TableElements => own("asked before a memory or a table grows"),
            WasmField::OpenFiles => own(open_files(input)),
            WasmField::Stack => own("looked at in every call"),
            WasmField::HostCalls => host_calls(&row, input),
            WasmField::Time => row.of(
                Holder::Supervisor,
                "timer, with resources.wallTime: the shorter of both",
            ),
            WasmField::CompileTime => row.of(Holder::Supervisor, "timer of the run that compiles it"),
        },
    }
}

/// Rules name what a module calls, or what a component does: the others would hold nothing.
fn host_calls(row: &Row<'_>, input: Input<'_>) -> Declaration {
    let component = is_component(input);
    let rules = input.policy.wasm.iter().flat_map(|wasm| wasm.host_calls.rules.keys());
    let mut others = rules.filter(|name| name.starts_with("wasi:") != component);
    match (others.next(), component) {
        (None, _) => row.of(Holder::Engine, "looked at in every call of WASI"),
        (Some(name), true) => row.refused(
            &format!("{name} is a function of preview 1, and a component has the interfaces of preview 2"),
            "name an interface, such as wasi:random/random",
        ),
        (Some(name), false) => row.refused(
            &format!("{name} is preview 2, and a module has the functions of preview 1"),
            "name a function, such as random_get",
        ),
    }
}

fn is_component(input: Input<'_>) -> bool {
    let module = input.subject.command.module.as_ref();
    module.is_some_and(|module| module.kind == ModuleKind::Component)
}

fn open_files(input: Input<'_>) -> &'static str {
    match is_component(input) {
        true => "RLIMIT_NOFILE that the worker sets itself",
        false => "counted as they are opened",
    }
}
