//! `safe-run doctor` about walls with a kernel of their own: what it says of programs that are missing, old, hang or talk nonsense, and
//! that it says what a launch does.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const WALLS: [&str; 4] = [
    "gvisor",
    "microvm:qemu",
    "microvm:cloud-hypervisor",
    "microvm:firecracker",
];

/// A `PATH` of stand-ins alone, and a run store that does not exist yet.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().unwrap();
        for name in ["bin", "project"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Host { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A program that notes how it was started.
    fn program(&self, name: &str, mode: u32, body: &str) {
        let file = self.at("bin").join(name);
        let text = format!(
            "#!/bin/sh\necho \"{name} $* HOME=$HOME\" >> {}\n{body}\n",
            self.text("started")
        );
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn says(&self, name: &str, version: &str) {
        self.program(name, 0o755, &format!("echo '{version}'"));
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_safe-run"));
        for part in ["GUEST", "QEMU", "RUNSC", "FIRECRACKER", "CLOUD_HYPERVISOR", "HELPER"] {
            command.env_remove(format!("SAFE_RUN_{part}"));
        }
        command
            .args(words)
            .current_dir(self.at("project"))
            .env("HOME", self.at("home"))
            .env("PATH", self.at("bin"))
            .env("SAFE_RUN_WORKDIR_BASE", self.at("store"))
            .env("SAFE_RUN_KEY_DIR", self.at("keys"))
            .env("SAFE_RUN_GUEST", self.at("bin/sr-guest"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What doctor says, when runs can start.
    fn doctor(&self) -> Value {
        json(&self.run(&["doctor", "--json"]))
    }

    /// How programs were started, sorted, and forgotten.
    fn started(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("started")).unwrap_or_default();
        let _ = fs::remove_file(self.at("started"));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn wall<'a>(told: &'a Value, name: &str) -> &'a Value {
    let all = told["walls"]["backends"].as_array().unwrap();
    all.iter().find(|wall| wall["backend"] == name).unwrap()
}

/// Of each lack of that wall the last of its path.
fn lacks(told: &Value, name: &str) -> Vec<String> {
    let all = wall(told, name)["lacks"].as_array().unwrap();
    let stage = |lack: &Value| lack["path"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    all.iter().map(stage).collect()
}

/// Why that part is missing.
fn why(told: &Value, name: &str, part: &str) -> String {
    let all = wall(told, name)["lacks"].as_array().unwrap();
    let one = all
        .iter()
        .find(|lack| lack["path"] == format!("launch.preflight.{part}"));
    one.unwrap()["found"].as_str().unwrap().to_owned()
}

#[test]
fn where_nothing_is_there_each_part_is_named_with_what_to_do() {
    let host = Host::new();
    let told = host.doctor();
    assert_eq!(told["usable"], true);
    for (name, parts) in [
        ("gvisor", &["runsc", "guest"][..]),
        ("microvm:qemu", &["qemu", "guest", "kernel"]),
        ("microvm:cloud-hypervisor", &["cloudHypervisor", "guest", "kernel"]),
        ("microvm:firecracker", &["firecracker", "guest", "kernel"]),
    ] {
        assert_eq!(lacks(&told, name), parts);
        assert_eq!(wall(&told, name)["covers"], false);
    }
    let output = host.run(&["doctor"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "  gvisor                    no       lacks runsc, guest".to_owned(),
        "  there is no runsc on PATH (gvisor)".to_owned(),
        format!("  {} does not exist (gvisor, microvm)", host.text("bin/sr-guest")),
        "    make one: safe-run artifact build kernel; or name one that `safe-run artifact list` shows".to_owned(),
        "Runs can start here.".to_owned(),
    ] {
        assert_eq!(
            text.lines().filter(|found| **found == line).count(),
            1,
            "{line}\n{text}"
        );
    }
    assert!(!host.at("store").exists() && !host.at("keys").exists());
}

#[test]
fn programs_that_are_no_good_are_told_apart() {
    let host = Host::new();
    host.says("qemu-system-x86_64", "QEMU emulator version 10.0.2");
    host.says("cloud-hypervisor", "\u{1b}[31m what?");
    host.program("runsc", 0o644, "echo runsc version release-20260101.0");
    host.says("firecracker", "Firecracker v1.16.1");
    let told = host.doctor();
    // It finds its own files where it is installed, and only the system's are shown to it.
    let outside = format!(
        "{} lies outside the system directories",
        host.text("bin/qemu-system-x86_64")
    );
    assert_eq!(why(&told, "microvm:qemu", "qemu"), outside);
    assert!(why(&told, "microvm:cloud-hypervisor", "cloudHypervisor").starts_with("it does not say its version"));
    assert!(why(&told, "microvm:firecracker", "firecracker").starts_with("version v1.16.1 is older than 1.16.2"));
    assert_eq!(why(&told, "gvisor", "runsc"), "there is no runsc on PATH");
    // Once each, with no environment of whoever asks.
    assert_eq!(
        host.started(),
        [
            "cloud-hypervisor --version HOME=",
            "firecracker --version HOME=",
            "qemu-system-x86_64 --version HOME="
        ]
    );
    let output = host
        .command(&["doctor"])
        .env("SAFE_RUN_RUNSC", host.at("bin/runsc"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        format!(
            "  {} is no file that this user may execute (gvisor)\n",
            host.text("bin/runsc")
        ),
        format!(
            "microvm:firecracker       no       {} v1.16.1 (not taken); lacks guest, kernel",
            host.text("bin/firecracker")
        ),
    ] {
        assert!(text.contains(&part), "{part}\n{text}");
    }
    assert!(!text.contains('\u{1b}') && output.status.code() == Some(0));
}

#[test]
fn programs_that_hang_are_told_of_and_ended() {
    let host = Host::new();
    for name in ["qemu-system-x86_64", "cloud-hypervisor", "runsc", "firecracker"] {
        let note = format!("echo $$ >> {}; exec /bin/sleep 1000", host.text("pids"));
        host.program(name, 0o755, &note);
    }
    let told = host.doctor();
    for (name, part, program) in [
        ("gvisor", "runsc", "runsc"),
        ("microvm:qemu", "qemu", "qemu-system-x86_64"),
        ("microvm:cloud-hypervisor", "cloudHypervisor", "cloud-hypervisor"),
        ("microvm:firecracker", "firecracker", "firecracker"),
    ] {
        let at = host.text(&format!("bin/{program}"));
        assert_eq!(
            why(&told, name, part),
            format!("{at} does not say its version within 5 seconds")
        );
    }
    assert_eq!(host.started().len(), 4);
    let pids = fs::read_to_string(host.at("pids")).unwrap();
    assert_eq!(pids.lines().count(), 4);
    for pid in pids.lines() {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&words).contains("sleep"), "{pid} goes on");
    }
}

/// An ELF file of one segment in the upper half of the addresses.
fn kernel() -> Vec<u8> {
    let mut image = vec![0; 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(0x20, &[64]);
    put(0x36, &[56]);
    put(0x38, &[1]);
    put(64, &[1]);
    put(64 + 16, &0xffff_ffff_8100_0000_u64.to_le_bytes());
    image
}

/// With all parts there, the rest is KVM's, and the same as a launch says.
#[test]
fn doctor_says_what_a_launch_does() {
    let host = Host::new();
    host.says("qemu-system-x86_64", "QEMU emulator version 10.0.2");
    host.says("cloud-hypervisor", "cloud-hypervisor v52.0");
    host.says("runsc", "runsc version release-20260101.0");
    let agree = || {
        let told = host.doctor();
        let words = ["--policy", "standard", "--json", "--", "/bin/sh"];
        let compiled = json(&host.run(&[&["compile", "--dry-run", "--backend", "all"][..], &words].concat()));
        for part in ["strongest", "host"] {
            assert_eq!(told["walls"][part], compiled[part]);
        }
        for (name, other) in WALLS.iter().zip(&compiled["backends"].as_array().unwrap()[1..]) {
            assert_eq!(other["backend"], *name);
            for part in ["covers", "lacks"] {
                assert_eq!(wall(&told, name)[part], other[part], "{name}");
            }
            let output = host.run(&["compile", "--dry-run", "--backend", name, "--", "/bin/sh"]);
            let refused = String::from_utf8(output.stderr).unwrap();
            assert!(
                wall(&told, name)["covers"] == false || !refused.contains("launch.preflight"),
                "{refused}"
            );
            for lack in wall(&told, name)["lacks"].as_array().unwrap() {
                let found = lack["found"].as_str().unwrap();
                assert!(refused.contains(found), "{name}: {found}\n{refused}");
            }
        }
        told
    };
    let told = agree();
    assert_eq!(lacks(&told, "gvisor"), ["guest"]);
    host.says("sr-guest", "never started");
    fs::write(host.at("default"), kernel()).unwrap();
    let imported = host.run(&["artifact", "import", &host.text("default")]);
    assert_eq!(imported.status.code(), Some(0), "{imported:?}");
    let told = agree();
    let kvm = told["walls"]["host"]["kvmBlocked"].is_null();
    assert_eq!(told["walls"]["host"]["kernels"][0], "default");
    for (name, covers) in WALLS.into_iter().zip([true, false, kvm, false]) {
        assert_eq!(wall(&told, name)["covers"], covers, "{name}");
    }
    let strongest = if kvm { "microvm:cloud-hypervisor" } else { "gvisor" };
    assert_eq!(told["walls"]["strongest"]["picked"], strongest);
    assert!(!host.started().iter().any(|line| line.starts_with("sr-guest")));
}
