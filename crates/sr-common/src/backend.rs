//! The kinds of wall, by the names that policies and documents use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A wall behind which a program can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Backend {
    /// Namespaces, seccomp and Landlock of the host's own kernel.
    Process,
    /// An engine that runs WebAssembly, in a process behind that.
    Wasm,
    /// `runsc`: a kernel in user space.
    Gvisor,
    /// A kernel of its own, in a virtual machine.
    Microvm(Vmm),
}

/// A virtual machine monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Vmm {
    Qemu,
    CloudHypervisor,
    Firecracker,
}

impl Backend {
    /// From the weakest wall to the strongest; of monitors, the one with the least in it last.
    pub const ALL: [Backend; 6] = [
        Backend::Process,
        Backend::Wasm,
        Backend::Gvisor,
        Backend::Microvm(Vmm::Qemu),
        Backend::Microvm(Vmm::CloudHypervisor),
        Backend::Microvm(Vmm::Firecracker),
    ];

    /// The same, of those that run what a kernel executes. An engine executes nothing else than WebAssembly, and they none.
    pub const KERNELS: [Backend; 5] = [
        Backend::Process,
        Backend::Gvisor,
        Backend::Microvm(Vmm::Qemu),
        Backend::Microvm(Vmm::CloudHypervisor),
        Backend::Microvm(Vmm::Firecracker),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Backend::Process => "process",
            Backend::Wasm => "wasm",
            Backend::Gvisor => "gvisor",
            Backend::Microvm(Vmm::Firecracker) => "microvm:firecracker",
            Backend::Microvm(Vmm::CloudHypervisor) => "microvm:cloud-hypervisor",
            Backend::Microvm(Vmm::Qemu) => "microvm:qemu",
        }
    }
}

impl Vmm {
    pub fn name(self) -> &'static str {
        match self {
            Vmm::Firecracker => "firecracker",
            Vmm::CloudHypervisor => "cloud-hypervisor",
            Vmm::Qemu => "qemu",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Backend::ALL.into_iter().find(|backend| backend.name() == text);
        found.ok_or_else(|| format!("{text:?} is no backend"))
    }
}

impl TryFrom<String> for Backend {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Backend> for String {
    fn from(backend: Backend) -> String {
        backend.name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for backend in Backend::ALL {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        let kernels = Backend::ALL.into_iter().filter(|backend| *backend != Backend::Wasm);
        assert!(kernels.eq(Backend::KERNELS));
        for vmm in [Vmm::Firecracker, Vmm::CloudHypervisor, Vmm::Qemu] {
            assert_eq!(Backend::Microvm(vmm).name(), format!("microvm:{}", vmm.name()));
            assert_eq!(serde_json::to_value(vmm).unwrap(), vmm.name());
        }
        assert!("microvm".parse::<Backend>().is_err() && "".parse::<Backend>().is_err());
    }
}
