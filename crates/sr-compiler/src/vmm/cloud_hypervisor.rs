//! Cloud Hypervisor's configuration, as its API describes it (`VmConfig`), and its arguments. It takes the configuration by
//! its API, over a socket that it is given as a descriptor, which has no name that anyone could open. A network interface is
//! nothing that these types can say.

use serde::Serialize;

/// The descriptors that the driver gives it: a socket that listens, for its API, and a pipe for its events.
pub const API: i32 = 10;
pub const EVENTS: i32 = 11;

/// The guest's address on its vsock; the host's is 2.
pub const GUEST: u32 = 3;

/// A virtual machine for Cloud Hypervisor: no network, what it boots, its disks, and one socket for the agent in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The program.
    pub program: String,
    /// Bytes: whole MiB.
    pub memory: u64,
    pub cpus: u32,
    /// An ELF image that can be started by PVH.
    pub kernel: String,
    pub initrd: String,
    /// Read-only, in the order in which the guest finds them: `/dev/vda` first.
    pub disks: Vec<String>,
    /// What the guest's connections come to: the socket at this path, `_` and the port behind it.
    pub socket: String,
    /// It allows itself the files of this document and no others. It asks Landlock's third version for that, whole, and makes no
    /// machine where the kernel has an older one.
    pub landlock: bool,
}

/// `VmConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmConfig {
    pub cpus: Cpus,
    pub memory: Memory,
    pub payload: Payload,
    pub disks: Vec<Disk>,
    pub rng: Rng,
    pub serial: Console,
    pub console: Console,
    pub vsock: Vsock,
    pub landlock_enable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpus {
    pub boot_vcpus: u32,
    pub max_vcpus: u32,
    /// No machines in the machine.
    pub nested: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub size: u64,
    /// With other processes' by content, which tells by its time what they hold.
    pub mergeable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Payload {
    pub kernel: String,
    pub initramfs: String,
    pub cmdline: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    pub path: String,
    pub readonly: bool,
    /// Written, so that no content is taken for another format that names files of the host's.
    pub image_type: ImageType,
    pub backing_files: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ImageType {
    Raw,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rng {
    pub src: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Console {
    pub mode: ConsoleMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ConsoleMode {
    Off,
    /// To its standard output.
    Tty,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vsock {
    pub cid: u32,
    pub socket: String,
}

impl Machine {
    /// The program and its arguments. What its own filters do not allow ends it.
    pub fn arguments(&self) -> Vec<String> {
        let mut all = vec![self.program.clone()];
        let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
        add("--api-socket", format!("fd={API}"));
        add("--event-monitor", format!("fd={EVENTS}"));
        add("--seccomp", "true".to_owned());
        all
    }

    pub fn configuration(&self) -> VmConfig {
        let cpus = self.cpus.max(1);
        VmConfig {
            cpus: Cpus {
                boot_vcpus: cpus,
                max_vcpus: cpus,
                nested: false,
            },
            memory: Memory {
                size: self.memory,
                mergeable: false,
            },
            payload: Payload {
                kernel: self.kernel.clone(),
                initramfs: self.initrd.clone(),
                cmdline: COMMAND_LINE.to_owned(),
            },
            disks: self.disks.iter().map(|path| disk(path)).collect(),
            rng: Rng {
                src: "/dev/urandom".to_owned(),
            },
            serial: Console { mode: ConsoleMode::Tty },
            console: Console { mode: ConsoleMode::Off },
            vsock: Vsock {
                cid: GUEST,
                socket: self.socket.clone(),
            },
            landlock_enable: self.landlock,
        }
    }
}

fn disk(path: &str) -> Disk {
    Disk {
        path: path.to_owned(),
        readonly: true,
        image_type: ImageType::Raw,
        backing_files: false,
    }
}

/// What the guest's kernel is told. A reset is another beginning, which the driver does not let come; the last words are for the
/// agent, which switches off.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 oops=panic cgroup_no_v1=all audit=0 vsock poweroff";

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            program: "/wall/cloud-hypervisor".into(),
            memory: 512 << 20,
            cpus: 2,
            kernel: "/wall/kernel".into(),
            initrd: "/wall/initrd".into(),
            disks: vec!["/wall/rootfs".into()],
            socket: "/tmp/guest".into(),
            landlock: true,
        }
    }

    #[test]
    fn the_whole_document() {
        insta::assert_json_snapshot!("cloud_hypervisor_configuration", machine().configuration());
        insta::assert_json_snapshot!("cloud_hypervisor_arguments", machine().arguments());
    }

    #[test]
    fn a_machine_has_a_processor() {
        let cpus = Machine { cpus: 0, ..machine() }.configuration().cpus;
        assert_eq!((cpus.boot_vcpus, cpus.max_vcpus), (1, 1));
    }
}
