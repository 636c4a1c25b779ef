//! A module or component, compiled: what the same worker loads later, in another sandbox.

use crate::config::SecureSandboxConfig;
use crate::engine::{self, Purpose};
use crate::guest::Code;
use sr_common::module::{CodeSettings, MOST_MODULE, ModuleKind};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Writes to standard output what `file` is compiled to, and to standard error how many bytes that is: what passes it on may lose the
/// end of it.
///
/// # Errors
/// Why not, in words for people.
pub(super) fn compile(settings: &str, file: &Path) -> Result<(), String> {
    let settings: CodeSettings = serde_json::from_str(settings).map_err(|e| format!("--settings: {e}"))?;
    let config = SecureSandboxConfig::of_code(settings);
    config.validate().map_err(|e| e.to_string())?;
    let binary = read(file)?;
    let compiler = engine::engine(&config, Purpose::Compiler).map_err(|e| e.to_string())?;
    let code = Code::of_binary(&compiler, &binary)
        .and_then(|code| code.serialize())
        .map_err(|e| e.to_string())?;
    std::io::stdout()
        .write_all(&code)
        .map_err(|e| format!("the compiled code cannot be written: {e}"))?;
    eprintln!("{} bytes", code.len());
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let mut binary = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(MOST_MODULE + 1).read_to_end(&mut binary))
        .map_err(|e| format!("{shown}: {e}"))?;
    if binary.len() as u64 > MOST_MODULE {
        return Err(format!(
            "the module has more than {MOST_MODULE} bytes, which are the most"
        ));
    }
    match ModuleKind::of(&binary) {
        Some(_) => Ok(binary),
        None => Err("the module is none: it does not begin with \\0asm and a version that is known".to_owned()),
    }
}
