//! Who is measured, and by which command: each as near to the same wall as it comes.

use super::Place;
use crate::{Outcome, tree};
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Namespaces and mounts only.
    Wall,
    /// The preset `standard`, with its limits; the others with what they have that comes near.
    Standard,
}

impl Row {
    pub fn name(self) -> &'static str {
        match self {
            Row::Wall => "namespaces and mounts only",
            Row::Standard => "preset standard, with limits",
        }
    }
}

pub struct Contender {
    pub name: String,
    pub version: String,
    pub words: Vec<String>,
    /// The command as a person reads it: no paths of this machine.
    pub shown: String,
    /// Emptied before each round.
    pub empties: Option<PathBuf>,
    /// Which words are the number of a descriptor of which file.
    pub files: Vec<(usize, PathBuf)>,
}

impl Contender {
    pub fn ours(place: &Place, name: &str, flags: &[&str], program: &[&str]) -> Contender {
        let rest: Vec<&str> = [
            &["run"][..],
            if flags.contains(&"--json") { &[] } else { &["--quiet"] },
            flags,
            &["--"],
            program,
        ]
        .concat();
        Contender::new(name, &place.safe_run.display().to_string(), "safe-run", &rest)
    }

    fn new(name: &str, program: &str, shown: &str, rest: &[&str]) -> Contender {
        let version = Command::new(program).arg("--version").output();
        let version = version.map(|o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned()
        });
        let root = format!("{}/", tree::root().display());
        Contender {
            name: name.into(),
            version: version.unwrap_or_default(),
            words: [program].iter().chain(rest).map(|w| (*w).to_owned()).collect(),
            shown: [shown]
                .iter()
                .chain(rest)
                .map(|w| w.replace(&root, ""))
                .collect::<Vec<_>>()
                .join(" "),
            empties: None,
            files: Vec::new(),
        }
    }

    /// A command in the place, and the files that it reads, to be held until it has started.
    pub fn command(&self, place: &Place) -> Outcome<(Command, Vec<File>)> {
        let mut words = self.words.clone();
        let mut files = Vec::new();
        for (at, path) in &self.files {
            let fail = |e: std::io::Error| format!("{}: {e}", path.display());
            let file = File::open(path).map_err(fail)?;
            rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).map_err(|e| fail(e.into()))?;
            if let Some(word) = words.get_mut(*at) {
                *word = file.as_raw_fd().to_string();
            }
            files.push(file);
        }
        match place.command(&words) {
            Some(command) => Ok((command, files)),
            None => Err(format!("{}: no command", self.name)),
        }
    }
}

/// A contender, or who is absent and why.
pub type Entry = Result<Contender, (String, String)>;

pub fn all(place: &Place, row: Row, program: &[&str]) -> Outcome<Vec<Entry>> {
    let wall = tree::root().join("bench/wall.yaml").display().to_string();
    let flags: &[&str] = if row == Row::Wall { &["--policy", &wall] } else { &[] };
    let bundle = runc_bundle(place, row, program)?;
    let id = format!("bench-{}", std::process::id());
    Ok(vec![
        Ok(Contender::ours(place, "safe-run", flags, program)),
        bubblewrap(program),
        other("runc", "runc", &["run", "--bundle", &bundle, &id]),
        other("firejail", "firejail", &firejail(row, program)),
        other(
            "sandlock",
            "sandlock",
            &[
                &[
                    "run", "-r", "/usr", "-r", "/lib", "-r", "/lib64", "-r", "/bin", "-r", "/etc", "--",
                ],
                program,
            ]
            .concat(),
        ),
    ])
}

pub fn other(name: &str, program: &str, rest: &[&str]) -> Entry {
    match tree::on_path(program) {
        Some(path) => Ok(Contender::new(name, &path.display().to_string(), program, rest)),
        None => Err((name.into(), format!("no {program} on PATH"))),
    }
}

/// It has no limits of its own: the same in both rows.
pub fn bubblewrap(program: &[&str]) -> Entry {
    let own = [
        "--ro-bind",
        "/",
        "/",
        "--unshare-all",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--tmpfs",
        "/tmp",
    ];
    other("bubblewrap", "bwrap", &[&own[..], program].concat())
}

fn firejail<'a>(row: Row, program: &[&'a str]) -> Vec<&'a str> {
    let wall = ["--quiet", "--noprofile", "--net=none", "--private-tmp", "--private-dev"];
    let limits = [
        "--caps.drop=all",
        "--seccomp",
        "--nonewprivs",
        "--rlimit-nofile=1024",
        "--rlimit-as=2147483648",
    ];
    let limits = if row == Row::Standard { &limits[..] } else { &[] };
    [&wall[..], limits, program].concat()
}

/// A bundle of the host's system directories, read-only. Gives its directory.
fn runc_bundle(place: &Place, row: Row, program: &[&str]) -> Outcome<String> {
    let name = format!("runc-{row:?}-{}", program.len());
    let dir = place.path().join(&name);
    std::fs::create_dir_all(dir.join("rootfs")).map_err(|e| e.to_string())?;
    let bind = |path: &str| json!({"destination": path, "type": "none", "source": path, "options": ["rbind", "ro", "nosuid", "nodev"]});
    let memory_file = |kind: &str, at: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let mut mounts: Vec<Value> = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc"]
        .iter()
        .map(|p| bind(p))
        .collect();
    mounts.push(memory_file("proc", "/proc", &["nosuid", "noexec", "nodev"]));
    mounts.push(memory_file("tmpfs", "/dev", &["nosuid", "mode=755"]));
    mounts.push(memory_file("tmpfs", "/tmp", &["nosuid", "nodev"]));
    let namespaces: Vec<Value> = ["pid", "network", "ipc", "uts", "mount"]
        .iter()
        .map(|n| json!({"type": n}))
        .collect();
    let limits = json!({
        "memory": {"limit": 2_147_483_648_u64},
        "cpu": {"quota": 200_000, "period": 100_000},
        "pids": {"limit": 512},
    });
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 1000, "gid": 1000},
            "args": program,
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": [], "effective": [], "permitted": []},
            "noNewPrivileges": row == Row::Standard,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "sandbox",
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "resources": if row == Row::Standard { limits } else { json!({}) },
            "seccomp": if row == Row::Standard { seccomp() } else { Value::Null },
        },
    });
    std::fs::write(dir.join("config.json"), config.to_string()).map_err(|e| e.to_string())?;
    Ok(dir.display().to_string())
}

/// A filter of about the size of ours: what is dangerous is refused.
fn seccomp() -> Value {
    let refused = [
        "add_key",
        "bpf",
        "clone3",
        "io_uring_setup",
        "io_uring_enter",
        "keyctl",
        "mount",
        "move_mount",
        "open_tree",
        "perf_event_open",
        "pivot_root",
        "ptrace",
        "request_key",
        "setns",
        "umount2",
        "unshare",
        "userfaultfd",
    ];
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": refused, "action": "SCMP_ACT_ERRNO"}],
    })
}
