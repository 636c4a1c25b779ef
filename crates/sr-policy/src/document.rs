//! The policy document as people write it: every field optional, because presets and `extends` fill the rest.

use crate::decode::section;
use crate::host_call::HostCallRule;
use crate::merge::replaces;
use crate::planned::{DetectionSection, DevicesSection, NetworkSection, SecretSection};
use crate::spec::{
    Accel, BackendChoice, DeniedScope, Durability, HashScope, Installation, Level, ObserveScope, OnOutput,
    RequiredStrength, RootWritable, SyscallProfile,
};
use crate::words::{Cpus, OrAll, Text, Word, choices};
use schemars::JsonSchema;
use serde::Serialize;
use sr_common::module::Metering;
use sr_common::{ByteSize, Control, Millis, Vmm};
use std::collections::BTreeMap;

section! {
    /// A Safe-Run policy: what a program may do, and what happens when it tries more.
    #[schemars(rename = "Policy")]
    pub struct PolicyDocument {
        /// `safe-run/v1`.
        #[schemars(required)]
        api_version: Word,
        /// `Policy`, which is also the default.
        kind: Word,
        #[schemars(required)]
        metadata: MetadataSection,
        /// `strict`, `standard` (the default), `agent`, `build`, or a path (with `/` or `.`) relative to this file.
        /// Maps merge over what it gives; lists replace.
        extends: Word,
        #[schemars(required)]
        runtime: RuntimeSection,
        rootfs: RootfsSection,
        /// Host files and directories that the program sees besides the system directories. Always written; `[]`: none.
        #[schemars(required)]
        mounts: Vec<MountSection>,
        /// Names that captured mounts do not show; `*` and `?` allowed.
        hide: Vec<Word>,
        /// What of the view the program may open. Left out: all of it.
        files: FilesSection,
        resources: ResourcesSection,
        syscalls: SyscallsSection,
        network: NetworkSection,
        /// Not available in this build: must be empty.
        secrets: Vec<SecretSection>,
        /// Not available in this build: must be empty.
        devices: DevicesSection,
        mac: MacSection,
        /// Belongs to the backends `auto`, `wasm` and `strongest`.
        wasm: WasmSection,
        /// Belongs to the backends `microvm…` and `strongest`.
        microvm: MicrovmSection,
        /// Not available in this build.
        detection: DetectionSection,
        evidence: EvidenceSection,
        /// Captured writes are kept under this name for the next run; `auto` names it after the workspace, `none`: not kept.
        session: Word,
        /// Controls that the run may go without where the host lacks them, each recorded as not enforced.
        degrade: Vec<Control>,
    }
}

section! {
    pub struct MetadataSection {
        /// At most 128 characters.
        #[schemars(required)]
        name: Word,
        description: Text,
        labels: BTreeMap<String, Text>,
    }
}

section! {
    pub struct RuntimeSection {
        /// The wall. `auto` is `process`, for WebAssembly `wasm`; `strongest`: the strongest that covers the policy on the
        /// host; `microvm`: the strongest of the virtual machines that does. `wasm`: the command is a module, run by an
        /// engine in a process behind the native wall.
        backend: BackendChoice,
        /// A path or a name looked up in the view's PATH. Left out: given after `--`.
        command: Word,
        /// Always written; `[]`: none.
        #[schemars(required)]
        args: Vec<Text>,
        /// The program's environment; nothing is inherited from the caller.
        env: BTreeMap<String, Text>,
        /// Absolute path in the view.
        workdir: Word,
        /// uid and gid inside the sandbox, 1 to 65533.
        user: u32,
    }
}

section! {
    pub struct RootfsSection {
        source: RootSource,
        /// The directory that becomes the root, for `source: dir`.
        path: Word,
        /// `overlay`: writes to the system directories are captured.
        writable: RootWritable,
        /// Whether a command's own installation (pyenv, nvm, a venv) is shown read-only or refused.
        installation: Installation,
    }
}

/// Where the root of the view comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RootSource {
    /// The host's system directories.
    Host,
    /// A directory with a root file system.
    Dir,
    /// An OCI layout or tar. Not available in this build.
    Image,
    /// A disk image. Not available in this build.
    Disk,
}

section! {
    pub struct MountSection {
        /// On the host; relative to the directory where the run starts. `.` in a git work tree is its top.
        #[schemars(required)]
        source: Word,
        /// Absolute path in the view. Left out: the same path as the source.
        target: Word,
        /// Default `true`, unless `captured` is.
        read_only: bool,
        /// The program may write; its writes are kept apart for `diff` and `apply`. Default `false`.
        captured: bool,
    }
}

