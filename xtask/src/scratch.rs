//! A directory that is gone at the end.

use crate::Outcome;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Outcome<Scratch> {
        let made = Command::new("mktemp")
            .args(["-d", "-t", &format!("safe-run-{name}.XXXXXX")])
            .output()
            .map_err(|e| format!("mktemp: {e}"))?;
        let path = String::from_utf8_lossy(&made.stdout).trim().to_owned();
        if !made.status.success() || path.is_empty() {
            return Err(format!("mktemp: {}", String::from_utf8_lossy(&made.stderr).trim()));
        }
        Ok(Scratch(PathBuf::from(path)))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A directory below.
    pub fn dir(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::fs::remove_dir_all(&self.0).is_err() && self.0.exists() {
            eprintln!("left behind: {}", self.0.display());
        }
    }
}
