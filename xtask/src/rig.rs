//! `cargo xtask rig`: another kernel. A virtual machine with Debian's generic kernel (control groups of version 2,
//! AppArmor, an older Landlock), the host's files for its own, and whatever is to run there.

mod initramfs;
mod kernel;
mod machine;

use crate::{Outcome, needs, plain};
use kernel::Parts;
use machine::{Machine, pass_on};
use std::path::Path;
use std::time::Duration;

/// How long a command of somebody's own may take.
const COMMAND: Duration = Duration::from_secs(30 * 60);

/// `rig [--yes] -- CMD…` or `rig [--yes]`.
pub fn rig(words: &[&str]) -> Outcome {
    let at = words.iter().position(|w| *w == "--").unwrap_or(words.len());
    let (options, command) = words.split_at(at);
    if let Some(unknown) = options.iter().find(|o| **o != "--yes") {
        return Err(format!("xtask rig does not know {unknown}: a command comes after --"));
    }
    let yes = options.contains(&"--yes") || std::env::var("CI").is_ok_and(|v| v == "true");
    match command {
        ["--", command @ ..] if !command.is_empty() => run(command, yes),
        _ => Err("xtask rig: no command".into()),
    }
}

/// Runs a command as root in this directory, and ends as it does.
fn run(command: &[&str], yes: bool) -> Outcome {
    let parts = parts(yes)?;
    let here = std::env::current_dir().map_err(|e| format!("the current directory: {e}"))?;
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let script = format!("cd {} && exec {}", quoted(utf8(&here)?), words.join(" "));
    let machine = Machine::start(&parts, &script, "rig-command")?;
    eprintln!("rig: Linux {} is up after {}", parts.release, plain::seconds(machine.took));
    let status = machine.finish(COMMAND, pass_on)?;
    std::process::exit(status)
}

fn parts(yes: bool) -> Outcome<Parts> {
    needs::rig(yes)?;
    Parts::get()
}

/// As a shell reads it back as one word.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn utf8(path: &Path) -> Outcome<&str> {
    path.to_str()
        .ok_or_else(|| format!("   {} is not UTF-8: the rig cannot name it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("a b$c"), "'a b$c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
