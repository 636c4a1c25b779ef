//! The worker: the program that compiles a module in one sandbox, and in another runs what was compiled, as its supervisor
//! says. The module is hostile; the sandbox around this process is what holds it if the engine does not.

mod compile;
mod ending;
mod posture;
mod run;
mod streams;
mod supervisor;

use crate::error::SandboxError;
use std::path::Path;

/// The engine, as the supervisor is told and records it.
const ENGINE: &str = "wasmtime 48.0.0";
/// How it ends where nothing of a module ran.
const FAILED: u8 = 1;
const USAGE: &str = "usage: safe-run-wasm compile --settings JSON FILE | safe-run-wasm run | safe-run-wasm --version";

/// Why it cannot go on, for the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    path: &'static str,
    found: String,
    remedy: &'static str,
}

impl Failure {
    /// The module or what it is to have cannot be taken.
    fn module(found: impl Into<String>, remedy: &'static str) -> Failure {
        Failure {
            path: "launch.module",
            found: found.into(),
            remedy,
        }
    }

    /// Something of this process's own failed.
    fn own(what: &str, error: impl std::fmt::Display) -> Failure {
        Failure {
            path: "run.worker",
            found: format!("{what}: {error}"),
            remedy: "the sandbox around the module may lack what its worker needs: please report this with the run's events",
        }
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Failure {
        let remedy = match &error {
            SandboxError::Entry { .. } => "run a command, which exports _start; a library has nothing to run",
            SandboxError::Directory { .. } => "see that the policy's mounts are directories that can be read",
            SandboxError::Config { .. } => "write limits under wasm: that a module can have",
            SandboxError::Import { .. } => "build the module for WASI (wasm32-wasip1, wasm32-wasip2)",
            SandboxError::Module { .. } => "run a command (wasi:cli/run) that needs no more than WASI has",
            _ => "remove the compiled code from the run store (`safe-run artifact`), so that it is compiled anew",
        };
        Failure::module(line(&error.to_string(), 1000), remedy)
    }
}

/// Does what the arguments say: the status to end with, where it returns.
pub fn main() -> u8 {
    std::panic::set_hook(Box::new(|panic| {
        // Whatever else is to be told, the supervisor sees that it was not.
        let said = line(&panic.to_string(), 1000);
        eprintln!("safe-run-wasm: a mistake of its own: {said}: please report this");
        std::process::exit(FAILED.into());
    }));
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["compile", "--settings", settings, file] => match compile::compile(settings, Path::new(file)) {
            Ok(()) => 0,
            Err(said) => {
                eprintln!("safe-run-wasm: {}", line(&said, 4000));
                FAILED
            }
        },
        ["run"] => run::run(),
        ["--version"] => {
            println!("safe-run-wasm {} ({ENGINE})", env!("CARGO_PKG_VERSION"));
            0
        }
        _ => {
            eprintln!("{USAGE}");
            2
        }
    }
}

/// One line of at most `most` characters, whatever a guest put into it.
fn line(text: &str, most: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_one_that_is_built_in() {
        let workspace = include_str!("../../../Cargo.toml");
        let (_, version) = ENGINE.split_once(' ').unwrap();
        assert!(workspace.contains(&format!("\nwasmtime = {{ version = \"={version}\"")));
    }

    #[test]
    fn what_is_told_is_one_bounded_line() {
        assert_eq!(line(" a\n  b\t\u{1b}[31mc ", 100), "a b [31mc");
        assert_eq!(line("äöü", 2), "äö");
    }
}
