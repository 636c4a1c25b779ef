//! A place for runs that nobody else uses: a run store, keys, a runtime directory and a working directory of one user.

use super::left::names;
use crate::Outcome;
use crate::scratch::Scratch;
use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `nobody` and `nogroup`, by number.
const NOBODY: u32 = 65534;

/// Who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Root,
    /// An ordinary user, whom root becomes.
    Nobody,
    /// Whoever started this, no root.
    Caller,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            User::Root => "as root",
            User::Nobody => "as an ordinary user",
            User::Caller => "as this user",
        })
    }
}

pub struct House {
    user: User,
    program: PathBuf,
    scratch: Scratch,
}

impl House {
    /// `built` is copied: an ordinary user may not be able to reach it.
    pub fn new(user: User, built: &Path) -> Outcome<House> {
        let scratch = Scratch::new("soak")?;
        let program = scratch.path().join("safe-run");
        fs::copy(built, &program).map_err(|e| format!("{}: {e}", built.display()))?;
        let house = House { user, program, scratch };
        house.own(house.scratch.path(), 0o755)?;
        for (name, mode) in [("work", 0o755), ("home", 0o700), ("runtime", 0o700), ("tmp", 0o700)] {
            let dir = house.scratch.dir(name)?;
            house.own(&dir, mode)?;
        }
        Ok(house)
    }

    fn own(&self, dir: &Path, mode: u32) -> Outcome {
        let id = (self.user == User::Nobody).then_some(NOBODY);
        chown(dir, id, id)
            .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(mode)))
            .map_err(|e| format!("{}: {e}", dir.display()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The run store, which the first run makes.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn safe_run(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .current_dir(self.path("work"))
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("SAFE_RUN_KEY_DIR", self.path("keys"))
            .env("SAFE_RUN_WORKDIR_BASE", self.store());
        if self.user == User::Nobody {
            // The standard library gives supplementary groups away too, and the kernel capabilities.
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Runs `words` to their end; anything but success is an error that says what was said.
    pub fn must(&self, words: &[&str]) -> Outcome {
        let output = self.safe_run(words).output().map_err(|e| e.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{}: {}: {}",
                words.first().unwrap_or(&""),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    /// A run that does nothing and must succeed.
    pub fn plain_run(&self) -> Outcome {
        self.must(&["run", "--quiet", "--timeout", "60s", "--", "/bin/true"])
    }

    /// The ids of all runs in the store, oldest first.
    pub fn runs(&self) -> Vec<String> {
        names(&self.store().join("runs"))
    }

    /// The exit status of `report verify`.
    pub fn verify(&self, run: &str) -> Outcome<i32> {
        let output = self.safe_run(&["report", "verify", run]).output();
        let output = output.map_err(|e| e.to_string())?;
        let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output
            .status
            .code()
            .filter(|code| [0, 1, 3].contains(code))
            .ok_or_else(|| format!("report verify: {}: {}", output.status, said()))
    }

    /// All of `runs` must verify.
    pub fn all_verify(&self, runs: &[String]) -> Outcome {
        match runs.iter().find(|run| self.verify(run) != Ok(0)) {
            None => Ok(()),
            Some(run) => Err(format!("run {run} does not verify: {:?}", self.verify(run))),
        }
    }
}
