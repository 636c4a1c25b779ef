//! A kernel of the program's own: what the monitor that runs it is given, and the native sandbox around the monitor, which is
//! a bundle like that of any program.
//!
//! The program's view stands below `/guest` in the monitor's. What lies in memory (`/tmp`, `/dev`, `/proc`) is the guest's own.

mod guest;
mod module;

use crate::bundle::{
    CompileBundle, EvidencePlan, MonitorPlan, MountEvidence, ProcessPlan, ResourcesPlan, ViewKind, WallPlan,
};
use crate::compile::Input;
use crate::syscalls::{self, Arch, bpf};
use crate::{filesystem, gvisor, resources, vmm};
pub use guest::guest_plan;
pub(crate) use guest::is_guests;
pub use module::{code_settings, module_plan};
use sr_common::facts::{Command, SystemDir, WallParts};
use sr_common::guest::{AGENT_PORT, FILES_PORT};
use sr_common::{Backend, ByteSize, Code, Digest, Fault, Millis, Subject, Vmm, path};
use sr_policy::PolicySpec;
use sr_policy::spec::{Accel, DeniedScope, ObserveScope, OnDenied, RequiredStrength, SyscallProfile, Syscalls};
use std::collections::BTreeMap;

/// Where the program's view stands in the monitor's.
pub(crate) const ROOT: &str = "/guest";
/// Where the sockets of a guest begin that has a vsock.
const GUEST_SOCKET: &str = "/tmp/guest";
const DRIVER: &str = "/wall/safe-run";
/// Below `/wall`: monitors that are one file, and what they are told of their machine.
const FIRECRACKER: &str = "firecracker";
const CLOUD_HYPERVISOR: &str = "cloud-hypervisor";
/// Cloud Hypervisor asks this version for its own rules. Those around it hold either way.
const OWN_LANDLOCK: u32 = 3;
const CONFIG: &str = "machine.json";
/// By what the guest knows what is shared with it.
const TAG: &str = "root";
/// And the one disk that it may have.
const DISK: &str = "vda";

/// What the guest's kernel takes for itself of its memory.
const GUEST_KERNEL: u64 = 160 << 20;
/// What the monitor takes besides the guest's memory: translated code above all.
const MONITOR: u64 = 320 << 20;
/// Its threads, the driver's and their init's.
const MONITOR_PIDS: u32 = 64;
/// What `runsc`, its gofer and the Sentry take besides the program's memory, which is the Sentry's; and a part of that again
/// for what it notes of it.
const SENTRY: u64 = 96 << 20;
/// Their threads. Each process of the program's has two of the host's, and one more for each processor that it is busy on.
const SENTRY_PIDS: u32 = 96;
/// One for each file that the guest has open, and its own.
const MONITOR_FILES: u32 = 8192;

pub(crate) fn plan(input: Input<'_>, bundle: &CompileBundle, faults: &mut Vec<Fault>) -> Option<WallPlan> {
    let Some(parts) = &input.subject.wall else {
        let found = format!("nobody looked for what {} is made of", bundle.backend);
        let remedy = "this is a defect of Safe-Run: please report it";
        faults.push(Fault::new(Code::Cmp002, "runtime.backend", found, remedy));
        return None;
    };
    match bundle.backend {
        Backend::Process => None,
        Backend::Gvisor => sentry(input, bundle, parts, faults),
        Backend::Wasm => module::wall(input, bundle, parts, faults),
        Backend::Microvm(Vmm::Qemu) => qemu(input, bundle, parts, faults),
        Backend::Microvm(Vmm::Firecracker) => firecracker(input, bundle, parts, faults),
        Backend::Microvm(Vmm::CloudHypervisor) => cloud_hypervisor(input, bundle, parts, faults),
    }
}

/// What is done about a QEMU that is [`unseen`].
pub(crate) const SEEN: &str = "name a QEMU that is installed in them: it is shown its own files there";

/// Why the QEMU at `program` cannot be shown what it needs, where it cannot.
pub(crate) fn unseen(program: &str, system: &[SystemDir]) -> Option<String> {
    let seen = system.iter().any(|dir| path::within(program, &dir.path));
    (!seen).then(|| format!("{program} lies outside the system directories"))
}

