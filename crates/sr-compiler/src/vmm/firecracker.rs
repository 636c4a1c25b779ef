//! Firecracker's configuration and its arguments. The configuration is the document that its API describes
//! (`FullVmConfiguration`), read once at the start: there is no API socket then that anyone could reach. A network interface
//! is nothing that these types can say.

use serde::Serialize;

/// The names under which it finds what the driver gives it: a pipe for its log, one for its metrics.
pub const LOG: i32 = 10;
pub const METRICS: i32 = 11;

/// The guest's address on its vsock; the host's is 2.
pub const GUEST: u32 = 3;
/// More processors than these it does not give.
const MOST_CPUS: u32 = 32;

/// A virtual machine for Firecracker: no network, what it boots, its disks, and one socket for the agent in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The program.
    pub program: String,
    /// Where it reads its configuration.
    pub config: String,
    /// MiB.
    pub memory: u64,
    pub cpus: u32,
    /// An ELF image.
    pub kernel: String,
    pub initrd: String,
    /// Read-only, in the order in which the guest finds them: `/dev/vda` first.
    pub disks: Vec<String>,
    /// What the guest's connections come to: the socket at this path, `_` and the port behind it.
    pub socket: String,
}

/// `FullVmConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Configuration {
    pub boot_source: BootSource,
    pub drives: Vec<Drive>,
    pub machine_config: MachineConfiguration,
    pub vsock: Vsock,
    pub entropy: Entropy,
    pub logger: Logger,
    pub metrics: Metrics,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BootSource {
    pub kernel_image_path: String,
    pub initrd_path: String,
    pub boot_args: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drive {
    pub drive_id: String,
    pub path_on_host: String,
    /// The initrd's agent mounts the root, not the kernel.
    pub is_root_device: bool,
    pub is_read_only: bool,
    pub cache_type: CacheType,
    pub io_engine: IoEngine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum CacheType {
    /// What the guest flushes is not: nothing of a read-only disk has to reach one.
    Unsafe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum IoEngine {
    /// Reads and writes; the other is `io_uring`, which the sandbox around does not allow.
    Sync,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineConfiguration {
    pub vcpu_count: u32,
    pub mem_size_mib: u64,
    /// Siblings would share what a processor remembers.
    pub smt: bool,
    pub track_dirty_pages: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vsock {
    pub guest_cid: u32,
    pub uds_path: String,
}

/// Randomness of the host's, with no setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entropy {}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Logger {
    pub log_path: String,
    pub level: Level,
    pub show_level: bool,
    pub show_log_origin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Level {
    /// What a guest does wrong is a warning, as often as it likes.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    pub metrics_path: String,
}

impl Machine {
    /// The program and its arguments. Its own filters are left as they are, one for each kind of its threads.
    pub fn arguments(&self) -> Vec<String> {
        let words = ["--id", "guest", "--no-api", "--config-file"];
        let mut all = vec![self.program.clone()];
        all.extend(words.map(str::to_owned));
        all.push(self.config.clone());
        all
    }

    pub fn configuration(&self) -> Configuration {
        let drives = self.disks.iter().enumerate().map(|(number, path)| Drive {
            drive_id: format!("disk{number}"),
            path_on_host: path.clone(),
            is_root_device: false,
            is_read_only: true,
            cache_type: CacheType::Unsafe,
            io_engine: IoEngine::Sync,
        });
        Configuration {
            boot_source: BootSource {
                kernel_image_path: self.kernel.clone(),
                initrd_path: self.initrd.clone(),
                boot_args: COMMAND_LINE.to_owned(),
            },
            drives: drives.collect(),
            machine_config: MachineConfiguration {
                vcpu_count: self.cpus.clamp(1, MOST_CPUS),
                mem_size_mib: self.memory,
                smt: false,
                track_dirty_pages: false,
            },
            vsock: Vsock {
                guest_cid: GUEST,
                uds_path: self.socket.clone(),
            },
            entropy: Entropy {},
            logger: Logger {
                log_path: format!("/proc/self/fd/{LOG}"),
                level: Level::Error,
                show_level: true,
                show_log_origin: false,
            },
            metrics: Metrics {
                metrics_path: format!("/proc/self/fd/{METRICS}"),
            },
        }
    }
}

/// What the guest's kernel is told. It has no way to switch off: what ends it resets the machine by the keyboard's controller,
/// which ends Firecracker. The last word is for the agent.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 oops=panic cgroup_no_v1=all audit=0 reboot=k \
                            i8042.noaux i8042.nomux i8042.dumbkbd vsock";

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            program: "/wall/firecracker".into(),
            config: "/wall/machine.json".into(),
            memory: 512,
            cpus: 2,
            kernel: "/wall/kernel".into(),
            initrd: "/wall/initrd".into(),
            disks: vec!["/wall/rootfs".into()],
            socket: "/tmp/guest".into(),
        }
    }

    #[test]
    fn the_whole_document() {
        insta::assert_json_snapshot!("firecracker_configuration", machine().configuration());
        insta::assert_json_snapshot!("firecracker_arguments", machine().arguments());
    }

    #[test]
    fn its_own_filters_are_never_touched() {
        let words = machine().arguments();
        assert!(!words.iter().any(|word| word.contains("seccomp")), "{words:?}");
        assert!(words.iter().any(|word| word == "--no-api"), "{words:?}");
    }

    #[test]
    fn processors_are_as_many_as_it_gives() {
        let count = |cpus| Machine { cpus, ..machine() }.configuration().machine_config.vcpu_count;
        assert_eq!([0, 1, 3, 32, 64].map(count), [1, 1, 3, 32, 32]);
    }
}
