//! A command that is WebAssembly: a file of the host's that no kernel executes, and that the view need not show.

use super::command::written;
use super::fault::{COMMAND, run, text};
use super::view::View;
use sr_common::facts::{Command, ModuleFile};
use sr_common::module::{MOST_MODULE, ModuleKind};
use sr_common::{Backend, Fault};
use sr_policy::PolicySpec;
use sr_policy::spec::BackendChoice;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How such files are called: only so is one found by its bare name, in the current directory.
const SUFFIX: &str = ".wasm";

/// The command, if it is WebAssembly. Where the policy asks for that wall, what is none is an error.
pub(super) fn find(policy: &PolicySpec, cwd: &Path, view: &View<'_>) -> Result<Option<Command>, Fault> {
    let asked = policy.runtime.backend == BackendChoice::This(Backend::Wasm);
    let written = written(policy)?;
    // A program is not opened to find out that it is one.
    if !asked && !written.contains('/') && !written.ends_with(SUFFIX) {
        return Ok(None);
    }
    // A path is the view's first, as a program's is.
    let mut places = match Path::new(written) {
        path if path.is_absolute() => vec![view.host(path), path.to_owned()],
        path => vec![cwd.join(path)],
    };
    places.dedup();
    for place in &places {
        let Ok(source) = place.canonicalize() else { continue };
        let found = look(&source).map_err(|e| {
            let found = format!("cannot look at {}: {e}", source.display());
            run(COMMAND, found, "name a file that can be read")
        });
        match found {
            Ok(Some((kind, size))) => return command(written, source, kind, size).map(Some),
            Err(fault) if asked => return Err(fault),
            _ => {}
        }
    }
    if !asked {
        return Ok(None);
    }
    let found = match places.iter().any(|place| place.exists()) {
        true => format!("{written} is no WebAssembly: it does not begin with \\0asm and a version that is known"),
        false => format!("there is no file {written}"),
    };
    Err(run(
        COMMAND,
        found,
        "name a module or a component, compiled; or write another backend",
    ))
}

/// What a regular file is, and its size; `None`: no WebAssembly.
fn look(file: &Path) -> std::io::Result<Option<(ModuleKind, u64)>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut preamble = Vec::new();
    let file = File::open(file)?;
    (&file).take(8).read_to_end(&mut preamble)?;
    Ok(ModuleKind::of(&preamble).zip(Some(file.metadata()?.len())))
}

fn command(written: &str, source: PathBuf, kind: ModuleKind, size: u64) -> Result<Command, Fault> {
    if size > MOST_MODULE {
        let found = format!("{} has {size} bytes, and {MOST_MODULE} are the most", source.display());
        return Err(run(
            COMMAND,
            found,
            "take out what it does not need (wasm-opt, wasm-strip)",
        ));
    }
    let source = text(&source, COMMAND)?;
    Ok(Command {
        written: written.to_owned(),
        path: source.clone(),
        interpreters: Vec::new(),
        prefixes: Vec::new(),
        path_dirs: Vec::new(),
        module: Some(ModuleFile { kind, source }),
    })
}
