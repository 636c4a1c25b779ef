//! A kernel of the program's own: what the monitor that runs it is given, what its guest is told, and the native sandbox
//! around the monitor, which is a bundle like that of any program.
//!
//! The program's view stands below `/guest` in the monitor's. What lies in memory (`/tmp`, `/dev`, `/proc`) is the guest's own.

use crate::bundle::{
    CompileBundle, EvidencePlan, FilesystemPlan, MonitorPlan, MountEvidence, ProcessPlan, ResourcesPlan, ViewEntry,
    ViewKind, WallPlan,
};
use crate::compile::Input;
use crate::syscalls::{self, Arch, bpf};
use crate::{filesystem, resources, vmm};
use sr_common::facts::{Command, WallParts};
use sr_common::guest::{GUEST_VERSION, GuestLimits, GuestMount, GuestMountKind, GuestPlan, GuestRoot};
use sr_common::{ByteSize, Code, Digest, Fault, Subject, path};
use sr_policy::PolicySpec;
use sr_policy::spec::{Accel, DeniedScope, ObserveScope, OnDenied, RequiredStrength, SyscallProfile, Syscalls};
use std::collections::BTreeMap;

/// Where the program's view stands in the monitor's.
pub(crate) const ROOT: &str = "/guest";
const DRIVER: &str = "/wall/safe-run";
/// By what the guest knows the share that holds its root.
const TAG: &str = "root";

/// What the guest's kernel takes for itself of its memory.
const GUEST_KERNEL: u64 = 160 << 20;
/// What the monitor takes besides the guest's memory: translated code above all.
const MONITOR: u64 = 320 << 20;
/// Its threads, the driver's and their init's.
const MONITOR_PIDS: u32 = 64;
/// One for each file that the guest has open, and its own.
const MONITOR_FILES: u32 = 8192;

