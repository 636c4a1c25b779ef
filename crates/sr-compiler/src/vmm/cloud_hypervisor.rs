//! Cloud Hypervisor's configuration, as its API describes it (`VmConfig`), and its arguments. It takes the configuration by
//! its API, over a socket that it is given as a descriptor, which has no name that anyone could open. A network interface is
//! nothing that these types can say.

use serde::Serialize;

/// The descriptors that the driver gives it: a socket that listens, for its API, and a pipe for its events.
pub const API: i32 = 10;
pub const EVENTS: i32 = 11;

/// The guest's address on its vsock; the host's is 2.
pub const GUEST: u32 = 3;

/// A virtual machine for Cloud Hypervisor: no network, what it boots, its disks, what it shares, and one socket for the agent
/// in the guest.
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
    /// What virtio-fs shares: a tag, and the socket of the daemon that serves it.
    pub shares: Vec<(String, String)>,
    /// What the guest's connections come to: the socket at this path, `_` and the port behind it.
    pub socket: String,
}

/// `VmConfig`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmConfig {
    pub cpus: Cpus,
    pub memory: Memory,
    pub payload: Payload,
    pub disks: Vec<Disk>,
    pub rng: Rng,
    pub fs: Vec<Fs>,
    pub serial: Console,
    pub console: Console,
    pub vsock: Vsock,
    /// It allows itself the files of this document and no others.
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
    /// With the daemons of virtio-fs: they read and write it.
    pub shared: bool,
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
pub struct Fs {
    pub tag: String,
    pub socket: String,
    pub num_queues: u32,
    pub queue_size: u32,
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
                shared: !self.shares.is_empty(),
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
            fs: self.shares.iter().map(share).collect(),
            serial: Console { mode: ConsoleMode::Tty },
            console: Console { mode: ConsoleMode::Off },
            vsock: Vsock {
                cid: GUEST,
                socket: self.socket.clone(),
            },
            landlock_enable: true,
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

fn share((tag, socket): &(String, String)) -> Fs {
    Fs {
        tag: tag.clone(),
        socket: socket.clone(),
        num_queues: 1,
        queue_size: 1024,
    }
}

/// What the guest's kernel is told; the last word is for the agent.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 oops=panic cgroup_no_v1=all audit=0 vsock";

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
            shares: vec![("root".into(), "/tmp/share".into())],
            socket: "/tmp/guest".into(),
        }
    }

    #[test]
    fn the_whole_document() {
        insta::assert_json_snapshot!("cloud_hypervisor_configuration", machine().configuration());
        insta::assert_json_snapshot!("cloud_hypervisor_arguments", machine().arguments());
    }

    #[test]
    fn memory_is_shared_only_where_a_directory_is() {
        assert!(machine().configuration().memory.shared);
        let alone = Machine {
            shares: Vec::new(),
            ..machine()
        };
        assert!(!alone.configuration().memory.shared);
    }

    #[test]
    fn a_machine_has_a_processor() {
        let cpus = Machine { cpus: 0, ..machine() }.configuration().cpus;
        assert_eq!((cpus.boot_vcpus, cpus.max_vcpus), (1, 1));
    }
}
