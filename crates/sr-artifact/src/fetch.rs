//! Programs that are in no package registry: releases of Firecracker, each held to the digest that is pinned for it.

use crate::fault::{fault, on};
use crate::packed;
use crate::scratch::{self, Scratch};
use crate::tar::{Archive, EntryKind};
use crate::tool;
use serde::Serialize;
use sr_common::{Digest, Fault};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const STAGE: &str = "fetch.firecracker";
/// `DIGEST  firecracker-vVERSION-MACHINE.tgz`, the newest first.
pub const FIRECRACKER: &str = include_str!("../../../scripts/firecracker.sha256");
/// Where the project itself keeps its releases.
const OFFICIAL: &str = "https://github.com/firecracker-microvm/firecracker/releases/download";
/// Bytes in an archive, and in a program.
const MAX_ARCHIVE: u64 = 1 << 30;
const MAX_PROGRAM: u64 = 128 << 20;

/// What is fetched, and from where.
#[derive(Debug)]
pub struct Fetch<'a> {
    /// The table of pinned digests.
    pub pins: &'a str,
    /// `1.17.0` or `v1.17.0`. Left out: the newest that is pinned for this machine.
    pub version: Option<&'a str>,
    /// A directory or URL that holds the archive under its own name, instead of the official place.
    pub from: Option<&'a str>,
    /// `artifacts`: the programs come into its `bin`.
    pub to: &'a Path,
    pub proxy: Option<&'a str>,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fetched {
    pub version: String,
    /// Of the archive.
    pub digest: Digest,
    pub programs: Vec<Program>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Program {
    pub path: PathBuf,
    pub digest: Digest,
}

/// Firecracker and its jailer.
pub fn firecracker(fetch: &Fetch<'_>) -> Result<Fetched, Fault> {
    let machine = std::env::consts::ARCH;
    let (version, pinned) = pin(fetch, machine)?;
    let (bin, making) = (fetch.to.join("bin"), fetch.to.join("making"));
    for dir in [&bin, &making] {
        fs::create_dir_all(dir).map_err(on(dir))?;
    }
    // What a killed one has left.
    scratch::sweep(&making, false).map_err(on(&making))?;
    let scratch = Scratch::new(&making)?;
    let done = unpacked(fetch, &version, machine, &pinned, &bin, &scratch);
    drop(scratch);
    // Another fetch may be under way in there.
    let _ = fs::remove_dir(&making);
    done
}

fn unpacked(
    fetch: &Fetch<'_>,
    version: &str,
    machine: &str,
    pinned: &Digest,
    bin: &Path,
    scratch: &Scratch,
) -> Result<Fetched, Fault> {
    let release = format!("v{version}-{machine}");
    let name = format!("firecracker-{release}.tgz");
    let mut archive = bring(fetch, version, &name, scratch)?;
    let (digest, _) = Digest::of_reader(&mut archive).map_err(on(scratch.path()))?;
    if digest != *pinned {
        let found = format!("{name} is not the pinned one: its digest is {digest}, not {pinned}");
        return Err(fault(STAGE, found, "get it from another place; nothing of it was kept"));
    }
    archive.rewind().map_err(on(scratch.path()))?;
    let wrong = |why: String| {
        fault(
            STAGE,
            format!("{name}: {why}"),
            "get a release build; nothing of it was kept",
        )
    };
    let names = ["jailer", "firecracker"];
    let programs = take(archive, &release, names, scratch).map_err(|e| wrong(e.to_string()))?;
    let mut fetched = Fetched {
        version: version.to_owned(),
        digest,
        programs: Vec::new(),
    };
    for (name, digest) in names.iter().zip(programs) {
        let digest = digest.ok_or_else(|| {
            let member = format!("release-{release}/{name}-{release}");
            wrong(format!("it has no {member}: it is no release build"))
        })?;
        let path = bin.join(name);
        fetched.programs.push(Program { path, digest });
    }
    for (name, program) in names.iter().zip(&fetched.programs) {
        fs::rename(scratch.path().join(name), &program.path).map_err(on(&program.path))?;
    }
    Ok(fetched)
}

/// The version that is meant, and its digest.
fn pin(fetch: &Fetch<'_>, machine: &str) -> Result<(String, Digest), Fault> {
    let lines = fetch.pins.lines().filter_map(|line| {
        let (digest, file) = line.split_once("  ")?;
        let version = file
            .strip_prefix("firecracker-v")?
            .strip_suffix(&format!("-{machine}.tgz"))?;
        Some((version, Digest::parse(&format!("sha256:{digest}"))?))
    });
    let all: Vec<(&str, Digest)> = lines.collect();
    let wanted = fetch
        .version
        .map(|version| version.strip_prefix('v').unwrap_or(version));
    let found = all
        .iter()
        .find(|(version, _)| wanted.is_none_or(|wanted| wanted == *version));
    found
        .map(|(version, digest)| ((*version).to_owned(), *digest))
        .ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|(version, _)| *version).collect();
            let what = wanted.map_or_else(
                || "no release".to_owned(),
                |wanted| format!("version {wanted:?} is not pinned"),
            );
            let found = format!("{what} for {machine}; pinned are: {}", known.join(", "));
            fault(STAGE, found, "name one of these: what is not pinned is not fetched")
        })
}

