//! What this host has of other walls than the native one. Nothing of this is on the way of a run that asks for none of them.

use crate::parts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Pid, Signal, kill_process_group};
use sr_artifact::{Artifacts, Kind};
use sr_common::facts::{ProgramFacts, WallFacts};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of what it says, so much is read.
const MOST_SAID: usize = 4096;

/// Programs that somebody named; the others are looked for.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// The init of guests; else `sr-guest` beside Safe-Run's own program.
    pub guest: Option<PathBuf>,
    /// The worker for WebAssembly; else `safe-run-wasm` beside Safe-Run's own program.
    pub wasm: Option<PathBuf>,
    pub qemu: Option<PathBuf>,
    pub runsc: Option<PathBuf>,
    pub firecracker: Option<PathBuf>,
    /// Firecracker's. Nothing runs it.
    pub jailer: Option<PathBuf>,
    pub cloud_hypervisor: Option<PathBuf>,
}

/// How closely programs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Whether they are there.
    Only,
    /// They are started, each to tell its version.
    Versions,
}

/// What there is: of programs `named` ones, else those on `path`; of artifacts those of the run store at `store`, which need
/// not exist.
pub fn gather(store: &Path, named: &Programs, path: &OsStr, look: Look) -> WallFacts {
    let machine = rustix::system::uname();
    let qemu = format!("qemu-system-{}", machine.machine().to_string_lossy());
    let looked_at = |name: &str, named: Option<&PathBuf>, look| match named {
        Some(file) => look_at(file, look),
        None => match on_path(name, path) {
            Some(file) => look_at(&file, look),
            None => Looked::At(missing(format!("there is no {name} on PATH"))),
        },
    };
    let runsc = looked_at("runsc", named.runsc.as_ref(), look);
    let qemu = looked_at(&qemu, named.qemu.as_ref(), look);
    // Not all versions of these are taken.
    let cloud_hypervisor = looked_at("cloud-hypervisor", named.cloud_hypervisor.as_ref(), Look::Versions);
    let firecracker = looked_at("firecracker", named.firecracker.as_ref(), Look::Versions);
    let artifacts = Artifacts::existing(store).map(|artifacts| artifacts.list());
    // What cannot be read is not there to be used either; who asks for it by name is told why.
    let artifacts = artifacts.and_then(Result::ok).unwrap_or_default();
    let names = |kind| {
        let of_kind = artifacts.iter().filter(|artifact| artifact.kind == kind);
        let mut names: Vec<String> = of_kind.map(|artifact| artifact.name.clone()).collect();
        names.sort();
        names
    };
    let own = parts::own_program();
    let beside = |file: &dyn Fn(&Path) -> PathBuf, look| match &own {
        Ok(driver) => look_at(&file(driver), look).facts(),
        Err(fault) => missing(fault.found.clone()),
    };
    WallFacts {
        wasm: beside(&|driver| parts::worker(named, driver), look),
        runsc: runsc.facts(),
        qemu: qemu.facts(),
        cloud_hypervisor: cloud_hypervisor.facts(),
        firecracker: firecracker.facts(),
        guest: beside(&|driver| parts::agent(named, driver), Look::Only),
        kvm_blocked: sr_kernel::kvm::blocked(),
        kernels: names(Kind::Kernel),
        rootfs: names(Kind::Rootfs),
    }
}

fn missing(why: String) -> ProgramFacts {
    ProgramFacts::Missing { why }
}

/// The first executable file of that name; directories that are not absolute are anybody's and left out.
fn on_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    let absolute = std::env::split_paths(path).filter(|dir| dir.is_absolute());
    absolute.map(|dir| dir.join(name)).find(|file| executable(file))
}

