//! `cargo xtask test`: all that CI checks, step by step; the last line is the sum.

use crate::binaries::{self, Unprivileged};
use crate::stage::{self, step};
use crate::tally::{Allowed, Reader, Skip, Tally};
use crate::{Outcome, acceptance, alone, escape, needs, plain, rig, soak, tree};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Crates whose tests meet the kernel, or make what needs no root: they run again as an ordinary user.
const ON_THE_KERNEL: [&str; 6] = [
    "sr-kernel",
    "sr-process",
    "sr-microvm",
    "sr-runner",
    "sr-artifact",
    "sr-cli",
];

pub fn test(options: &[&str]) -> Outcome {
    if let Some(unknown) = options.iter().find(|o| !["--yes", "--quick"].contains(o)) {
        return Err(format!("xtask test does not know {unknown}"));
    }
    let start = Instant::now();
    let yes = options.contains(&"--yes") || std::env::var("CI").is_ok_and(|v| v == "true");
    let quick = options.contains(&"--quick");
    let allowed = tree::root().join("tests/allowed-skips.txt");
    let allowed = std::fs::read_to_string(&allowed).map_err(|e| format!("{}: {e}", allowed.display()))?;
    let allowed = Allowed::parse(&allowed)?;
    let mut sum = Sum::default();

    sum.stage("what the checks need", || needs::packages(yes));
    sum.stage("a kernel for virtual machines", || rig::kernel(yes));
    let python = step("second verifiers (Python)", needs::python);
    sum.count(python.is_some());
    sum.stage("gVisor's runsc", || needs::runsc().map(drop));
    sum.stage("the agent of guests", || alone::GUEST.install());
    sum.stage("the worker for WebAssembly", || alone::WASM.install());
    sum.stage("cargo fmt --check", || {
        cargo(&["fmt", "--all", "--", "--check", "-l"], "fmt", 2)
    });
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    sum.stage("cargo clippy -D warnings", || cargo(&clippy, "clippy", 15));
    if !quick {
        sum.stage("cargo deny check bans licenses sources", deny);
    }
    let who = if tree::is_root() { "as root" } else { "as this user" };
    sum.tests(&format!("cargo test --workspace, {who}"), || {
        workspace_tests(python.as_deref())
    });
    sum.tests("cargo test of the worker for WebAssembly", worker_tests);
    if !quick {
        if tree::is_root() {
            sum.tests("the tests on the kernel, as an ordinary user", unprivileged_tests);
        } else {
            let reason = "not started by root: the tests ran as an ordinary user only".to_owned();
            sum.tally.skips.push(Skip {
                test: "as-root".into(),
                reason,
            });
        }
        sum.stage("cargo build --release", || {
            cargo(&[&["build"], tree::RELEASE].concat(), "release", 15)
        });
        sum.tests("docs/acceptance.md, every command", || {
            acceptance::check(&tree::root().join("docs/acceptance.md"))
        });
        sum.tests("the tests on the rig's kernel", || rig::tests(yes));
        sum.tests("the escape corpus, every case", escape::check);
        sum.stage("cargo xtask soak --sample", || soak::soak(&["--sample"]));
    }
    sum.end(&allowed, start)
}

/// What was counted, and the steps that failed.
#[derive(Default)]
struct Sum {
    tally: Tally,
    failed: Vec<String>,
}

impl Sum {
    /// A step that counts as one only where it fails.
    fn stage(&mut self, name: &str, work: impl FnOnce() -> Outcome) {
        let done = step(name, work);
        if done.is_none() {
            self.failed.push(name.to_owned());
        }
        self.count(done.is_some());
    }

    /// A step of tests, which count themselves.
    fn tests(&mut self, name: &str, work: impl FnOnce() -> (Tally, Outcome)) {
        let mut tally = Tally::default();
        let done = step(name, || {
            let (counted, outcome) = work();
            println!("   {}", counted.line());
            tally = counted;
            outcome
        });
        if done.is_none() {
            self.failed.push(name.to_owned());
            // What does not even come to a summary is a failure too.
            tally.failed = tally.failed.max(1);
        }
        self.tally.add(tally);
    }

    fn count(&mut self, ok: bool) {
        if !ok {
            self.tally.failed += 1;
        }
    }

