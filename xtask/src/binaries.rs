//! Test programs that cargo has built, and running them as a user without privileges.

use crate::scratch::Scratch;
use crate::{Outcome, tree};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `nobody` and `nogroup`, by number.
const ID: &str = "65534";

/// A test program.
#[derive(Debug)]
pub struct TestProgram {
    /// `sr-runner run_smoke`.
    pub name: String,
    pub path: PathBuf,
    /// Where cargo would start it.
    pub dir: PathBuf,
}

/// The test programs of `packages`, built if they are not.
pub fn test_programs(packages: &[&str]) -> Outcome<Vec<TestProgram>> {
    let output = Command::new("cargo")
        .args([
            "test",
            "--workspace",
            "--exclude",
            "sr-wasm",
            "--no-run",
            "--quiet",
            "--message-format",
            "json",
        ])
        .current_dir(tree::root())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err("the tests do not build".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|m| program(&m, packages)).collect())
}

fn program(message: &Value, packages: &[&str]) -> Option<TestProgram> {
    if message["profile"]["test"] != Value::Bool(true) {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = dir.file_name()?.to_str()?.to_owned();
    packages.contains(&package.as_str()).then(|| TestProgram {
        name: format!("{package} {}", message["target"]["name"].as_str().unwrap_or_default()),
        path,
        dir,
    })
}

/// How to run programs as an ordinary user who owns nothing but a fresh home.
pub struct Unprivileged {
    home: PathBuf,
    /// Directories that must be reached, where a parent forbids it.
    closed: Option<(PathBuf, Vec<PathBuf>)>,
    scratch: Scratch,
}

impl Unprivileged {
    pub fn new() -> Outcome<Unprivileged> {
        let scratch = Scratch::new("user")?;
        let home = scratch.dir("home")?;
        std::os::unix::fs::chown(&home, Some(65534), Some(65534)).map_err(|e| format!("{}: {e}", home.display()))?;
        open_to_all(scratch.path())?;
        let wanted = vec![tree::root(), tree::target()];
        let closed = wanted
            .iter()
            .flat_map(|dir| dir.ancestors())
            .filter(|dir| !is_open(dir))
            .last();
        Ok(Unprivileged {
            closed: closed.map(|dir| (dir.to_owned(), wanted.clone())),
            home,
            scratch,
        })
    }

    /// `program`, as that user. Nothing of the environment goes along.
    pub fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = match &self.closed {
            None => Command::new("setpriv"),
            Some((closed, wanted)) => self.through(closed, wanted, dir),
        };
        command
            .args(["--reuid", ID, "--regid", ID, "--clear-groups", "--inh-caps=-all"])
            .arg(program);
        let temporary = self.home.join("tmp");
        // Tests say so if it is not there.
        let _ = std::fs::create_dir(&temporary);
        let _ = std::os::unix::fs::chown(&temporary, Some(65534), Some(65534));
        command.current_dir(if self.closed.is_some() { Path::new("/") } else { dir });
        command
            .env_clear()
            .env("HOME", &self.home)
            .env("TMPDIR", temporary)
            .env("CARGO_MANIFEST_DIR", dir);
        command
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .env("INSTA_UPDATE", "no");
        command
    }

    /// The workspace lies where the user may not go, such as below root's home: in a mount namespace of its own, the
    /// closed directory is laid over by an empty one that holds what the tests need.
    fn through(&self, closed: &Path, wanted: &[PathBuf], dir: &Path) -> Command {
        const SCRIPT: &str = "\
hold=$1 closed=$2 dir=$3 root=$4 target=$5; shift 5; umask 022
mkdir -p $hold/root $hold/target
mount --bind \"$root\" $hold/root; mount --bind \"$target\" $hold/target
mount -t tmpfs -o mode=755 tmpfs \"$closed\"
mkdir -p \"$root\"; mount --move $hold/root \"$root\"
mkdir -p \"$target\"; mount --move $hold/target \"$target\"
cd \"$dir\"; exec setpriv \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec", SCRIPT, "sh"]);
        command
            .arg(self.scratch.path().join("hold"))
            .arg(closed)
            .arg(dir)
            .args(wanted);
        command
    }

    /// Whether that user can run what was built.
    pub fn check(&self, program: &Path) -> Outcome {
        let test = self
            .command(Path::new("test"), Path::new("/"))
            .arg("-x")
            .arg(program)
            .status();
        match test {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!(
                "{} cannot be run by an ordinary user: see its mode and its directories'",
                program.display()
            )),
        }
    }
}

fn mode(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).ok().map(|m| m.permissions().mode())
}

fn is_open(dir: &Path) -> bool {
    mode(dir).is_none_or(|mode| mode & 0o001 != 0)
}

fn open_to_all(dir: &Path) -> Outcome {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", dir.display()))
}
