//! Packages of a release of Debian's that need not be this host's, fetched without being installed and without root: by the
//! host's own lists where these will do, else by lists of the caller's own, from where the host's own packages come.
//! Signatures and digests are apt's own business.

use crate::fault::{fault, on};
use crate::tool;
use sr_common::Fault;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const STAGE: &str = "build.apt";

pub struct Apt {
    dir: PathBuf,
    options: Vec<OsString>,
    /// Whether the lists are those that were fetched for this.
    fresh: bool,
    /// Not this host's own release.
    codename: Option<String>,
}

impl Apt {
    /// Of the release `codename`, or of this host's own; what has to be kept meanwhile is in `dir`, which is made.
    pub fn of(codename: Option<&str>, dir: &Path) -> Result<Apt, Fault> {
        let here = own_codename();
        let codename = codename.filter(|name| here.as_deref() != Some(name));
        let partial = dir.join("cache/archives/partial");
        fs::create_dir_all(&partial).map_err(on(&partial))?;
        let mut apt = Apt {
            dir: dir.to_owned(),
            options: vec![
                option("Dir::Cache", &dir.join("cache")),
                // Nothing is installed: what a package needs is all of it.
                option("Dir::State::status", Path::new("/dev/null")),
                "-oAPT::Install-Recommends=false".into(),
                // Its user need not reach this directory.
                "-oAPT::Sandbox::User=root".into(),
            ],
            fresh: false,
            codename: codename.map(str::to_owned),
        };
        if let Some(codename) = codename {
            let source = dir.join("sources.list");
            let lines = sources(here.as_deref().unwrap_or_default(), codename)?;
            fs::write(&source, lines).map_err(on(&source))?;
            apt.options.push(option("Dir::Etc::sourcelist", &source));
            apt.options
                .push(option("Dir::Etc::sourceparts", Path::new("/dev/null")));
            apt.refresh()?;
        }
        Ok(apt)
    }

    /// Which release the packages are of, where it is not this host's.
    pub fn codename(&self) -> Option<&str> {
        self.codename.as_deref()
    }

    /// Into `to`, which is empty. Lists that are too old name files that are no more.
    pub fn download(&mut self, to: &Path, packages: &[&str]) -> Result<Vec<PathBuf>, Fault> {
        self.asked(|apt| {
            let mut command = apt.command("apt-get");
            command.args(["download", "-q"]).args(packages).current_dir(to);
            tool::output(STAGE, "apt-get", "apt", &mut command)
        })?;
        let entries = fs::read_dir(to).map_err(on(to))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "deb"));
        files.sort();
        Ok(files)
    }

    /// The first package of which `package` says that it depends on it, and whose name begins so.
    pub fn dependency(&mut self, package: &str, beginning: &str) -> Result<String, Fault> {
        self.asked(|apt| {
            let mut command = apt.command("apt-cache");
            command.args(["depends", package]);
            let text = tool::output(STAGE, "apt-cache", "apt", &mut command)?;
            dependency(&String::from_utf8_lossy(&text), beginning).ok_or_else(|| {
                let found = format!("apt knows no {package} that depends on {beginning}*");
                fault(
                    STAGE,
                    found,
                    "this is made of Debian's packages: see that apt's sources are Debian's",
                )
            })
        })
    }

    /// `packages` and all that they depend on, by name.
    pub fn closure(&mut self, packages: &[&str]) -> Result<Vec<String>, Fault> {
        let text = self.asked(|apt| {
            let mut command = apt.command("apt-get");
            command.args(["install", "--simulate", "-q"]).args(packages);
            tool::output(STAGE, "apt-get", "apt", &mut command)
        })?;
        Ok(installed(&String::from_utf8_lossy(&text)))
    }

    /// Once more by fresh lists where the host's own will not do.
    fn asked<T>(&mut self, ask: impl Fn(&Apt) -> Result<T, Fault>) -> Result<T, Fault> {
        match ask(self) {
            Err(_) if !self.fresh => {
                self.refresh()?;
                ask(self)
            }
            done => done,
        }
    }

    /// Lists of one's own.
    fn refresh(&mut self) -> Result<(), Fault> {
        let lists = self.dir.join("lists");
        let partial = lists.join("partial");
        fs::create_dir_all(&partial).map_err(on(&partial))?;
        self.options.push(option("Dir::State", &self.dir));
        self.options.push(option("Dir::State::lists", &lists));
        self.options.push(option("Dir::State::status", Path::new("/dev/null")));
        self.options.push("-oAcquire::Languages=none".into());
        self.fresh = true;
        let mut command = self.command("apt-get");
        tool::output(STAGE, "apt-get", "apt", command.args(["update", "-q"])).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = tool::command(program);
        command.args(&self.options);
        command
    }
}

