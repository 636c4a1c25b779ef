//! Debian's packages as files: what they are, and what is in them.

use crate::fault::on;
use crate::provenance::Input;
use crate::tool;
use sr_common::{Digest, Fault};
use std::fs::File;
use std::path::Path;

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