fn executable(file: &Path) -> bool {
    file.is_file() && accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// A program that was looked at. Those that are asked for their version are so at the same time, so that several that hang
/// take no longer than one.
enum Looked {
    At(ProgramFacts),
    Asked {
        path: String,
        process: Child,
        until: Instant,
    },
}

fn look_at(file: &Path, look: Look) -> Looked {
    let shown = file.display();
    let Some(path) = file.to_str().filter(|_| file.is_absolute()) else {
        return Looked::At(missing(format!("{shown} is no absolute path in UTF-8")));
    };
    if !file.exists() {
        return Looked::At(missing(format!("{shown} does not exist")));
    }
    if !executable(file) {
        return Looked::At(missing(format!("{shown} is no file that this user may execute")));
    }
    // As a launch shows it.
    let real = file.canonicalize().ok();
    let path = real.as_deref().and_then(Path::to_str).unwrap_or(path).to_owned();
    if look == Look::Only {
        return Looked::At(ProgramFacts::Found { path, version: None });
    }
    match ask(file) {
        Ok(process) => Looked::Asked {
            path,
            process,
            until: Instant::now() + PATIENCE,
        },
        Err(e) => Looked::At(unstarted(&path, &e)),
    }
}

fn unstarted(path: &str, why: &std::io::Error) -> ProgramFacts {
    missing(format!("{path} does not start: {why}"))
}

fn ask(file: &Path) -> std::io::Result<Child> {
    Command::new(file)
        .arg("--version")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

impl Looked {
    fn facts(self) -> ProgramFacts {
        let (path, process, until) = match self {
            Looked::At(facts) => return facts,
            Looked::Asked { path, process, until } => (path, process, until),
        };
        match said(process, until) {
            Ok(Some(text)) => ProgramFacts::Found {
                path,
                version: version(&text),
            },
            Ok(None) => missing(format!(
                "{path} does not say its version within {} seconds",
                PATIENCE.as_secs()
            )),
            Err(e) => unstarted(&path, &e),
        }
    }
}

/// What the program says of its version; empty where that is nothing, `None` where it says nothing and does not end.
fn said(mut process: Child, until: Instant) -> std::io::Result<Option<String>> {
    let mut said = Vec::new();
    let mut hangs = false;
    if let Some(mut pipe) = process.stdout.take() {
        let mut some = [0; MOST_SAID];
        while said.len() < MOST_SAID {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut one = [PollFd::new(&pipe, PollFlags::IN)];
            if poll(&mut one, Some(&left)).unwrap_or(0) == 0 {
                hangs = said.is_empty();
                break;
            }
            match pipe.read(&mut some) {
                Ok(0) | Err(_) => break,
                Ok(n) => said.extend_from_slice(&some[..n]),
            }
        }
    }
    // All that is wanted of it was said; if it goes on, or has ended, that changes nothing. What it started goes with it.
    let leader = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
    process.wait()?;
    Ok((!hangs).then(|| String::from_utf8_lossy(&said).into_owned()))
}

/// The first word of the first line that is a number, with `v` or `release-` before it or not.
fn version(text: &str) -> Option<String> {
    let words = text.lines().next()?.split_ascii_whitespace();
    let number = |word: &&str| {
        let bare = word.strip_prefix("release-").or(word.strip_prefix('v')).unwrap_or(word);
        bare.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_graphic())
    };
    words
        .into_iter()
        .find(number)
        .map(|word| word.trim_end_matches(',').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_artifact::Provenance;
    use std::os::unix::fs::PermissionsExt;

    fn script(dir: &Path, name: &str, mode: u32, body: &str) -> PathBuf {
        let file = dir.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        file
    }

    fn examine(file: &Path, look: Look) -> ProgramFacts {
        look_at(file, look).facts()
    }

    fn why(facts: ProgramFacts) -> String {
        match facts {
            ProgramFacts::Missing { why } => why,
            found => panic!("{found:?}"),
        }
    }

    #[test]
    fn programs_are_found_and_say_their_version() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        script(
            dir.path(),
            "runsc",
            0o755,
            "[ \"$1\" = --version ] && echo runsc version release-20260101.0",
        );
        let mute = script(dir.path(), "mute", 0o755, "kill -9 $$");
        script(dir.path(), "cloud-hypervisor", 0o644, "echo v1");
        let store = at("store");
        std::fs::create_dir(&store).unwrap();
        let artifacts = Artifacts::open(&store).unwrap();
        for (kind, name) in [(Kind::Kernel, "b"), (Kind::Kernel, "a"), (Kind::Rootfs, "c")] {
            artifacts.add(&b"x"[..], kind, name, Provenance::default()).unwrap();
        }
        let named = Programs {
            firecracker: Some("firecracker".into()),
            guest: Some(at("runsc")),
            ..Programs::default()
        };
        let facts = gather(&store, &named, dir.path().as_os_str(), Look::Versions);
        let found = |name: &str, version: Option<&str>| ProgramFacts::Found {
            path: at(name).to_str().unwrap().into(),
            version: version.map(str::to_owned),
        };
        assert_eq!(facts.runsc, found("runsc", Some("release-20260101.0")));
        assert_eq!(examine(&mute, Look::Versions), found("mute", None));
        assert_eq!(why(facts.firecracker), "firecracker is no absolute path in UTF-8");
        assert_eq!(why(facts.cloud_hypervisor), "there is no cloud-hypervisor on PATH");
        assert!(why(facts.qemu).starts_with("there is no qemu-system-"));
        assert_eq!(facts.guest, found("runsc", None));
        let (kernels, rootfs) = (vec!["a".into(), "b".into()], vec!["c".into()]);
        assert_eq!((facts.kernels, facts.rootfs), (kernels, rootfs));
        let facts = gather(&store, &named, dir.path().as_os_str(), Look::Only);
        assert_eq!(facts.runsc, found("runsc", None));
        // Of which not all versions are taken.
        let firecracker = script(dir.path(), "firecracker", 0o755, "echo Firecracker v1.16.2");
        let named = Programs {
            firecracker: Some(firecracker),
            ..named
        };
        let facts = gather(&store, &named, dir.path().as_os_str(), Look::Only);
        assert_eq!(facts.firecracker, found("firecracker", Some("v1.16.2")));
    }

    #[test]
    fn what_is_named_and_cannot_be_used_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let plain = script(dir.path(), "plain", 0o644, "");
        let broken = dir.path().join("broken");
        std::fs::write(&broken, "\x7fELF").unwrap();
        std::fs::set_permissions(&broken, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(why(examine(&dir.path().join("none"), Look::Versions)).ends_with("does not exist"));
        assert!(why(examine(&plain, Look::Only)).ends_with("may execute"));
        assert!(why(examine(dir.path(), Look::Only)).ends_with("may execute"));
        assert!(why(examine(&broken, Look::Versions)).contains("does not start: "));
    }

    #[test]
    fn a_program_that_says_too_much_is_heard_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let flood = script(dir.path(), "flood", 0o755, "echo v9; while :; do echo 0123456789; done");
        assert!(matches!(examine(&flood, Look::Versions), ProgramFacts::Found { version: Some(v), .. } if v == "v9"));
    }

    /// With a second process that would keep the pipe open.
    #[test]
    fn programs_that_hang_are_waited_for_once_and_ended_with_what_they_started() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let hangs = format!("sleep 1000 & echo $! $$ >> {}; wait", pids.display());
        let named = |name| Some(script(dir.path(), name, 0o755, &hangs));
        let named = Programs {
            qemu: named("q"),
            runsc: named("r"),
            firecracker: named("f"),
            cloud_hypervisor: named("c"),
            jailer: None,
            guest: None,
            wasm: None,
        };
        let facts = gather(&dir.path().join("none"), &named, OsStr::new(""), Look::Versions);
        let all = [facts.qemu, facts.runsc, facts.firecracker, facts.cloud_hypervisor];
        for (facts, name) in all.into_iter().zip(["q", "r", "f", "c"]) {
            let expected = format!(
                "{}/{name} does not say its version within 5 seconds",
                dir.path().display()
            );
            assert_eq!(why(facts), expected);
        }
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 4, "each was started once");
        // Whoever is nobody's child any more ends in the kernel's own time.
        let ended = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ") || stat.contains(") X ")
        };
        for pid in pids.split_whitespace() {
            let looks = (0..500).take_while(|_| !ended(pid));
            let late = looks.map(|_| std::thread::sleep(Duration::from_millis(10))).count();
            assert!(late < 500, "{pid} goes on");
        }
    }

    #[test]
    fn versions_are_read_as_programs_write_them() {
        for (text, expected) in [
            (
                "QEMU emulator version 7.2.11 (Debian 1:7.2+dfsg-7)\nCopyright",
                Some("7.2.11"),
            ),
            ("Firecracker v1.7.0\n", Some("v1.7.0")),
            ("cloud-hypervisor v39.0", Some("v39.0")),
            (
                "runsc version release-20240401.0\nspec: 1.1.0",
                Some("release-20240401.0"),
            ),
            ("runsc version unknown\n1.2", None),
            ("", None),
        ] {
            assert_eq!(version(text).as_deref(), expected, "{text}");
        }
    }
}
