//! Firecracker's configuration, its arguments, and its jailer's. The configuration is the document that its API describes
//! (`FullVmConfiguration`), read once at the start: there is no API socket then that anyone could reach. A network interface
//! is nothing that these types can say.

use serde::Serialize;

/// The names under which it finds what the driver gives it: a pipe for its log, one for its metrics.
pub const LOG: i32 = 10;
pub const METRICS: i32 = 11;

/// The guest's address on its vsock; the host's is 2.
pub const GUEST: u32 = 3;
/// The most bytes that the path of a Unix socket has, without its last zero.
pub const MOST_SOCKET: usize = 107;
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

/// What the jailer that starts Firecracker as root is told. It makes a directory of its own for the root of each machine, gives
/// it up to `uid` and `gid` with the few devices there are, and executes a copy of Firecracker in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jailer {
    /// The program.
    pub program: String,
    pub id: JailId,
    /// Firecracker: absolute on the host.
    pub exec_file: String,
    pub uid: u32,
    pub gid: u32,
    /// Where the roots of all machines are.
    pub chroot_base: String,
    pub cgroup: JailCgroup,
    /// The file of a network namespace to join.
    pub netns: Option<String>,
    /// Bytes that a file may have.
    pub file_size: Option<u64>,
    /// One more than the greatest descriptor.
    pub open_files: Option<u64>,
    pub new_pid_ns: bool,
}

/// The name of a machine: what is made for it on the host has it for a part of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JailId(String);

impl JailId {
    /// Letters, digits and hyphens of ASCII, 64 at most.
    pub fn new(text: &str) -> Option<JailId> {
        let fits = (1..=64).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (fits && plain).then(|| JailId(text.to_owned()))
    }
}

/// The control group that it is moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JailCgroup {
    /// One that is there, of the second version, below its root.
    Joined { parent: String },
    /// One made below `parent`, with what is written to its files.
    Made {
        version: CgroupVersion,
        parent: String,
        values: Vec<(String, String)>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    V1,
    V2,
}

impl Jailer {
    /// The program and its arguments, and behind them those of `machine`, whose paths are below the root that the jailer makes.
    pub fn arguments(&self, machine: &Machine) -> Vec<String> {
        let mut all = vec![self.program.clone()];
        let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
        add("--id", self.id.0.clone());
        add("--exec-file", self.exec_file.clone());
        add("--uid", self.uid.to_string());
        add("--gid", self.gid.to_string());
        add("--chroot-base-dir", self.chroot_base.clone());
        match &self.cgroup {
            JailCgroup::Joined { parent } => {
                add("--cgroup-version", "2".to_owned());
                add("--parent-cgroup", parent.clone());
            }
            JailCgroup::Made {
                version,
                parent,
                values,
            } => {
                let version = match version {
                    CgroupVersion::V1 => "1",
                    CgroupVersion::V2 => "2",
                };
                add("--cgroup-version", version.to_owned());
                add("--parent-cgroup", parent.clone());
                for (file, value) in values {
                    add("--cgroup", format!("{file}={value}"));
                }
            }
        }
        if let Some(netns) = &self.netns {
            add("--netns", netns.clone());
        }
        for (name, value) in [("fsize", self.file_size), ("no-file", self.open_files)] {
            if let Some(value) = value {
                add("--resource-limit", format!("{name}={value}"));
            }
        }
        if self.new_pid_ns {
            all.push("--new-pid-ns".to_owned());
        }
        all.push("--".to_owned());
        // The jailer says the program and its id itself.
        let own = machine.arguments().into_iter().skip(3);
        all.extend(own);
        all
    }

    /// Where on the host a path of the machine's is.
    pub fn outside(&self, inside: &str) -> String {
        let name = self.exec_file.rsplit('/').next().unwrap_or_default();
        let base = self.chroot_base.trim_end_matches('/');
        format!("{base}/{name}/{}/root/{}", self.id.0, inside.trim_start_matches('/'))
    }
}

/// The socket at which a connection of the guest's to `port` arrives, where its path can be one.
pub fn socket(base: &str, port: u32) -> Option<String> {
    let path = format!("{base}_{port}");
    (path.len() <= MOST_SOCKET).then_some(path)
}

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

    fn jailer() -> Jailer {
        Jailer {
            program: "/usr/bin/jailer".into(),
            id: JailId::new("run-7").unwrap(),
            exec_file: "/usr/bin/firecracker".into(),
            uid: 1000,
            gid: 1001,
            chroot_base: "/srv/jail".into(),
            cgroup: JailCgroup::Made {
                version: CgroupVersion::V2,
                parent: "machines".into(),
                values: vec![
                    ("memory.max".into(), "1073741824".into()),
                    ("pids.max".into(), "32".into()),
                ],
            },
            netns: Some("/run/netns/empty".into()),
            file_size: Some(1 << 30),
            open_files: Some(256),
            new_pid_ns: true,
        }
    }

    #[test]
    fn the_whole_document() {
        insta::assert_json_snapshot!("firecracker_configuration", machine().configuration());
        insta::assert_json_snapshot!("firecracker_arguments", machine().arguments());
    }

    #[test]
    fn the_jailers_whole_list() {
        insta::assert_json_snapshot!("jailer", jailer().arguments(&machine()));
        let joined = Jailer {
            cgroup: JailCgroup::Joined {
                parent: "machines/one".into(),
            },
            netns: None,
            file_size: None,
            open_files: None,
            new_pid_ns: false,
            ..jailer()
        };
        insta::assert_json_snapshot!("jailer_joined", joined.arguments(&machine()));
        assert_eq!(
            joined.outside("/tmp/guest"),
            "/srv/jail/firecracker/run-7/root/tmp/guest"
        );
    }

    #[test]
    fn its_own_filters_are_never_touched() {
        for words in [machine().arguments(), jailer().arguments(&machine())] {
            assert!(!words.iter().any(|word| word.contains("seccomp")), "{words:?}");
            assert!(words.iter().any(|word| word == "--no-api"), "{words:?}");
        }
    }

    #[test]
    fn processors_are_as_many_as_it_gives() {
        let count = |cpus| Machine { cpus, ..machine() }.configuration().machine_config.vcpu_count;
        assert_eq!([0, 1, 3, 32, 64].map(count), [1, 1, 3, 32, 32]);
    }

    #[test]
    fn an_id_is_no_path_and_no_option_value_of_another_kind() {
        for bad in ["", "..", "a/b", "a b", "ä", "a_b", &"x".repeat(65)] {
            assert_eq!(JailId::new(bad), None, "{bad:?}");
        }
        assert!(JailId::new(&"x".repeat(64)).is_some());
    }

    #[test]
    fn a_socket_has_a_path_that_a_socket_can_have() {
        assert_eq!(socket("/tmp/guest", 52).as_deref(), Some("/tmp/guest_52"));
        let longest = "/".repeat(MOST_SOCKET - 3);
        assert!(socket(&longest, 52).is_some_and(|path| path.len() == MOST_SOCKET));
        assert_eq!(socket(&longest, 520), None);
    }
}