section! {
    /// Files, and directories with all below them, by their places in the view, held by Landlock. All others may be looked
    /// for and listed, and not opened. The command, its interpreters and the loader may always be read; so may `/proc`
    /// and `/dev`.
    pub struct FilesSection {
        /// To read and to execute. Left out: none.
        read: Vec<Word>,
        /// To read, execute and change, as far as the view lets: `/` is all that it lets be changed. Left out: none.
        write: Vec<Word>,
    }
}

section! {
    pub struct ResourcesSection {
        cpu: OrAll<Cpus>,
        memory: OrAll<ByteSize>,
        /// Processes and threads.
        pids: OrAll<u32>,
        /// Captured writes, `/tmp` and `/dev/shm` together.
        disk: ByteSize,
        wall_time: Millis,
        /// Descriptors of each process.
        open_files: u32,
        /// Standard output and standard error together.
        output: ByteSize,
        on_output: OnOutput,
        /// The weakest way of holding a limit that the policy accepts.
        strength: RequiredStrength,
    }
}

section! {
    pub struct SyscallsSection {
        profile: SyscallProfile,
        /// System calls added to the profile, by name.
        allow: Vec<Word>,
        /// System calls taken from the profile, by name.
        deny: Vec<Word>,
        /// By call (ioctl, fcntl, prctl, arch_prctl), the only values that the argument which selects its use may have.
        arguments: BTreeMap<String, Vec<u32>>,
        on_denied: OnDeniedCall,
    }
}

/// What a denied system call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDeniedCall {
    /// EPERM.
    Errno,
    /// The end of the run.
    Kill,
    /// A line in the kernel's log; the call is allowed.
    Log,
    /// A question to the person at the terminal.
    Ask,
}

section! {
    /// Mandatory access control besides the wall: one of the two.
    pub struct MacSection {
        /// The name of an AppArmor profile that the kernel has. The program is put behind it as it is executed.
        apparmor: Word,
        /// An SELinux context, which the program gets as it is executed.
        selinux: Word,
    }
}

section! {
    /// The guest, where a virtual machine is the wall.
    pub struct MicrovmSection {
        /// The monitor. Left out: the one that `runtime.backend` names, else the strongest that the host has.
        vmm: Vmm,
        /// A kernel among the run store's artifacts, by its name. Left out: `default`.
        kernel: Word,
        /// A root file system among the run store's artifacts, by its name: a disk that is only read. The command is looked for
        /// in it. Left out: what `rootfs` says.
        rootfs: Word,
        /// Default `kvm`. `tcg`: QEMU computes the guest's instructions itself, where there is no KVM.
        accel: Accel,
        /// How long the guest may take until it holds the program, 1s to 10min. Default `120s`.
        boot_timeout: Millis,
    }
}

section! {
    /// What the engine lets a program of WebAssembly have.
    pub struct WasmSection {
        /// Values for what is not written here. `strict`: 128MiB of memory, 5s, 5000000000 units of fuel, 3 open files;
        /// `permissive`: 1GiB, 5min, 100000000000 units, 20 open files.
        level: Level,
        /// How the engine counts what is computed. Left out: `fuel` where `level` or `fuel` is written, else `deadline`.
        metering: Metering,
        /// Units: about one for each instruction. Only where fuel is metered.
        fuel: u64,
        /// Linear memories, tables and collected heaps together, 64KiB to 4GiB. Left out, without a level: what
        /// `resources` lets it have.
        memory: ByteSize,
        /// 1ms to 30d. Left out, without a level: what `resources` lets it have.
        time: Millis,
        /// Files and directories that it opens, at a time, at most 1048576. Left out, without a level: what `resources` lets
        /// it have.
        open_files: u64,
        /// Of the code that it is compiled to, 64KiB to 64MiB. Default `1MiB`.
        stack: ByteSize,
        /// Of all tables together, 1 to 10000000. Default 1048576.
        table_elements: u64,
        /// How long it may take to be compiled, 1s to 10min. Default `30s`.
        compile_time: Millis,
        /// What may be done with functions of WASI preview 1 (`path_open`), or interfaces of preview 2 and their functions
        /// (`wasi:random/random`), by name. What is not named is allowed.
        host_calls: BTreeMap<String, HostCallRule>,
    }
}

section! {
    pub struct EvidenceSection {
        /// `default`, `none`, or the name of a key.
        sign: Word,
        /// Time between two samples of what the run uses, 10ms to 1h.
        sample_interval: Millis,
        hash: HashScope,
        durability: Durability,
        /// Which denied operations are told of and recorded. Default `available`.
        denied: DeniedScope,
        /// What the program does is told of and recorded in `observed.json`. Default `none`.
        observe: ObserveScope,
    }
}

replaces!(RootSource, OnDeniedCall);

choices! {
    RootSource { "host" => Host, "dir" => Dir, "image" => Image, "disk" => Disk }
    OnDeniedCall { "errno" => Errno, "kill" => Kill, "log" => Log, "ask" => Ask }
}
