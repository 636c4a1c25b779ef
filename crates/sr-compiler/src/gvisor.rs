//! gVisor: what `runsc` is told. A container whose root is the program's view as it stands in the sandbox around `runsc`, whose
//! `/proc`, `/dev` and scratch directories are the Sentry's own, and whose first process is the agent. What the agent starts, and
//! under what filter and limits, it hears from the driver.

use crate::bundle::{CompileBundle, FilesystemPlan, ResourcesPlan, ViewEntry, ViewKind};
use serde::Serialize;
use sr_common::path;
use std::collections::BTreeMap;

/// The version of the OCI runtime specification.
const OCI: &str = "1.0.2";

/// Where things stand in the sandbox around `runsc`.
pub const PROGRAM: &str = "/wall/runsc";
pub const BUNDLE: &str = "/wall/bundle";
pub const CONFIG: &str = "/wall/bundle/config.json";
/// Its socket and the state of its one container.
const STATE: &str = "/tmp/runsc";

/// Where the agent is in the container until it has begun: on the Sentry's `/dev`, which nothing of the host's is on.
pub const AGENT: &str = "/dev/.safe-run";

/// The driver's descriptor that leads to the agent, and the agent's own.
pub const DRIVER_SOCKET: i32 = 10;
pub const AGENT_SOCKET: i32 = 3;

/// The resource limits of the program that the Sentry sets; others it knows by name alone. It counts processes by their user,
/// and all of the container's are one user's: the limit on them is for all together, and for the agent.
pub fn rlimits(plan: &ResourcesPlan) -> BTreeMap<String, u64> {
    let sets = |name: &str| matches!(name, "NOFILE" | "CORE" | "FSIZE" | "MEMLOCK" | "AS" | "STACK");
    let own = plan.rlimits.iter().filter(|(name, _)| sets(name));
    let own = own.map(|(name, value)| (name.clone(), *value));
    let pids = plan.pids.as_ref().map(|limit| ("NPROC".to_owned(), limit.value + 1));
    own.chain(pids).collect()
}

/// What the agent does as the container's root: unmount itself, open the program, map its user, follow it to its exec, end it.
const CAPABILITIES: [&str; 6] = [
    "CAP_DAC_OVERRIDE",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_PTRACE",
];

/// `config.json`, as far as `runsc` is told anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    pub oci_version: String,
    pub process: Process,
    pub root: Root,
    pub hostname: String,
    pub mounts: Vec<Mount>,
    pub linux: Linux,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub terminal: bool,
    pub user: User,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub capabilities: Capabilities,
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub bounding: Vec<&'static str>,
    pub effective: Vec<&'static str>,
    pub permitted: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub hard: u64,
    pub soft: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Root {
    pub path: String,
    pub readonly: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    pub destination: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub source: String,
    pub options: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Linux {
    pub namespaces: Vec<Namespace>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// The container of this program, whose view stands at `root` in the sandbox around `runsc`.
pub fn config(bundle: &CompileBundle, root: &str) -> Config {
    let capabilities = CAPABILITIES.to_vec();
    Config {
        oci_version: OCI.to_owned(),
        process: Process {
            terminal: false,
            user: User { uid: 0, gid: 0 },
            args: vec![AGENT.to_owned(), "container".to_owned()],
            env: Vec::new(),
            cwd: "/".to_owned(),
            capabilities: Capabilities {
                bounding: capabilities.clone(),
                effective: capabilities.clone(),
                permitted: capabilities,
            },
            // The only one that the Sentry has begin lower than the program's is, and lets nobody raise.
            rlimits: bundle
                .resources_plan
                .rlimits
                .get("MEMLOCK")
                .map(|value| Rlimit {
                    kind: "RLIMIT_MEMLOCK".to_owned(),
                    hard: *value,
                    soft: *value,
                })
                .into_iter()
                .collect(),
            no_new_privileges: true,
        },
        root: Root {
            path: root.to_owned(),
            readonly: false,
        },
        hostname: bundle.process_plan.hostname.clone(),
        mounts: mounts(&bundle.filesystem_plan, root),
        linux: Linux {
            namespaces: ["pid", "network", "ipc", "uts", "mount"]
                .map(|kind| Namespace { kind })
                .to_vec(),
        },
    }
}

/// `config.json` as text.
pub fn text(config: &Config) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(config)
}

/// The complete command line.
///
/// `--rootless`: it is root of a user namespace of its own and no more, which its driver has made. `--directfs=false`: the Sentry
/// opens no file, the gofer does, which is another process. `--overlay2=none`: what the program writes is written to its view,
/// which captures it.
pub fn arguments() -> Vec<String> {
    [
        PROGRAM,
        &format!("--root={STATE}"),
        "--rootless",
        "--platform=systrap",
        "--network=none",
        "--ignore-cgroups",
        "--directfs=false",
        "--overlay2=none",
        "run",
        &format!("--bundle={BUNDLE}"),
        &format!("--pass-fd={DRIVER_SOCKET}:{AGENT_SOCKET}"),
        "sandbox",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn mounts(view: &FilesystemPlan, root: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    let own = |destination: &str, kind, more: &[&str]| Mount {
        destination: destination.to_owned(),
        kind,
        source: kind.to_owned(),
        options: ["nosuid", "noexec"]
            .iter()
            .chain(more)
            .map(|option| (*option).to_owned())
            .collect(),
    };
    // It would mount its own otherwise; other walls show nothing there.
    mounts.push(own("/sys", "tmpfs", &["nodev", "ro", "size=4096"]));
    for ViewEntry { target, what } in &view.entries {
        let covered = mounts.iter().any(|mount| path::within(target, &mount.destination));
        mounts.push(match what {
            ViewKind::Proc => own(target, "proc", &["nodev"]),
            ViewKind::Dev => own(target, "tmpfs", &["mode=0755"]),
            ViewKind::Devpts => own(target, "devpts", &[]),
            ViewKind::Scratch { mode } => Mount {
                options: [
                    "nosuid".to_owned(),
                    "nodev".to_owned(),
                    format!("size={}", view.writable.bytes.0),
                    format!("mode={mode:o}"),
                ]
                .to_vec(),
                ..own(target, "tmpfs", &[])
            },
            _ if !covered || target == "/sys" => continue,
            // The Sentry makes what leads to a mount.
            ViewKind::Directory { .. } if leads_on(view, target) => continue,
            what => bound(target, root, what.is_writable()),
        });
    }
    mounts.push(bound(AGENT, root, false));
    mounts
}

fn leads_on(view: &FilesystemPlan, target: &str) -> bool {
    view.entries
        .iter()
        .any(|entry| entry.target != target && path::within(&entry.target, target))
}

/// What the view has at `target`, over a mount of the Sentry's. The attributes are those that the sandbox locks.
fn bound(target: &str, root: &str, writable: bool) -> Mount {
    let mode = match writable {
        true => "rw",
        false => "ro",
    };
    Mount {
        destination: target.to_owned(),
        kind: "bind",
        source: path::join(root, target.trim_start_matches('/')),
        options: ["rbind", mode, "nosuid", "nodev"].map(str::to_owned).to_vec(),
    }
}