/// The archive, whatever it holds.
fn bring(fetch: &Fetch<'_>, version: &str, name: &str, scratch: &Scratch) -> Result<File, Fault> {
    let to = scratch.path().join("archive");
    match fetch.from {
        None => download(fetch, &format!("{OFFICIAL}/v{version}/{name}"), "=https", &to)?,
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            download(
                fetch,
                &format!("{}/{name}", url.trim_end_matches('/')),
                "=http,https",
                &to,
            )?;
        }
        Some(dir) => {
            let from = Path::new(dir).join(name);
            let file = File::open(&from).map_err(on(&from))?;
            if !file.metadata().map_err(on(&from))?.is_file() {
                let found = format!("{} is no regular file", from.display());
                return Err(fault(STAGE, found, "name a directory that holds the archive"));
            }
            let mut copy = File::create_new(&to).map_err(on(&to))?;
            io::copy(&mut file.take(MAX_ARCHIVE), &mut copy).map_err(on(&to))?;
        }
    }
    File::open(&to).map_err(on(&to))
}

fn download(fetch: &Fetch<'_>, url: &str, protocols: &str, to: &Path) -> Result<(), Fault> {
    let mut command = tool::command("curl");
    // No configuration but this: -q is the first.
    command.args([
        "-q",
        "--fail",
        "--location",
        "--silent",
        "--show-error",
        "--connect-timeout",
        "30",
    ]);
    command.args(["--proto", protocols, "--proto-redir", protocols]);
    command.args(["--max-filesize", &MAX_ARCHIVE.to_string()]);
    if let Some(proxy) = fetch.proxy {
        // No other variable says what goes past it.
        command.args(["--proxy", proxy, "--noproxy", ""]);
    }
    command.arg("--output").arg(to).args(["--", url]);
    command.stdout(Stdio::null());
    tool::output(STAGE, "curl", "curl", &mut command)
        .map(drop)
        .map_err(|failed| match failed.found.contains("curl: ") {
            true => Fault {
                found: format!("{url}: {}", failed.found),
                remedy: "name a mirror with --from DIR or --from URL, or a proxy with SAFE_RUN_PROXY_URL".to_owned(),
                ..failed
            },
            false => failed,
        })
}

/// Unpacks these programs of a release, and no others: beside them lie symbols of debug builds. Gives the digest of each that is
/// there.
fn take<const N: usize>(
    file: File,
    release: &str,
    names: [&str; N],
    scratch: &Scratch,
) -> io::Result<[Option<Digest>; N]> {
    let bad = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut archive = Archive::new(packed::unpacked(file, 2 * MAX_ARCHIVE)?);
    let mut found = [None; N];
    while let Some(entry) = archive.entry()? {
        let member = |name: &&str| entry.path == format!("release-{release}/{name}-{release}").as_bytes();
        let Some(n) = names.iter().position(member) else {
            continue;
        };
        if entry.kind != EntryKind::File || entry.size > MAX_PROGRAM || found[n].is_some() {
            return Err(bad(format!("what it calls {} is no program", names[n])));
        }
        let path = scratch.path().join(names[n]);
        let mut to = File::options().write(true).create_new(true).mode(0o755).open(&path)?;
        let mut content = packed::Hashing::new(archive.content());
        io::copy(&mut content, &mut to)?;
        let (digest, _) = content.finish()?;
        let mut beginning = [0; 4];
        File::open(&path)?.read_exact(&mut beginning)?;
        if &beginning != b"\x7fELF" {
            return Err(bad(format!("what it calls {} is no program", names[n])));
        }
        // However the umask made it.
        to.set_permissions(fs::Permissions::from_mode(0o755))?;
        to.sync_all()?;
        found[n] = Some(digest);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pin_is_one_and_the_newest_comes_first() {
        let number = |version: &str| {
            version
                .split('.')
                .map(|part| part.parse::<u32>().unwrap())
                .collect::<Vec<_>>()
        };
        for machine in ["x86_64", "aarch64"] {
            let mut versions = Vec::new();
            for line in FIRECRACKER.lines().filter(|line| line.contains(machine)) {
                let (digest, file) = line.split_once("  ").unwrap();
                Digest::parse(&format!("sha256:{digest}")).unwrap();
                versions.push(number(file.split('-').nth(1).unwrap().trim_start_matches('v')));
            }
            assert!(
                versions.len() >= 3 && versions.is_sorted_by(|a, b| a > b),
                "{versions:?}"
            );
            let fetch = Fetch {
                pins: FIRECRACKER,
                version: None,
                from: None,
                to: Path::new("/"),
                proxy: None,
            };
            let (newest, _) = pin(&fetch, machine).unwrap();
            assert_eq!(number(&newest), versions[0]);
        }
        assert_eq!(FIRECRACKER.lines().count() % 2, 0, "each for both machines");
    }
}
