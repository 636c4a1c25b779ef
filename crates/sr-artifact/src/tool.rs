//! Programs of the host's that do a part of the work, and what to install where one is missing.

use crate::fault::fault;
use sr_common::Fault;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Debian keeps programs for administrators where an ordinary user's PATH does not look.
const ADMINISTRATORS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// A command of `program`, which is in Debian's `package`. Its messages are in no language but the one that is read here.
pub(crate) fn command(program: &str) -> Command {
    let found = ADMINISTRATORS.map(|dir| PathBuf::from(dir).join(program));
    let path = found.into_iter().find(|path| path.is_file());
    let mut command = Command::new(path.unwrap_or_else(|| program.into()));
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Why it could not be started.
pub(crate) fn missing(stage: &str, program: &str, package: &str, error: &io::Error) -> Fault {
    // A directory of PATH that may not be searched makes what is missing look like what is forbidden.
    let remedy = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => {
            format!("install it, on Debian: apt-get install {package}")
        }
        _ => format!("see that {program} can be executed"),
    };
    fault(stage, format!("{program} cannot be started: {error}"), remedy)
}

/// Runs it to its end and gives its standard output; its words are the error.
pub(crate) fn output(stage: &str, program: &str, package: &str, command: &mut Command) -> Result<Vec<u8>, Fault> {
    let output = command.output().map_err(|e| missing(stage, program, package, &e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(failed(stage, program, &output.status.to_string(), &output.stderr))
}

/// `words` are its standard error.
pub(crate) fn failed(stage: &str, program: &str, status: &str, words: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(words);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Some say first what is wrong, some last.
    let words = match lines.len() {
        0..=6 => lines.join("; "),
        more => [&lines[..3], &["…"], &lines[more - 3..]].concat().join("; "),
    };
    fault(stage, format!("{program}: {status}: {words}"), "see what it says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package_and_a_failed_one_its_words() {
        let missing = output("x", "no-such-program", "some-package", &mut command("no-such-program")).unwrap_err();
        assert_eq!(missing.path, "artifact.x");
        assert!(missing.remedy.ends_with("apt-get install some-package"), "{missing}");
        let mut sh = command("sh");
        sh.args(["-c", "echo first; echo second >&2; exit 3"]);
        let failed = output("x", "sh", "dash", &mut sh).unwrap_err();
        assert_eq!(failed.found, "sh: exit status: 3: second");
    }
}