pub(crate) fn plan(input: Input<'_>, bundle: &CompileBundle, faults: &mut Vec<Fault>) -> Option<WallPlan> {
    let Some(parts) = &input.subject.wall else {
        let found = format!("nobody looked for what {} is made of", bundle.backend);
        let remedy = "this is a defect of Safe-Run: please report it";
        faults.push(Fault::new(Code::Cmp002, "runtime.backend", found, remedy));
        return None;
    };
    let memory = guest_memory(input);
    let machine = vmm::qemu::Machine {
        program: parts.monitor.clone(),
        memory: memory.div_ceil(1 << 20),
        cpus: guest_cpus(input),
        root: ROOT.to_owned(),
        tag: TAG.to_owned(),
        kernel: place("kernel"),
        initrd: place("initrd"),
    };
    let around = around(input, bundle, parts, memory, faults)?;
    Some(WallPlan {
        monitor: MonitorPlan::Qemu {
            argv: machine.arguments_by(accel(input)),
        },
        root: ROOT.to_owned(),
        images: parts.images.clone(),
        around: Box::new(around),
    })
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

fn place(role: &str) -> String {
    format!("/wall/{role}")
}

/// The native sandbox of the monitor.
fn around(
    input: Input<'_>,
    bundle: &CompileBundle,
    parts: &WallParts,
    memory: u64,
    faults: &mut Vec<Fault>,
) -> Option<CompileBundle> {
    let policy = policy_around(input.policy, memory);
    let subject = subject_around(input.subject);
    let input = Input {
        policy: &policy,
        subject: &subject,
        guest: false,
        ..input
    };
    let resources_plan = ResourcesPlan {
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
    };
    let arch = Arch::parse(&input.facts.arch)?;
    let syscalls_plan = syscalls::plan(&policy.syscalls, arch, asked, faults)?;
    let filesystem_plan = filesystem::around(input, &bundle.filesystem_plan, &files(parts), ROOT, faults);
    let program = Digest::of(&bpf::bytes(&syscalls_plan.program));
    Some(CompileBundle {
        backend: sr_common::Backend::Process,
        renderings: BTreeMap::from([(format!("seccomp.{}", syscalls_plan.arch), program)]),
        process_plan: process_around(bundle),
        evidence_plan: evidence_around(bundle, parts),
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
fn policy_around(policy: &PolicySpec, memory: u64) -> PolicySpec {
    let mut around = policy.clone();
    around.runtime.command = Some(DRIVER.to_owned());
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
    resources.memory = Some(ByteSize(memory.saturating_add(MONITOR)));
    resources.pids = Some(MONITOR_PIDS);
    resources.open_files = MONITOR_FILES;
    // The guest's kernel holds the program's; these hold the monitor's.
    resources.strength = RequiredStrength::Any;
    around
}

fn subject_around(subject: &Subject) -> Subject {
    Subject {
        hidden: Vec::new(),
        command: Command {
            written: DRIVER.to_owned(),
            path: DRIVER.to_owned(),
            interpreters: Vec::new(),
            prefixes: Vec::new(),
            path_dirs: Vec::new(),
        },
        mounts: Vec::new(),
        root: None,
        wall: None,
        ..subject.clone()
    }
}

/// What the monitor's view has besides: places and their files on the host.
fn files(parts: &WallParts) -> Vec<(String, String)> {
    let images = parts
        .images
        .iter()
        .map(|image| (place(&image.role), image.path.clone()));
    std::iter::once((DRIVER.to_owned(), parts.driver.clone()))
        .chain(images)
        .collect()
}

fn process_around(bundle: &CompileBundle) -> ProcessPlan {
    let env = [("LANG", "C.UTF-8"), ("PATH", "/usr/bin:/bin"), ("TMPDIR", "/tmp")];
    ProcessPlan {
        executable: DRIVER.to_owned(),
        script: None,
        argv: ["safe-run", "monitor"].map(str::to_owned).to_vec(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        workdir: "/".to_owned(),
        hostname: "monitor".to_owned(),
        ..bundle.process_plan.clone()
    }
}

/// The program's mounts by their places below the root of the guest, in their order; then the images and the monitor.
fn evidence_around(bundle: &CompileBundle, parts: &WallParts) -> EvidencePlan {
    let plan = &bundle.evidence_plan;
    let own = plan.mounts.iter().map(|mount| MountEvidence {
        target: path::join(ROOT, mount.target.trim_start_matches('/')),
        ..mount.clone()
    });
    let wall = files(parts)
        .into_iter()
        .skip(1)
        .chain([(parts.monitor.clone(), parts.monitor.clone())]);
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

/// What the guest's kernel has of its own in a view.
pub(crate) fn is_guests(what: &ViewKind) -> bool {
    matches!(
        what,
        ViewKind::Proc | ViewKind::Dev | ViewKind::Devpts | ViewKind::Scratch { .. }
    )
}

/// What the agent in the guest is told: what of the bundle the guest's own kernel holds.
pub fn guest_plan(bundle: &CompileBundle, terminal: bool) -> GuestPlan {
    let process = &bundle.process_plan;
    let resources = &bundle.resources_plan;
    let value = |limit: &Option<crate::bundle::Limit>| limit.as_ref().map(|limit| limit.value);
    GuestPlan {
        version: GUEST_VERSION,
        root: GuestRoot::Shared { tag: TAG.to_owned() },
        mounts: guest_mounts(&bundle.filesystem_plan),
        hostname: process.hostname.clone(),
        executable: process.executable.clone(),
        argv: process.argv.clone(),
        env: process.env.clone(),
        workdir: process.workdir.clone(),
        user: process.user.inside,
        filter: sr_common::digest::hex(&bpf::bytes(&bundle.syscalls_plan.program)),
        rlimits: resources.rlimits.clone(),
        limits: GuestLimits {
            memory: value(&resources.memory),
            pids: value(&resources.pids),
            cpu: value(&resources.cpu),
        },
        terminal,
    }
}

fn guest_mounts(plan: &FilesystemPlan) -> Vec<GuestMount> {
    let mut mounts: Vec<GuestMount> = Vec::new();
    for ViewEntry { target, what } in &plan.entries {
        let covered = mounts.iter().any(|mount| path::within(target, &mount.target));
        let what = match what {
            ViewKind::Proc => GuestMountKind::Proc,
            ViewKind::Dev => GuestMountKind::Dev,
            // In the `/dev` of the guest.
            ViewKind::Devpts => continue,
            ViewKind::Scratch { mode } => GuestMountKind::Tmpfs {
                bytes: plan.writable.bytes.0,
                inodes: plan.writable.inodes,
                mode: *mode,
            },
            _ if !covered => continue,
            what => GuestMountKind::Shared {
                directory: what.is_directory(),
            },
        };
        mounts.push(GuestMount {
            target: target.clone(),
            what,
        });
    }
    let proc = |target: &&String| path::within(target, "/proc");
    let masked = plan
        .masked
        .iter()
        .filter(proc)
        .map(|target| (target, GuestMountKind::Masked));
    let read_only = plan
        .read_only_paths
        .iter()
        .map(|target| (target, GuestMountKind::ReadOnly));
    mounts.extend(masked.chain(read_only).map(|(target, what)| GuestMount {
        target: target.clone(),
        what,
    }));
    mounts
}
