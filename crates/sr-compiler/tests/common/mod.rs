//! Fixed hosts and policies, so that bundles are the same on every machine.
#![allow(dead_code, clippy::unwrap_used)] // Each test program uses a part of it; a panic is a failed test.

pub mod filters;

use sr_common::facts::{
    CgroupController, CgroupFacts, Command, HostFacts, ModuleFile, ProgramFacts, ResolvedMount, Subject, SystemDir,
    WallFacts,
};
use sr_common::module::ModuleKind;
use sr_compiler::{Arch, CompileBundle, syscall_name};
use sr_policy::spec::{Mount, PolicySpec, RootfsSource, Syscalls};

/// The `standard` preset over a command, without mounts.
pub fn policy() -> PolicySpec {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "safe-run/v1",
        "metadata": {"name": "test"},
        "preset": "standard",
        "runtime": {"backend": "auto", "command": "/bin/true", "args": [], "env": {}, "workdir": null, "user": 1000},
        "rootfs": {"source": "host", "path": null, "writable": "readOnly", "installation": "readOnly"},
        "mounts": [],
        "hide": [".env*"],
        "resources": {
            "cpu": 2.0, "memory": "2GiB", "pids": 512, "disk": "2GiB", "wallTime": "10min", "openFiles": 1024,
            "output": "64MiB", "onOutput": "truncate", "strength": "any"
        },
        "syscalls": {"profile": "standard", "allow": [], "deny": [], "onDenied": "errno"},
        "network": {"mode": "none"},
        "evidence": {"sign": "default", "sampleInterval": "100ms", "hash": "files", "durability": "process"},
        "session": null,
        "degrade": []
    }))
    .unwrap()
}

fn system() -> Vec<SystemDir> {
    let link = |path: &str, to: &str| SystemDir {
        path: path.into(),
        link: Some(to.into()),
    };
    let usr = SystemDir {
        path: "/usr".into(),
        link: None,
    };
    vec![
        usr,
        link("/bin", "usr/bin"),
        link("/sbin", "usr/sbin"),
        link("/lib", "usr/lib"),
        link("/lib64", "usr/lib64"),
    ]
}

/// An ordinary user of a current desktop, without a delegated cgroup.
pub fn ordinary() -> HostFacts {
    HostFacts {
        arch: "x86_64".into(),
        kernel: "6.12.0".into(),
        privileged: false,
        uid: 1001,
        gid: 1001,
        cpus: 8,
        memory_bytes: 16 << 30,
        user_namespaces_blocked: None,
        landlock_abi: 6,
        seccomp: true,
        ptrace: true,
        cgroup: CgroupFacts::default(),
        system: system(),
        etc: [
            "/etc/ld.so.cache",
            "/etc/ld.so.conf.d",
            "/etc/localtime",
            "/etc/nsswitch.conf",
            "/etc/ssl",
        ]
        .map(String::from)
        .into(),
        store: "/home/alice/.local/share/safe-run".into(),
        private: vec!["/home/alice/.config/safe-run".into()],
        home: Some("/home/alice".into()),
        id_base: 0,
        disk: None,
        mac: None,
        walls: None,
    }
}

/// A host that has every wall.
pub fn walls() -> WallFacts {
    let program = |name: &str| ProgramFacts::Found {
        path: format!("/usr/bin/{name}"),
        // New enough for each of them.
        version: Some("v99.2.3".into()),
    };
    WallFacts {
        wasm: program("safe-run-wasm"),
        runsc: program("runsc"),
        qemu: program("qemu-system-x86_64"),
        cloud_hypervisor: program("cloud-hypervisor"),
        firecracker: program("firecracker"),
        guest: program("sr-guest"),
        kvm_blocked: None,
        kernels: vec!["default".into()],
        rootfs: vec![],
    }
}

