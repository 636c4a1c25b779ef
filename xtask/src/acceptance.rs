//! Documents that are tests: every command in a `console` block is run, its exit status and its output compared.
//!
//!     $ COMMAND            run by bash in the workspace's root, with the release build's `safe-run` on PATH
//!     ? 2                  the exit status, where it is not 0
//!     TEXT                 a line of the output, standard error included; `[..]` stands for any text
//!
//! Lines between expected ones may be missing from the document, never from the right order.

use crate::scratch::Scratch;
use crate::tally::{Tally, glob};
use crate::{Outcome, tree};
use std::path::Path;
use std::process::{Command, Stdio};

/// A command and what it must do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Case {
    line: usize,
    command: String,
    status: i32,
    output: Vec<String>,
}

pub fn acceptance(files: &[&str]) -> Outcome {
    let root = tree::root();
    let files = if files.is_empty() {
        &["docs/acceptance.md"]
    } else {
        files
    };
    tree::safe_run()?;
    for file in files {
        let (tally, outcome) = check(&root.join(file));
        println!("{file}: {}", tally.line());
        outcome?;
    }
    Ok(())
}

/// Runs every command of `document`.
pub fn check(document: &Path) -> (Tally, Outcome) {
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let outcome = (|| {
        let text = std::fs::read_to_string(document).map_err(|e| format!("{}: {e}", document.display()))?;
        let scratch = Scratch::new("acceptance")?;
        for case in cases(&text) {
            match run(&case, &scratch) {
                Ok(()) => tally.passed += 1,
                Err(why) => {
                    tally.failed += 1;
                    wrong.push(format!(
                        "   {}:{}: $ {}\n{why}",
                        document.display(),
                        case.line,
                        case.command
                    ));
                }
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    })();
    (tally, outcome)
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut inside = false;
    for (i, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && language == "console";
        } else if !inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            cases.push(Case {
                line: i + 1,
                command: command.into(),
                ..Case::default()
            });
        } else if let Some(case) = cases.last_mut() {
            match line.strip_prefix("? ").and_then(|n| n.parse().ok()) {
                Some(status) => case.status = status,
                None if line.trim().is_empty() => {}
                None => case.output.push(line.to_owned()),
            }
        }
    }
    cases
}

fn run(case: &Case, scratch: &Scratch) -> Outcome {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("timeout")
        .args(["300", "bash", "-c", &format!("{{ {}\n}} 2>&1", case.command)])
        .current_dir(tree::root())
        .env("PATH", format!("{}:{path}", tree::target().join("release").display()))
        .env("HOME_OF_TESTS", scratch.path())
        .env("SAFE_RUN_WORKDIR_BASE", scratch.path().join("store"))
        .env("SAFE_RUN_KEY_DIR", scratch.path().join("keys"))
        .env("TMPDIR", scratch.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("   bash: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = || text.lines().map(|l| format!("   | {l}\n")).collect::<String>();
    if output.status.code() != Some(case.status) {
        return Err(format!(
            "{}   {}, and {} was promised",
            shown(),
            output.status,
            case.status
        ));
    }
    let mut lines = text.lines();
    for expected in &case.output {
        let pattern = expected.trim_end().replace("[..]", "*");
        if !lines.any(|line| glob(&pattern, line.trim_end())) {
            return Err(format!("{}   without the line: {expected}", shown()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_blocks_are_cases_and_others_are_not() {
        let text = "# A\n```sh\n$ not this\n```\n```console\n$ a b\n? 3\nout [..]\n$ c\n```\n$ nor this\n";
        let case = |line, command: &str, status, output: &[&str]| Case {
            line,
            command: command.into(),
            status,
            output: output.iter().map(|s| (*s).into()).collect(),
        };
        assert_eq!(cases(text), [case(6, "a b", 3, &["out [..]"]), case(9, "c", 0, &[])]);
    }
}
