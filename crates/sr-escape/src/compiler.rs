//! The C compiler of the machine at hand, where there is one: what it makes of the cases that are in C.

use crate::Outcome;
use crate::carried;
use crate::case::Case;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Compiler {
    /// The cases' headers, and what is made.
    folder: PathBuf,
}

impl Compiler {
    /// `folder` is made when it is needed.
    pub fn new(folder: &Path) -> Compiler {
        Compiler {
            folder: folder.to_owned(),
        }
    }

    /// The case's program; an error says why there is none. Static where the machine has the archives: then it needs nothing of
    /// the view.
    pub fn compile(&self, case: &Case, text: &str) -> Outcome<PathBuf> {
        let source = self.folder.join(&case.group);
        let fault = |e: std::io::Error| format!("{}: {e}", source.display());
        fs::create_dir_all(&source).map_err(fault)?;
        for file in carried::SHARED.iter().filter(|file| file.path.ends_with(".h")) {
            let path = self.folder.join(file.path);
            fs::create_dir_all(path.parent().unwrap_or(&source)).map_err(fault)?;
            fs::write(path, file.text).map_err(fault)?;
        }
        let file = source.join(&case.name).with_extension("c");
        fs::write(&file, text).map_err(fault)?;
        let to = source.join(&case.name);
        self.cc(&file, &to, &["-static"])?
            .or_else(|_| self.cc(&file, &to, &[]).and_then(|made| made))
            .map(|()| to)
    }

    /// The outer error: there is no compiler.
    fn cc(&self, file: &Path, to: &Path, more: &[&str]) -> Outcome<Outcome> {
        let made = Command::new("cc")
            .args(["-O1", "-w", "-pthread", "-I"])
            .arg(&self.folder)
            .args(more)
            .arg("-o")
            .arg(to)
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => "there is no C compiler: no cc on PATH".to_owned(),
                _ => format!("the C compiler, cc, cannot be started: {e}"),
            })?;
        if made.status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&made.stderr);
        let why = said.lines().find(|line| line.contains("error")).or(said.lines().next());
        let why = why.unwrap_or_default().replace(&self.folder.display().to_string(), "");
        Ok(Err(format!("cc cannot compile it here: {why}")))
    }
}