fn qemu(input: Input<'_>, bundle: &CompileBundle, parts: &WallParts, faults: &mut Vec<Fault>) -> Option<WallPlan> {
    if let Some(found) = unseen(&parts.monitor, &input.facts.system) {
        faults.push(Fault::new(Code::Run002, "launch.preflight.qemu", found, SEEN));
        return None;
    }
    let memory = guest_memory(input);
    let machine = vmm::qemu::Machine {
        program: parts.monitor.clone(),
        memory: memory.div_ceil(1 << 20),
        cpus: guest_cpus(input),
        root: ROOT.to_owned(),
        tag: TAG.to_owned(),
        kernel: place("kernel"),
        initrd: place("initrd"),
        disks: disks(parts),
    };
    let accel = accel(input);
    let places = match accel {
        Accel::Kvm => vec![kvm()],
        Accel::Tcg => Vec::new(),
    };
    let around = around(input, bundle, parts, room(memory), places, faults)?;
    Some(WallPlan {
        monitor: MonitorPlan::Qemu {
            argv: machine.arguments_by(accel),
        },
        root: ROOT.to_owned(),
        images: parts.images.clone(),
        boot_timeout: boot_timeout(input),
        around: Box::new(around),
    })
}

fn firecracker(
    input: Input<'_>,
    bundle: &CompileBundle,
    parts: &WallParts,
    faults: &mut Vec<Fault>,
) -> Option<WallPlan> {
    let memory = guest_memory(input);
    let machine = vmm::firecracker::Machine {
        program: place(FIRECRACKER),
        config: place(CONFIG),
        memory: memory.div_ceil(1 << 20),
        cpus: guest_cpus(input),
        kernel: place("kernel"),
        initrd: place("initrd"),
        disks: disks(parts),
        socket: GUEST_SOCKET.to_owned(),
    };
    let monitor = MonitorPlan::Firecracker {
        argv: machine.arguments(),
        agent: vmm::guest_socket(GUEST_SOCKET, AGENT_PORT)?,
        files: vmm::guest_socket(GUEST_SOCKET, FILES_PORT)?,
    };
    let config = serde_json::to_string_pretty(&machine.configuration());
    configured(input, bundle, parts, (monitor, machine.program, config), faults)
}

fn cloud_hypervisor(
    input: Input<'_>,
    bundle: &CompileBundle,
    parts: &WallParts,
    faults: &mut Vec<Fault>,
) -> Option<WallPlan> {
    let machine = vmm::cloud_hypervisor::Machine {
        program: place(CLOUD_HYPERVISOR),
        memory: guest_memory(input).next_multiple_of(1 << 20),
        cpus: guest_cpus(input),
        kernel: place("kernel"),
        initrd: place("initrd"),
        disks: disks(parts),
        socket: GUEST_SOCKET.to_owned(),
        landlock: input.facts.landlock_abi >= OWN_LANDLOCK,
    };
    let monitor = MonitorPlan::CloudHypervisor {
        argv: machine.arguments(),
        config: place(CONFIG),
        agent: vmm::guest_socket(GUEST_SOCKET, AGENT_PORT)?,
        files: vmm::guest_socket(GUEST_SOCKET, FILES_PORT)?,
    };
    let config = serde_json::to_string_pretty(&machine.configuration());
    configured(input, bundle, parts, (monitor, machine.program, config), faults)
}

/// A monitor with KVM, its place, and the document that says what its machine is.
fn configured(
    input: Input<'_>,
    bundle: &CompileBundle,
    parts: &WallParts,
    (monitor, program, config): (MonitorPlan, String, Result<String, serde_json::Error>),
    faults: &mut Vec<Fault>,
) -> Option<WallPlan> {
    let program = read_only((program, parts.monitor.clone()));
    let content = rendered(config, faults)?;
    let places = vec![kvm(), program, (place(CONFIG), ViewKind::File { content })];
    let around = around(input, bundle, parts, room(guest_memory(input)), places, faults)?;
    Some(WallPlan {
        monitor,
        root: ROOT.to_owned(),
        images: parts.images.clone(),
        boot_timeout: boot_timeout(input),
        around: Box::new(around),
    })
}

/// What is shown to a monitor that has the processor's help.
fn kvm() -> (String, ViewKind) {
    ("/dev/kvm".to_owned(), ViewKind::Kvm)
}

/// What a monitor of a guest that has `memory` takes.
fn room(memory: u64) -> Room {
    Room {
        memory: Some(memory.saturating_add(MONITOR)),
        pids: Some(MONITOR_PIDS),
        files: None,
    }
}

/// How the guest's instructions are carried out: coverage has judged whether that may be.
fn accel(input: Input<'_>) -> Accel {
    let blocked = input
        .facts
        .walls
        .as_ref()
        .is_some_and(|walls| walls.kvm_blocked.is_some());
    match input.policy.microvm.clone().unwrap_or_default().accel {
        Accel::Kvm if blocked => Accel::Tcg,
        accel => accel,
    }
}

fn boot_timeout(input: Input<'_>) -> Millis {
    input.policy.microvm.clone().unwrap_or_default().boot_timeout
}

