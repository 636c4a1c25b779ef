//! The clauses of a policy: every field that binds. A new one is a variant here, and the table does not compile until
//! each wall says what becomes of it.

use sr_common::Control;
use sr_policy::PolicySpec;
use sr_policy::spec::Mac;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clause {
    User,
    Command,
    Args,
    Env,
    Workdir,
    Rootfs,
    Installation,
    Mount(usize),
    Hide,
    FilesRead,
    FilesWrite,
    Session,
    Cpu,
    Memory,
    Pids,
    Disk,
    WallTime,
    OpenFiles,
    Output,
    Profile,
    OnDenied,
    Allow,
    Arguments,
    Deny,
    Network,
    Mac,
    Vmm,
    Kernel,
    GuestRoot,
    Accel,
    BootTimeout,
    Sign,
    SampleInterval,
    Hash,
    Durability,
    Denied,
    Observe,
}

impl Clause {
    /// The clauses of `policy`, in the order of a bundle's obligations.
    pub(super) fn all(policy: &PolicySpec) -> Vec<Clause> {
        let mut all = vec![
            Clause::User,
            Clause::Command,
            Clause::Args,
            Clause::Env,
            Clause::Workdir,
            Clause::Rootfs,
            Clause::Installation,
        ];
        all.extend((0..policy.mounts.len()).map(Clause::Mount));
        all.push(Clause::Hide);
        let mut only = |asked: bool, clauses: &[Clause]| {
            if asked {
                all.extend(clauses);
            }
        };
        only(policy.files.is_some(), &[Clause::FilesRead, Clause::FilesWrite]);
        only(policy.session.is_some(), &[Clause::Session]);
        only(true, &[Clause::Cpu, Clause::Memory, Clause::Pids, Clause::Disk]);
        only(true, &[Clause::WallTime, Clause::OpenFiles, Clause::Output]);
        let calls = &policy.syscalls;
        only(true, &[Clause::Profile, Clause::OnDenied]);
        only(!calls.allow.is_empty(), &[Clause::Allow]);
        only(!calls.arguments.is_empty(), &[Clause::Arguments]);
        only(!calls.deny.is_empty(), &[Clause::Deny]);
        only(true, &[Clause::Network]);
        only(policy.mac.is_some(), &[Clause::Mac]);
        let guest = policy.microvm.as_ref();
        only(guest.is_some_and(|guest| guest.vmm.is_some()), &[Clause::Vmm]);
        only(guest.is_some(), &[Clause::Kernel]);
        only(guest.is_some_and(|guest| guest.rootfs.is_some()), &[Clause::GuestRoot]);
        only(guest.is_some(), &[Clause::Accel, Clause::BootTimeout]);
        only(true, &[Clause::Sign, Clause::SampleInterval, Clause::Hash]);
        only(true, &[Clause::Durability, Clause::Denied, Clause::Observe]);
        all
    }

    /// The policy's field.
    pub(super) fn name(self, policy: &PolicySpec) -> String {
        let fixed = match self {
            Clause::Mount(i) => return format!("mounts[{i}]"),
            Clause::Mac => policy.mac.as_ref().map_or("mac", crate::mac::clause),
            Clause::User => "runtime.user",
            Clause::Command => "runtime.command",
            Clause::Args => "runtime.args",
            Clause::Env => "runtime.env",
            Clause::Workdir => "runtime.workdir",
            Clause::Rootfs => "rootfs",
            Clause::Installation => "rootfs.installation",
            Clause::Hide => "hide",
            Clause::FilesRead => "files.read",
            Clause::FilesWrite => "files.write",
            Clause::Session => "session",
            Clause::Cpu => "resources.cpu",
            Clause::Memory => "resources.memory",
            Clause::Pids => "resources.pids",
            Clause::Disk => "resources.disk",
            Clause::WallTime => "resources.wallTime",
            Clause::OpenFiles => "resources.openFiles",
            Clause::Output => "resources.output",
            Clause::Profile => "syscalls.profile",
            Clause::OnDenied => "syscalls.onDenied",
            Clause::Allow => "syscalls.allow",
            Clause::Arguments => "syscalls.arguments",
            Clause::Deny => "syscalls.deny",
            Clause::Network => "network.mode",
            Clause::Vmm => "microvm.vmm",
            Clause::Kernel => "microvm.kernel",
            Clause::GuestRoot => "microvm.rootfs",
            Clause::Accel => "microvm.accel",
            Clause::BootTimeout => "microvm.bootTimeout",
            Clause::Sign => "evidence.sign",
            Clause::SampleInterval => "evidence.sampleInterval",
            Clause::Hash => "evidence.hash",
            Clause::Durability => "evidence.durability",
            Clause::Denied => "evidence.denied",
            Clause::Observe => "evidence.observe",
        };
        fixed.to_owned()
    }

    /// What is asked, and the control, of a clause for which the native wall may have no obligation.
    pub(super) fn asked(self, policy: &PolicySpec) -> (String, Control) {
        let files = policy.files.clone().unwrap_or_default();
        let guest = policy.microvm.clone().unwrap_or_default();
        match self {
            Clause::FilesRead => (files.read.join(" "), Control::Landlock),
            Clause::FilesWrite => (files.write.join(" "), Control::Landlock),
            Clause::Mac => match &policy.mac {
                Some(Mac::Apparmor(name) | Mac::Selinux(name)) => (name.clone(), Control::Mac),
                None => (String::new(), Control::Mac),
            },
            Clause::Vmm => {
                let named = guest.vmm.map_or("", |vmm| vmm.name());
                (named.to_owned(), Control::HardwareVirtualization)
            }
            Clause::Kernel => (guest.kernel, Control::HardwareVirtualization),
            Clause::GuestRoot => (guest.rootfs.unwrap_or_default(), Control::Filesystem),
            Clause::Accel => (crate::obligations::word(&guest.accel), Control::HardwareVirtualization),
            Clause::BootTimeout => (guest.boot_timeout.to_string(), Control::WallTime),
            _ => (String::new(), Control::Filesystem),
        }
    }
}
