//! The clauses of a policy: every field that binds. A new one is a variant here, and the table does not compile until
//! each wall says what becomes of it.

use sr_common::Control;
use sr_policy::PolicySpec;
use sr_policy::spec::{Mac, Wasm};

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
    Wasm(WasmField),
    Sign,
    SampleInterval,
    Hash,
    Durability,
    Denied,
    Observe,
}

/// What the section `wasm` can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WasmField {
    Metering,
    Fuel,
    Memory,
    Time,
    OpenFiles,
    Stack,
    TableElements,
    CompileTime,
    HostCalls,
}

impl WasmField {
    fn all(wasm: &Wasm) -> Vec<WasmField> {
        let asked = [
            (true, WasmField::Metering),
            (wasm.fuel.is_some(), WasmField::Fuel),
            (wasm.memory.is_some(), WasmField::Memory),
            (wasm.time.is_some(), WasmField::Time),
            (wasm.open_files.is_some(), WasmField::OpenFiles),
            (true, WasmField::Stack),
            (true, WasmField::TableElements),
            (true, WasmField::CompileTime),
            (!wasm.host_calls.rules.is_empty(), WasmField::HostCalls),
        ];
        asked
            .into_iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, field)| field)
            .collect()
    }

    fn name(self) -> &'static str {
        match self {
            WasmField::Metering => "wasm.metering",
            WasmField::Fuel => "wasm.fuel",
            WasmField::Memory => "wasm.memory",
            WasmField::Time => "wasm.time",
            WasmField::OpenFiles => "wasm.openFiles",
            WasmField::Stack => "wasm.stack",
            WasmField::TableElements => "wasm.tableElements",
            WasmField::CompileTime => "wasm.compileTime",
            WasmField::HostCalls => "wasm.hostCalls",
        }
    }

    fn asked(self, wasm: &Wasm) -> (String, Control) {
        let shown = |value: Option<String>| value.unwrap_or_default();
        match self {
            WasmField::Metering => (crate::obligations::word(&wasm.metering), Control::Fuel),
            WasmField::Fuel => (shown(wasm.fuel.map(|fuel| fuel.to_string())), Control::Fuel),
            WasmField::Memory => (shown(wasm.memory.map(|size| size.to_string())), Control::Memory),
            WasmField::Time => (shown(wasm.time.map(|time| time.to_string())), Control::WallTime),
            WasmField::OpenFiles => (
                shown(wasm.open_files.map(|files| files.to_string())),
                Control::OpenFiles,
            ),
            WasmField::Stack => (wasm.stack.to_string(), Control::Memory),
            WasmField::TableElements => (wasm.table_elements.to_string(), Control::Memory),
            WasmField::CompileTime => (wasm.compile_time.to_string(), Control::WallTime),
            WasmField::HostCalls => {
                let names: Vec<&str> = wasm.host_calls.rules.keys().map(String::as_str).collect();
                (names.join(" "), Control::HostCalls)
            }
        }
    }
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
        if let Some(wasm) = &policy.wasm {
            all.extend(WasmField::all(wasm).into_iter().map(Clause::Wasm));
        }
        let mut only = |asked: bool, clauses: &[Clause]| {
            if asked {
                all.extend(clauses);
            }
        };
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
            Clause::Wasm(field) => field.name(),
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
            Clause::Wasm(field) => field.asked(&policy.wasm.clone().unwrap_or_default()),
            _ => (String::new(), Control::Filesystem),
        }
    }
}