/// `runsc` in the monitor's place.
fn sentry(input: Input<'_>, bundle: &CompileBundle, parts: &WallParts, faults: &mut Vec<Fault>) -> Option<WallPlan> {
    let asked = &input.policy.resources;
    let each = input.facts.cpus.max(1).saturating_add(2);
    let room = Room {
        memory: asked.memory.map(|size| size.0.saturating_add(SENTRY + size.0 / 64)),
        pids: asked
            .pids
            .map(|pids| pids.saturating_mul(each).saturating_add(SENTRY_PIDS)),
        files: None,
    };
    let program = read_only((gvisor::PROGRAM.to_owned(), parts.monitor.clone()));
    let content = rendered(gvisor::text(&gvisor::config(bundle, ROOT)), faults)?;
    let config = (gvisor::CONFIG.to_owned(), ViewKind::File { content });
    let around = around(input, bundle, parts, room, vec![program, config], faults)?;
    Some(WallPlan {
        monitor: MonitorPlan::Gvisor {
            argv: gvisor::arguments(),
        },
        root: ROOT.to_owned(),
        images: parts.images.clone(),
        boot_timeout: boot_timeout(input),
        around: Box::new(around),
    })
}

/// What the monitor and its guest have together; `None`: as much as they want.
#[derive(Clone, Copy)]
struct Room {
    memory: Option<u64>,
    pids: Option<u32>,
    /// `None`: as many as a monitor needs.
    files: Option<u32>,
}

/// Bytes that the guest has.
fn guest_memory(input: Input<'_>) -> u64 {
    let asked = input
        .policy
        .resources
        .memory
        .map_or(input.facts.memory_bytes / 2, |size| size.0);
    asked.saturating_add(GUEST_KERNEL)
}

fn guest_cpus(input: Input<'_>) -> u32 {
    let all = input.facts.cpus.max(1);
    // The plan of the limits has judged the number.
    input
        .policy
        .resources
        .cpu
        .map_or(all, |cpu| (cpu.ceil().max(1.0) as u32).min(all))
}

/// The places of what the guest has for disks.
fn disks(parts: &WallParts) -> Vec<String> {
    let roots = parts.images.iter().filter(|image| image.format.is_some());
    roots.map(|image| place(&image.role)).collect()
}