fn option(name: &str, path: &Path) -> OsString {
    let mut option = OsString::from(format!("-o{name}="));
    option.push(path);
    option
}

fn own_codename() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// Where packages of `codename` come from: from where this host's own, of the release `here`, do; its security updates too.
fn sources(here: &str, codename: &str) -> Result<String, Fault> {
    let mut command = tool::command("apt-get");
    command.args(["indextargets", "--format", "$(CODENAME) $(REPO_URI)"]);
    let text = tool::output(STAGE, "apt-get", "apt", &mut command)?;
    lines(&String::from_utf8_lossy(&text), here, codename).ok_or_else(|| {
        let found = format!("apt names no place that has packages of {here:?}");
        fault(
            STAGE,
            found,
            "this is made of Debian's packages: see that apt's sources are Debian's",
        )
    })
}

fn lines(text: &str, here: &str, codename: &str) -> Option<String> {
    let mut lines = format!("deb {} {codename} main\n", of_codename(text, here)?);
    // Backports are a part of a release, and have none of their own.
    let security = of_codename(text, &format!("{here}-security")).filter(|_| !codename.contains('-'));
    if let Some(security) = security {
        lines += &format!("deb {security} {codename}-security main\n");
    }
    Some(lines)
}

fn of_codename(text: &str, codename: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, uri) = lines.find(|(name, _)| *name == codename)?;
    Some(uri.to_owned())
}

fn dependency(text: &str, beginning: &str) -> Option<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names
        .map(str::trim)
        .find(|name| name.starts_with(beginning))
        .map(str::to_owned)
}

/// The packages of a simulation's `Inst NAME (VERSION …)`.
fn installed(text: &str) -> Vec<String> {
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_releases_come_from_where_the_hosts_own_does() {
        let text = "twelve-security http://example.com/security/\ntwelve http://example.com/debian/\n";
        assert_eq!(
            lines(text, "twelve", "thirteen").as_deref(),
            Some(
                "deb http://example.com/debian/ thirteen main\n\
                 deb http://example.com/security/ thirteen-security main\n"
            )
        );
        let backports = "deb http://example.com/debian/ twelve-backports main\n";
        assert_eq!(lines(text, "twelve", "twelve-backports").as_deref(), Some(backports));
        let text = "twelve http://example.com/debian/\n";
        let without = "deb http://example.com/debian/ thirteen main\n";
        assert_eq!(lines(text, "twelve", "thirteen").as_deref(), Some(without));
        assert_eq!(lines(text, "thirteen", "twelve"), None);
        assert_eq!(lines("", "", "twelve"), None);
    }

    #[test]
    fn the_current_kernel_is_what_the_package_depends_on() {
        let text = "linux-image-amd64\n  Depends: linux-image-6.1.0-7-amd64\n  Recommends: other\n";
        assert_eq!(
            dependency(text, "linux-image-").as_deref(),
            Some("linux-image-6.1.0-7-amd64")
        );
        assert_eq!(dependency("linux-image-amd64\n", "linux-image-"), None);
    }

    #[test]
    fn a_closure_is_what_would_be_installed() {
        let text = "Reading package lists...\nInst libc6 (2.36-9 Debian:12 [amd64])\nInst dash (0.5 Debian:12 [amd64])\n\
                    Conf libc6 (2.36-9 Debian:12 [amd64])\n";
        assert_eq!(installed(text), ["dash", "libc6"]);
    }
}
