//! What the agent in a guest is told: made of the bundle of its program by a pure function.

use super::{DISK, TAG};
use crate::bundle::{CompileBundle, FilesystemPlan, Limit, ViewEntry, ViewKind, WallPlan};
use crate::gvisor;
use crate::syscalls::bpf;
use sr_common::guest::{
    FILES_PORT, GUEST_VERSION, GuestLimits, GuestMount, GuestMountKind, GuestPlan, GuestRoot, GuestShare,
};
use sr_common::{Backend, Vmm, path};

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
    let sentry = bundle.backend == Backend::Gvisor;
    let disk = bundle.wall_plan.as_ref().and_then(WallPlan::disk);
    let mounts = guest_mounts(&bundle.filesystem_plan, disk.is_some());
    let is_shared = |mount: &GuestMount| matches!(mount.what, GuestMountKind::Shared { .. });
    let value = |limit: &Option<Limit>| limit.as_ref().map(|limit| limit.value);
    GuestPlan {
        version: GUEST_VERSION,
        share: match bundle.backend {
            Backend::Process | Backend::Wasm | Backend::Gvisor => None,
            Backend::Microvm(_) if disk.is_some() && !mounts.iter().any(is_shared) => None,
            Backend::Microvm(Vmm::Qemu) => Some(GuestShare::Virtio { tag: TAG.to_owned() }),
            Backend::Microvm(Vmm::Firecracker | Vmm::CloudHypervisor) => Some(GuestShare::Vsock { port: FILES_PORT }),
        },
        root: match disk {
            Some(format) => GuestRoot::Disk {
                device: DISK.to_owned(),
                format,
            },
            None if sentry => GuestRoot::Own,
            None => GuestRoot::Shared,
        },
        mounts,
        hostname: process.hostname.clone(),
        executable: process.executable.clone(),
        script: process.script.clone(),
        argv: process.argv.clone(),
        env: process.env.clone(),
        workdir: process.workdir.clone(),
        user: process.user.inside,
        filter: sr_common::digest::hex(&bpf::bytes(&bundle.syscalls_plan.program)),
        rlimits: match sentry {
            true => gvisor::rlimits(resources),
            false => resources.rlimits.clone(),
        },
        limits: GuestLimits {
            memory: value(&resources.memory),
            pids: value(&resources.pids),
            cpu: value(&resources.cpu).filter(|_| !sentry),
        },
        terminal,
    }
}

/// `disk`: the root is one, and what it has it keeps but for what is mounted on it.
fn guest_mounts(plan: &FilesystemPlan, disk: bool) -> Vec<GuestMount> {
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
            ViewKind::Directory { .. } if disk => continue,
            _ if !covered && !disk => continue,
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