/// Root of a host with cgroup v1 controllers.
pub fn root_v1() -> HostFacts {
    let controller = |name: &str| {
        Some(CgroupController {
            version: 1,
            parent: format!("/sys/fs/cgroup/{name}/safe-run"),
        })
    };
    HostFacts {
        privileged: true,
        uid: 0,
        gid: 0,
        cpus: 2,
        memory_bytes: 8 << 30,
        landlock_abi: 7,
        cgroup: CgroupFacts {
            memory: controller("memory"),
            cpu: controller("cpu"),
            pids: controller("pids"),
            helper: None,
        },
        store: "/var/lib/safe-run".into(),
        private: vec!["/root/.config/safe-run".into()],
        home: Some("/root".into()),
        id_base: 1_000_000_000,
        ..ordinary()
    }
}

/// `/bin/true` in `/home/alice/project`.
pub fn subject() -> Subject {
    Subject {
        cwd: "/home/alice/project".into(),
        workspace: "/home/alice/project".into(),
        workspace_uid: 1001,
        workspace_gid: 1001,
        hidden: vec![],
        command: Command {
            written: "/bin/true".into(),
            path: "/usr/bin/true".into(),
            interpreters: vec![],
            prefixes: vec![],
            path_dirs: vec![],
            module: None,
        },
        mounts: vec![],
        root: None,
        wall: None,
    }
}

/// With a core module for its command.
pub fn module(subject: Subject) -> Subject {
    Subject {
        command: Command {
            written: "./tool.wasm".into(),
            path: "/home/alice/project/tool.wasm".into(),
            module: Some(ModuleFile {
                kind: ModuleKind::Core,
                source: "/home/alice/project/tool.wasm".into(),
            }),
            ..subject.command
        },
        ..subject
    }
}

/// A root directory in policy and subject.
pub fn root(policy: &mut PolicySpec, subject: &mut Subject, path: &str) {
    policy.rootfs.source = RootfsSource::Dir;
    policy.rootfs.path = Some(path.into());
    subject.root = Some(ResolvedMount {
        source: path.into(),
        target: "/".into(),
        directory: true,
        uid: 7,
        gid: 8,
    });
}

/// How a mount is shown.
#[derive(Clone, Copy)]
pub enum How {
    ReadOnly,
    Captured,
    Writable,
}

/// Adds a directory mount to policy and subject.
pub fn mount(policy: &mut PolicySpec, subject: &mut Subject, source: &str, target: &str, how: How) {
    policy.mounts.push(Mount {
        source: source.into(),
        target: Some(target.into()),
        read_only: matches!(how, How::ReadOnly),
        captured: matches!(how, How::Captured),
    });
    subject.mounts.push(ResolvedMount {
        source: source.into(),
        target: target.into(),
        directory: true,
        uid: 1001,
        gid: 1001,
    });
}

/// The bundle for root on `arch`, with other `syscalls`.
pub fn bundle(arch: Arch, edit: impl FnOnce(&mut Syscalls)) -> CompileBundle {
    let mut policy = policy();
    edit(&mut policy.syscalls);
    sr_compiler::compile(
        &policy,
        &HostFacts {
            arch: arch.name().into(),
            ..root_v1()
        },
        &subject(),
    )
    .unwrap()
}

pub fn number(arch: Arch, name: &str) -> u32 {
    (0..1024).find(|nr| syscall_name(arch, *nr) == Some(name)).unwrap()
}

/// What a virtual machine is made of.
pub fn with_parts(subject: Subject) -> Subject {
    let image = |role: &str| sr_common::facts::Image {
        role: role.into(),
        path: format!("/var/lib/safe-run/artifacts/sha256/{role}"),
        digest: sr_common::Digest::of(role.as_bytes()),
        format: None,
    };
    Subject {
        wall: Some(sr_common::facts::WallParts {
            driver: "/usr/local/bin/safe-run".into(),
            monitor: "/usr/bin/qemu-system-x86_64".into(),
            images: vec![image("kernel"), image("initrd")],
        }),
        ..subject
    }
}
