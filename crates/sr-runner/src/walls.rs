//! What this host has of other walls than the native one. Nothing of this is on the way of a run that asks for none of them.

use crate::parts;
use crate::store::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use sr_artifact::{Artifacts, Kind};
use sr_common::facts::{ProgramFacts, WallFacts};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
    pub qemu: Option<PathBuf>,
    pub runsc: Option<PathBuf>,
    pub firecracker: Option<PathBuf>,
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

/// What there is: of programs `named` ones, else those on `path`; of artifacts those of `store`.
pub fn gather(store: &Store, named: &Programs, path: &OsStr, look: Look) -> WallFacts {
    let machine = rustix::system::uname();
    let qemu = format!("qemu-system-{}", machine.machine().to_string_lossy());
    let looked_at = |name: &str, named: Option<&PathBuf>, look| match named {
        Some(file) => examine(file, look),
        None => match on_path(name, path) {
            Some(file) => examine(&file, look),
            None => missing(format!("there is no {name} on PATH")),
        },
    };
    let program = |name, named| looked_at(name, named, look);
    // Not all versions of these are taken.
    let judged = |name, named| looked_at(name, named, Look::Versions);
    let artifacts = Artifacts::existing(store.path()).map(|artifacts| artifacts.list());
    // What cannot be read is not there to be used either; who asks for it by name is told why.
    let artifacts = artifacts.and_then(Result::ok).unwrap_or_default();
    let names = |kind| {
        let of_kind = artifacts.iter().filter(|artifact| artifact.kind == kind);
        let mut names: Vec<String> = of_kind.map(|artifact| artifact.name.clone()).collect();
        names.sort();
        names
    };
    WallFacts {
        runsc: program("runsc", named.runsc.as_ref()),
        qemu: program(&qemu, named.qemu.as_ref()),
        cloud_hypervisor: judged("cloud-hypervisor", named.cloud_hypervisor.as_ref()),
        firecracker: judged("firecracker", named.firecracker.as_ref()),
        guest: match parts::own_program() {
            Ok(driver) => examine(&parts::agent(named, &driver), Look::Only),
            Err(fault) => missing(fault.found),
        },
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

fn examine(file: &Path, look: Look) -> ProgramFacts {
    let shown = file.display();
    let Some(path) = file.to_str().filter(|_| file.is_absolute()) else {
        return missing(format!("{shown} is no absolute path in UTF-8"));
    };
    if !file.exists() {
        return missing(format!("{shown} does not exist"));
    }
    if !executable(file) {
        return missing(format!("{shown} is no file that this user may execute"));
    }
    let found = |version| ProgramFacts::Found {
        path: path.to_owned(),
        version,
    };
    if look == Look::Only {
        return found(None);
    }
    match said(file) {
        Ok(text) => found(version(&text)),
        Err(why) => missing(format!("{shown} does not start: {why}")),
    }
}

/// What the program says of its version within [`PATIENCE`]; empty where that is nothing.
fn said(file: &Path) -> std::io::Result<String> {
    let mut process = Command::new(file)
        .arg("--version")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    let mut said = Vec::new();
    if let Some(mut pipe) = process.stdout.take() {
        let until = Instant::now() + PATIENCE;
        let mut some = [0; MOST_SAID];
        while said.len() < MOST_SAID {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or_default();
            let mut one = [PollFd::new(&pipe, PollFlags::IN)];
            if poll(&mut one, Some(&left)).unwrap_or(0) == 0 {
                break;
            }
            match pipe.read(&mut some) {
                Ok(0) | Err(_) => break,
                Ok(n) => said.extend_from_slice(&some[..n]),
            }
        }
    }
    // All that is wanted of it was said; if it goes on, or has ended, that changes nothing.
    let _ = process.kill();
    process.wait()?;
    Ok(String::from_utf8_lossy(&said).into_owned())
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
        let store = Store::open(&at("store")).unwrap();
        let artifacts = Artifacts::open(store.path()).unwrap();
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