/// What is started in the sandbox of the monitor.
fn driver(input: Input<'_>) -> &'static str {
    match input.engine {
        true => module::WORKER,
        false => DRIVER,
    }
}

fn place(role: &str) -> String {
    format!("/wall/{role}")
}

/// A file of the host's at a place of the monitor's view.
fn read_only((place, source): (String, String)) -> (String, ViewKind) {
    let what = ViewKind::ReadOnly {
        source,
        directory: false,
    };
    (place, what)
}

/// The native sandbox of the monitor. `places`: what stands in its view besides the driver and the images.
fn around(
    input: Input<'_>,
    bundle: &CompileBundle,
    parts: &WallParts,
    room: Room,
    places: Vec<(String, ViewKind)>,
    faults: &mut Vec<Fault>,
) -> Option<CompileBundle> {
    let policy = policy_around(input, room);
    let subject = subject_around(input);
    let input = Input {
        policy: &policy,
        subject: &subject,
        guest: false,
        ..input
    };
    let mut resources_plan = ResourcesPlan {
        disk: bundle.resources_plan.disk.clone(),
        ..resources::plan(input, faults)
    };
    let asked = syscalls::Asked {
        tells: false,
        tell_denied: false,
        tell_paths: false,
        observe: false,
        pin_cpus: resources::pins_cpus(&resources_plan),
        tell_links: false,
        handshake: !input.facts.ptrace,
        spare_init: false,
    };
    let arch = Arch::parse(&input.facts.arch)?;
    let places = files(input, parts).into_iter().map(read_only).chain(places).collect();
    let syscalls_plan = if input.engine {
        // Each memory is a reservation of all that it could grow to.
        resources_plan.rlimits.remove("AS");
        syscalls::module::plan(arch, faults)?
    } else if input.sentry {
        // The program's memory is one file of the Sentry's, and its address spaces are the Sentry's processes'.
        for name in ["AS", "FSIZE"] {
            resources_plan.rlimits.remove(name);
        }
        syscalls::gvisor::plan(arch, faults)?
    } else {
        syscalls::plan(&policy.syscalls, arch, asked, faults)?
    };
    let filesystem_plan = filesystem::around(input, &bundle.filesystem_plan, places, ROOT, faults);
    let program = Digest::of(&bpf::bytes(&syscalls_plan.program));
    Some(CompileBundle {
        backend: Backend::Process,
        renderings: BTreeMap::from([(format!("seccomp.{}", syscalls_plan.arch), program)]),
        process_plan: process_around(input, bundle),
        evidence_plan: evidence_around(input, bundle, parts),
        filesystem_plan,
        syscalls_plan,
        resources_plan,
        mac_plan: None,
        wall_plan: None,
        obligations: Vec::new(),
        ..bundle.clone()
    })
}

/// What the monitor may, in the words of a policy.
fn policy_around(input: Input<'_>, room: Room) -> PolicySpec {
    let mut around = input.policy.clone();
    around.runtime.command = Some(driver(input).to_owned());
    around.runtime.args = Vec::new();
    around.runtime.env = BTreeMap::new();
    around.runtime.workdir = Some("/".to_owned());
    around.mounts = Vec::new();
    around.hide = Vec::new();
    around.files = None;
    around.mac = None;
    around.syscalls = Syscalls {
        profile: SyscallProfile::Standard,
        allow: Vec::new(),
        deny: Vec::new(),
        on_denied: OnDenied::Errno,
        arguments: BTreeMap::new(),
    };
    around.evidence.denied = DeniedScope::Network;
    around.evidence.observe = ObserveScope::None;
    let resources = &mut around.resources;
    resources.memory = room.memory.map(ByteSize);
    resources.pids = room.pids;
    resources.open_files = room.files.unwrap_or(MONITOR_FILES);
    // The guest's kernel holds the program's; these hold the monitor's.
    resources.strength = RequiredStrength::Any;
    around
}

fn subject_around(input: Input<'_>) -> Subject {
    let driver = driver(input);
    Subject {
        hidden: Vec::new(),
        command: Command {
            written: driver.to_owned(),
            path: driver.to_owned(),
            interpreters: Vec::new(),
            prefixes: Vec::new(),
            path_dirs: Vec::new(),
            module: None,
        },
        mounts: Vec::new(),
        root: None,
        wall: None,
        ..input.subject.clone()
    }
}

/// What the monitor's view has besides: places and their files on the host.
fn files(input: Input<'_>, parts: &WallParts) -> Vec<(String, String)> {
    let place = |role: &str| match input.sentry {
        true => path::join(ROOT, gvisor::AGENT.trim_start_matches('/')),
        false => place(role),
    };
    let images = parts
        .images
        .iter()
        .map(|image| (place(&image.role), image.path.clone()));
    std::iter::once((driver(input).to_owned(), parts.driver.clone()))
        .chain(images)
        .collect()
}

/// A rendering, as text of the view.
fn rendered(text: Result<String, serde_json::Error>, faults: &mut Vec<Fault>) -> Option<String> {
    let remedy = "this is a defect of Safe-Run: please report it";
    text.map_err(|e| faults.push(Fault::new(Code::Cmp002, "runtime.backend", e.to_string(), remedy)))
        .ok()
}

fn process_around(input: Input<'_>, bundle: &CompileBundle) -> ProcessPlan {
    let env = [("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin"), ("TMPDIR", "/tmp")];
    ProcessPlan {
        executable: driver(input).to_owned(),
        script: None,
        argv: match input.engine {
            true => module::arguments(),
            false => ["safe-run", "monitor"].map(str::to_owned).to_vec(),
        },
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        workdir: "/".to_owned(),
        hostname: "monitor".to_owned(),
        ..bundle.process_plan.clone()
    }
}

/// The program's mounts by their places below the root of the guest, in their order; then the images and the monitor.
fn evidence_around(input: Input<'_>, bundle: &CompileBundle, parts: &WallParts) -> EvidencePlan {
    let plan = &bundle.evidence_plan;
    let own = plan.mounts.iter().map(|mount| MountEvidence {
        target: path::join(ROOT, mount.target.trim_start_matches('/')),
        ..mount.clone()
    });
    let monitor = match bundle.backend {
        Backend::Gvisor => gvisor::PROGRAM.to_owned(),
        Backend::Microvm(Vmm::Firecracker) => place(FIRECRACKER),
        Backend::Microvm(Vmm::CloudHypervisor) => place(CLOUD_HYPERVISOR),
        // Among its own files.
        _ => parts.monitor.clone(),
    };
    // The worker of a module is its driver and its monitor.
    let monitor = (!input.engine).then(|| (monitor, parts.monitor.clone()));
    let wall = files(input, parts).into_iter().skip(1).chain(monitor);
    let wall = wall.map(|(target, source)| MountEvidence {
        source,
        target,
        directory: false,
        hashed: true,
    });
    EvidencePlan {
        mounts: own.chain(wall).collect(),
        ..plan.clone()
    }
}