    fn end(mut self, allowed: &Allowed, start: Instant) -> Outcome {
        self.tally.skips.sort();
        for skip in &self.tally.skips {
            let unlisted = !allowed.allows(skip);
            println!(
                "skipped: {}: {}{}",
                skip.test,
                skip.reason,
                if unlisted {
                    "   ← NOT in tests/allowed-skips.txt"
                } else {
                    ""
                }
            );
            if unlisted {
                self.failed.push(format!("skip of {}", skip.test));
            }
        }
        for failed in self.failed.iter().chain(&self.tally.failures) {
            println!("FAILED: {failed}");
        }
        println!("all steps in {}", plain::seconds(start.elapsed()));
        let ok = self.failed.is_empty() && self.tally.failed == 0;
        println!("{}", self.tally.line());
        // The line above is the last one; the exit status says the rest.
        if ok { Ok(()) } else { std::process::exit(1) }
    }
}

fn base(words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(words)
        .current_dir(tree::root())
        .env("CARGO_TERM_COLOR", "never")
        .env("INSTA_UPDATE", "no");
    command
}

fn cargo(words: &[&str], log: &str, minutes: u32) -> Outcome {
    stage::run(&mut base(words), log, minutes * MINUTE, |_| None)
}

fn deny() -> Outcome {
    let mut command = Command::new(needs::cargo_deny()?);
    command
        .args(["--color", "never", "check", "bans", "licenses", "sources"])
        .current_dir(tree::root());
    stage::run(&mut command, "deny", 5 * MINUTE, |_| None)
}

fn workspace_tests(python: Option<&Path>) -> (Tally, Outcome) {
    // The engine is built once, as the worker has it.
    let words = [
        "test",
        "--workspace",
        "--exclude",
        "sr-wasm",
        "--no-fail-fast",
        "--",
        "--show-output",
    ];
    let mut command = base(&words);
    if let Some(python) = python {
        command.env("SAFE_RUN_TEST_PYTHON", python);
    }
    counted(&mut command, "test")
}

fn worker_tests() -> (Tally, Outcome) {
    let mut command = alone::WASM.cargo("test");
    command
        .args(["--no-fail-fast", "--", "--show-output"])
        .env("CARGO_TERM_COLOR", "never");
    counted(&mut command, "wasm")
}

/// Runs tests, each program's figures as it ends.
fn counted(command: &mut Command, log: &str) -> (Tally, Outcome) {
    let mut reader = Reader::default();
    let mut program = String::new();
    let outcome = stage::run(command, log, 25 * MINUTE, |line| {
        if let Some(name) = running(line) {
            program = name;
        }
        reader.line(line).map(|counts| format!("{program}: {counts}"))
    });
    (reader.tally, outcome)
}

/// `Running tests/cases.rs (target/debug/deps/cases-0a1b)` → `cases`, `Doc-tests sr_policy` → `sr_policy, documentation`.
fn running(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name}, documentation"));
    }
    let path = line.strip_prefix("Running ")?.rsplit_once('(')?.1.trim_end_matches(')');
    let file = Path::new(path).file_name()?.to_str()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned())
}

fn unprivileged_tests() -> (Tally, Outcome) {
    let mut tally = Tally::default();
    let outcome = (|| {
        let programs = binaries::test_programs(&ON_THE_KERNEL)?;
        let user = Unprivileged::new()?;
        let built: PathBuf = tree::target().join("debug/safe-run");
        user.check(&built)?;
        let mut failed = Vec::new();
        for program in &programs {
            let mut reader = Reader::default();
            let mut command = user.command(&program.path, &program.dir);
            command.arg("--show-output");
            let log = format!("user-{}", program.name.replace(' ', "-"));
            let outcome = stage::run(&mut command, &log, 10 * MINUTE, |line| {
                reader.line(line).map(|counts| format!("{}: {counts}", program.name))
            });
            if let Err(why) = outcome {
                failed.push(why);
                reader.tally.failed = reader.tally.failed.max(1);
            }
            tally.add(reader.tally);
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(failed.join("\n"))
        }
    })();
    (tally, outcome)
}

#[cfg(test)]
mod tests {
    use super::running;

    #[test]
    fn names_of_test_programs() {
        assert_eq!(
            running("     Running tests/cases.rs (target/debug/deps/cases-0a1b)").as_deref(),
            Some("cases")
        );
        assert_eq!(
            running("   Doc-tests sr_policy").as_deref(),
            Some("sr_policy, documentation")
        );
        assert_eq!(running("running 3 tests"), None);
    }
}
