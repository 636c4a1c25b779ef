//! Packages of a release of Debian's that need not be this host's: by the host's own lists where it is, else by lists of the
//! rig's own, from where the host's own packages come. Signatures and digests are apt's own business.

use crate::{Outcome, needs};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub struct Apt {
    options: Vec<OsString>,
}

impl Apt {
    /// Of the release `codename`; what has to be kept meanwhile is in `dir`.
    pub fn of(codename: &str, dir: &Path) -> Outcome<Apt> {
        let here = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let here = here.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        if here == Some(codename) {
            return Ok(Apt { options: Vec::new() });
        }
        let failed = |e: std::io::Error| format!("   {}: {e}", dir.display());
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(name)).map_err(failed)?;
        }
        let archive = archive(here.unwrap_or_default())?;
        let source = dir.join("sources.list");
        fs::write(&source, format!("deb {archive} {codename} main\n")).map_err(failed)?;
        let place = |option: &str, path: &Path| {
            let mut option = OsString::from(format!("-o{option}="));
            option.push(path);
            option
        };
        let apt = Apt {
            options: vec![
                place("Dir::Etc::sourcelist", &source),
                place("Dir::Etc::sourceparts", Path::new("/dev/null")),
                place("Dir::State", dir),
                place("Dir::State::lists", &dir.join("lists")),
                place("Dir::State::status", Path::new("/dev/null")),
                place("Dir::Cache", &dir.join("cache")),
                "-oAcquire::Languages=none".into(),
                // Its user need not reach this directory.
                "-oAPT::Sandbox::User=root".into(),
            ],
        };
        apt.update()?;
        Ok(apt)
    }

    /// Into `to`. Lists that are too old name files that are no more.
    pub fn download(&self, to: &Path, packages: &[&str]) -> Outcome {
        let once = || {
            let mut command = self.command("apt-get");
            needs::run(command.args(["download", "-q"]).args(packages).current_dir(to))
        };
        once().or_else(|_| self.update().and_then(|()| once()))
    }

    pub fn update(&self) -> Outcome {
        needs::run(self.command("apt-get").args(["update", "-q"]))
    }

    /// What `apt-cache depends` says.
    pub fn depends(&self, package: &str) -> Option<String> {
        let mut command = self.command("apt-cache");
        let output = command.args(["depends", package]).stdin(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }
}

/// Where this host's own packages of `codename` come from.
fn archive(codename: &str) -> Outcome<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)"]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("   apt-get: {e}"))?;
    of_codename(&String::from_utf8_lossy(&output.stdout), codename)
        .ok_or_else(|| format!("   apt names no place that has packages of {codename:?}: the rig is made of Debian's"))
}

fn of_codename(text: &str, codename: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, uri) = lines.find(|(name, _)| *name == codename)?;
    Some(uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::of_codename;

    #[test]
    fn other_releases_come_from_where_the_hosts_own_does() {
        let text = "twelve-security http://example.com/security/\ntwelve http://example.com/debian/\n";
        assert_eq!(
            of_codename(text, "twelve").as_deref(),
            Some("http://example.com/debian/")
        );
        assert_eq!(of_codename(text, "thirteen"), None);
        assert_eq!(of_codename("", ""), None);
    }
}
