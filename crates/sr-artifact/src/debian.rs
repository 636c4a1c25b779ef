//! Debian's packages as files: what they are, and what is in them.

use crate::fault::{fault, on};
use crate::provenance::Input;
use crate::tool;
use sr_common::{Digest, Fault};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::Stdio;

const STAGE: &str = "build.packages";

/// What a package's file says of itself, and its digest.
pub fn input(package: &Path) -> Result<Input, Fault> {
    let mut command = tool::command("dpkg-deb");
    command
        .args(["--show", "--showformat", "${Package}\t${Version}"])
        .arg(package);
    let text = tool::output(STAGE, "dpkg-deb", "dpkg", &mut command)?;
    let text = String::from_utf8_lossy(&text);
    let (name, version) = text.split_once('\t').unwrap_or((&text, ""));
    let (digest, _) = File::open(package).and_then(Digest::of_reader).map_err(on(package))?;
    Ok(Input {
        name: name.to_owned(),
        version: Some(version.trim_end().to_owned()),
        digest: Some(digest),
    })
}

/// Its files, below `to`. None of its scripts run.
pub fn unpack(package: &Path, to: &Path) -> Result<(), Fault> {
    let mut command = tool::command("dpkg-deb");
    command.arg("--extract").arg(package).arg(to);
    tool::output(STAGE, "dpkg-deb", "dpkg", &mut command).map(drop)
}

/// Has its archive of files read; what is wrong with that, or with the package, is told.
pub fn read(package: &Path, read: impl FnOnce(&mut dyn Read) -> io::Result<()>) -> Result<(), Fault> {
    let mut command = tool::command("dpkg-deb");
    command
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| tool::missing(STAGE, "dpkg-deb", "dpkg", &e))?;
    let done = match child.stdout.take() {
        Some(mut output) => read(&mut output).and_then(|()| io::copy(&mut output, &mut io::sink()).map(drop)),
        None => Ok(()),
    };
    let output = child.wait_with_output().map_err(on(package))?;
    // Why a reader went away is the reader's to say.
    done.map_err(|e| {
        fault(
            STAGE,
            e.to_string(),
            "see that there is room, and that apt's sources are Debian's",
        )
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(tool::failed(
            STAGE,
            "dpkg-deb",
            &output.status.to_string(),
            &output.stderr,
        )),
    }
}
