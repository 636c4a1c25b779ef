//! Rules about the guest of a virtual machine: with which backends it goes, and what can be a name.

use super::Rule;
use crate::spec::{Accel, BackendChoice, PolicySpec, RootfsSource};
use crate::text::printable;
use sr_common::{Backend, Fault, Millis, Vmm};

const BACKEND: Rule = Rule::new(
    "SR-RULE-microvm-backend",
    "`microvm` belongs to the backends `microvm…` and `strongest`.",
);
const VMM: Rule = Rule::new(
    "SR-RULE-microvm-vmm",
    "`runtime.backend` and `microvm.vmm` name the same monitor, where both name one.",
);
const ACCEL: Rule = Rule::new(
    "SR-RULE-microvm-accel",
    "`accel: tcg` is QEMU's: Firecracker and Cloud Hypervisor need KVM.",
);
const NAME: Rule = Rule::new(
    "SR-RULE-microvm-name-form",
    "The name of a kernel or a root file system is 1 to 64 of a-z, 0-9, `.`, `_`, `-`, a letter or digit first.",
);
const ROOT: Rule = Rule::new(
    "SR-RULE-microvm-root",
    "A guest has one root: `microvm.rootfs`, or `rootfs: {source: dir}`.",
);
const BOOT: Rule = Rule::new("SR-RULE-microvm-boot-range", "`bootTimeout` is 1s to 10min.");

pub(super) const RULES: &[Rule] = &[BACKEND, VMM, ACCEL, NAME, ROOT, BOOT];

const MINUTE: u64 = 60_000;

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let Some(guest) = &spec.microvm else { return };
    let named = match spec.runtime.backend {
        BackendChoice::Strongest | BackendChoice::Microvm => None,
        BackendChoice::This(Backend::Microvm(vmm)) => Some(vmm),
        other => {
            let found = format!("a guest, and the backend `{other}`, which has none");
            let remedy = "write runtime: {backend: microvm}, or remove this section";
            return faults.push(BACKEND.fault("microvm", found, remedy));
        }
    };
    if let (Some(named), Some(written)) = (named, guest.vmm)
        && named != written
    {
        let found = format!("`{}`, and the backend `{}`", written.name(), spec.runtime.backend);
        faults.push(VMM.fault("microvm.vmm", found, "name one of them alone"));
    }
    if let (Accel::Tcg, Some(vmm)) = (guest.accel, named.or(guest.vmm))
        && vmm != Vmm::Qemu
    {
        let found = format!("`tcg`, which {} does not have", vmm.name());
        let remedy = "write accel: kvm, or take QEMU: runtime: {backend: \"microvm:qemu\"}";
        faults.push(ACCEL.fault("microvm.accel", found, remedy));
    }
    let names = [("kernel", Some(&guest.kernel)), ("rootfs", guest.rootfs.as_ref())];
    for (field, name) in names {
        if let Some(name) = name.filter(|name| !is_name(name)) {
            let remedy = "write the name of an artifact, not its path";
            faults.push(NAME.fault(format!("microvm.{field}"), format!("\"{}\"", printable(name)), remedy));
        }
    }
    if guest.rootfs.is_some() && spec.rootfs.source == RootfsSource::Dir {
        let found = "a root file system, and a directory as root in `rootfs`";
        faults.push(ROOT.fault("microvm.rootfs", found, "write one of the two"));
    }
    if !(Millis(1000)..=Millis(10 * MINUTE)).contains(&guest.boot_timeout) {
        let found = guest.boot_timeout.to_string();
        faults.push(BOOT.fault("microvm.bootTimeout", found, "write 1s to 10min"));
    }
}

/// What the run store calls its artifacts.
fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use crate::spec::Microvm;

    fn broken(backend: BackendChoice, guest: Microvm) -> Vec<&'static str> {
        let mut spec = preset("strict").unwrap();
        spec.runtime.backend = backend;
        spec.microvm = Some(guest);
        let mut faults = Vec::new();
        check(&spec, &mut faults);
        faults.into_iter().filter_map(|fault| fault.rule).collect()
    }

    #[test]
    fn a_guest_goes_with_the_backends_that_have_one() {
        for backend in BackendChoice::all() {
            let has = !["auto", "process", "wasm", "gvisor"].contains(&backend.name());
            let expected: &[&str] = if has { &[] } else { &[BACKEND.id] };
            assert_eq!(broken(backend, Microvm::default()), expected, "{backend}");
        }
    }

    #[test]
    fn monitors_agree_and_only_one_has_tcg() {
        let vmms = [Vmm::Firecracker, Vmm::CloudHypervisor, Vmm::Qemu];
        for (named, written) in vmms.iter().flat_map(|a| vmms.iter().map(move |b| (*a, *b))) {
            let guest = |accel| Microvm {
                vmm: Some(written),
                accel,
                ..Microvm::default()
            };
            let backend = BackendChoice::This(Backend::Microvm(named));
            let same: &[&str] = if named == written { &[] } else { &[VMM.id] };
            assert_eq!(broken(backend, guest(Accel::Kvm)), same);
            let tcg = broken(backend, guest(Accel::Tcg));
            assert_eq!(tcg.contains(&ACCEL.id), named != Vmm::Qemu);
            let alone = broken(BackendChoice::Microvm, guest(Accel::Tcg));
            assert_eq!(alone.contains(&ACCEL.id), written != Vmm::Qemu);
        }
    }

    #[test]
    fn a_boot_has_a_second_at_least_and_not_for_ever() {
        for (millis, good) in [
            (1, false),
            (999, false),
            (1000, true),
            (600_000, true),
            (600_001, false),
        ] {
            let guest = Microvm {
                boot_timeout: Millis(millis),
                ..Microvm::default()
            };
            let expected: &[&str] = if good { &[] } else { &[BOOT.id] };
            assert_eq!(broken(BackendChoice::Microvm, guest), expected, "{millis}");
        }
    }

    #[test]
    fn names_lead_nowhere() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "/boot/vmlinux",
            "a/b",
            ".hidden",
            "-x",
            "Debian",
            "a b",
            "é",
            &"x".repeat(65),
        ] {
            let guest = Microvm {
                kernel: name.into(),
                rootfs: Some(name.into()),
                ..Microvm::default()
            };
            assert_eq!(broken(BackendChoice::Microvm, guest), [NAME.id; 2], "{name}");
        }
    }
}
