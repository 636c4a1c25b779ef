//! `cargo xtask rig`: another kernel. A virtual machine with Debian's generic kernel (control groups of version 2,
//! AppArmor or SELinux, an older Landlock), the host's files for its own, and whatever is to run there.

mod batch;
mod initramfs;
mod kernel;
mod machine;

use crate::stage::{self, Shown};
use crate::tally::Tally;
use crate::{Outcome, binaries, escape, needs, plain, tree};
use batch::{Corpus, Results, Run};
use kernel::{Parts, Series};
pub use machine::MARKER;
use machine::{Lines, Mac, Machine, Processors, pass_on};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// How long a command of somebody's own may take.
const COMMAND: Duration = Duration::from_secs(30 * 60);
/// How long the tests may take, on a host that is busy with other things.
const TESTS: Duration = Duration::from_secs(20 * 60);
/// And those that boot guests within it, with monitors that somebody named.
const NESTED: Duration = Duration::from_secs(3 * 60 * 60);

/// `rig [--yes] [--selinux | --trixie | --kvm] -- CMD…`: the command; without one: the tests, or those of that boot alone.
pub fn rig(words: &[&str]) -> Outcome {
    let at = words.iter().position(|w| *w == "--").unwrap_or(words.len());
    let (options, command) = words.split_at(at);
    if let Some(unknown) = options
        .iter()
        .find(|o| !["--yes", "--selinux", "--trixie", "--kvm"].contains(o))
    {
        return Err(format!("xtask rig does not know {unknown}: a command comes after --"));
    }
    let yes = options.contains(&"--yes") || std::env::var("CI").is_ok_and(|v| v == "true");
    let has = |option| options.contains(&option);
    let (series, mac) = match (has("--trixie"), has("--selinux")) {
        (false, false) => (Series::Bookworm, Mac::AppArmor),
        (false, true) => (Series::Bookworm, Mac::Selinux),
        (true, false) => (Series::Trixie, Mac::AppArmor),
        (true, true) => return Err("xtask rig: --selinux or --trixie".into()),
    };
    match command {
        [_, ..] if has("--kvm") => Err("xtask rig: --kvm is tests; a command is one without it".into()),
        [] => {
            let mut counted = Tally::default();
            let done = stage::step("the tests on the rig's kernel", || {
                let (tally, outcome) = match (series, mac) {
                    _ if has("--kvm") => with_kvm(yes),
                    (Series::Bookworm, Mac::AppArmor) => tests(yes),
                    (Series::Bookworm, Mac::Selinux) => selinux(yes),
                    (Series::Trixie, _) => trixie(yes),
                };
                counted = tally;
                outcome
            });
            for skip in &counted.skips {
                println!("skipped: {}: {}", skip.test, skip.reason);
            }
            println!("{}", counted.line());
            done.ok_or_else(|| "the rig's tests failed".into())
        }
        [_] => Err("xtask rig: there is no command after --".into()),
        [_, command @ ..] => run(command, series, mac, yes),
    }
}

/// Runs a command as root in this directory, and ends as it does.
fn run(command: &[&str], series: Series, mac: Mac, yes: bool) -> Outcome {
    let parts = parts(series, yes)?;
    let here = std::env::current_dir().map_err(|e| format!("the current directory: {e}"))?;
    let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    let script = format!("cd {} && exec {}", quoted(utf8(&here)?), words.join(" "));
    let machine = Machine::start(&parts, mac, Processors::Two, &script, "rig-command")?;
    eprintln!(
        "rig: Linux {} is up after {}",
        parts.release,
        plain::seconds(machine.took)
    );
    let status = machine.finish(COMMAND, pass_on)?;
    std::process::exit(status)
}

/// The tests that meet another kernel there, and what of the escape corpus harms a machine, in one boot; in two others
/// those of SELinux, and those of AppArmor on Debian's next kernel; in one more those of monitors that need KVM, where their
/// programs are named.
pub fn tests(yes: bool) -> (Tally, Outcome) {
    let named = escape::Part::with_kvm().is_some();
    let (mut tally, outcome, record) = Boot {
        series: Series::Bookworm,
        mac: Mac::AppArmor,
        tests: batch::TESTS,
        corpus: Some(escape::Part::harmful()),
        log: "rig",
    }
    .run(yes);
    // What is compared is what a whole run said.
    let outcome = outcome.and_then(|()| escape::compared(&escape::Record::parse(&record)?));
    let mut others = vec![selinux(yes), trixie(yes)];
    if named {
        others.push(with_kvm(yes));
    }
    let others = others.into_iter().map(|(more, outcome)| {
        tally.add(more);
        outcome
    });
    let wrong: Vec<String> = others.chain([outcome]).filter_map(Outcome::err).collect();
    let outcome = match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    };
    (tally, outcome)
}

/// The tests that meet SELinux.
fn selinux(yes: bool) -> (Tally, Outcome) {
    let (tally, outcome, _) = Boot {
        series: Series::Bookworm,
        mac: Mac::Selinux,
        tests: batch::SELINUX,
        corpus: None,
        log: "rig-selinux",
    }
    .run(yes);
    (tally, outcome)
}

/// The tests that meet Debian 13's kernel, by its parser.
fn trixie(yes: bool) -> (Tally, Outcome) {
    let (tally, outcome, _) = Boot {
        series: Series::Trixie,
        mac: Mac::AppArmor,
        tests: batch::TRIXIE,
        corpus: None,
        log: "rig-trixie",
    }
    .run(yes);
    (tally, outcome)
}

/// The tests that meet monitors that need KVM, with QEMU's, and a sample of the escape corpus behind those that are named.
fn with_kvm(yes: bool) -> (Tally, Outcome) {
    let Some(part) = escape::Part::with_kvm() else {
        let why = "   --kvm is for real programs: none of SAFE_RUN_FIRECRACKER, SAFE_RUN_CLOUD_HYPERVISOR names one";
        return (Tally::default(), Err(why.into()));
    };
    let (tally, outcome, _) = Boot {
        series: Series::Bookworm,
        mac: Mac::AppArmor,
        tests: batch::WITH_KVM,
        corpus: Some(part),
        log: "rig-kvm",
    }
    .run(yes);
    (tally, outcome)
}

/// A part of the escape corpus, in a boot of its own: how that ended, and what came of it until then.
pub fn corpus(part: escape::Part) -> (Outcome, Outcome<escape::Record>) {
    let (_, outcome, record) = Boot {
        series: Series::Bookworm,
        mac: Mac::AppArmor,
        tests: &[],
        corpus: Some(part),
        log: "rig-escape",
    }
    .run(false);
    (outcome, escape::Record::parse(&record))
}

/// One boot, and what runs in it.
struct Boot<'a> {
    series: Series,
    mac: Mac,
    tests: &'a [Run<'a>],
    /// What of the escape corpus runs there, last.
    corpus: Option<escape::Part>,
    /// The logs' names begin with it.
    log: &'a str,
}

impl Boot<'_> {
    /// What was counted, how it ended, and the corpus's record.
    fn run(&self, yes: bool) -> (Tally, Outcome, String) {
        let mut results = Results::default();
        let mut shown = Shown::default();
        let done = all(yes, self, &mut results, &mut shown);
        let record = std::mem::take(&mut results.record);
        let (tally, outcome) = results.end(*done.as_ref().unwrap_or(&0));
        let outcome = match (done, outcome) {
            (Err(why), Ok(())) => Err(why),
            (Err(why), Err(more)) => Err(format!("{more}\n{why}")),
            (Ok(_), outcome) => outcome,
        };
        (tally, outcome.map_err(|why| format!("{}{why}", shown.text())), record)
    }
}

fn all(yes: bool, boot: &Boot<'_>, results: &mut Results, shown: &mut Shown) -> Outcome<i32> {
    let parts = parts(boot.series, yes)?;
    let programs = match boot.tests {
        [] => Vec::new(),
        _ => binaries::test_programs(&["sr-kernel", "sr-helper", "sr-microvm", "sr-runner"])?,
    };
    // As in the tests themselves, another build can be named.
    let safe_run = match std::env::var_os("SAFE_RUN_BIN") {
        Some(given) => given.into(),
        None => tree::safe_run()?,
    };
    let xtask = std::env::current_exe().map_err(|e| format!("   this program's path: {e}"))?;
    let target = tree::target();
    let corpus = match &boot.corpus {
        Some(part) => Some(Corpus {
            xtask: &xtask,
            target: &target,
            title: part.title(),
            words: part.words(),
            named: part.build()?,
        }),
        None => None,
    };
    let nested = boot.corpus.as_ref().is_some_and(escape::Part::needs_kvm);
    let (processors, limit) = match nested {
        true => (Processors::One, NESTED),
        false => (Processors::Two, TESTS),
    };
    let script = batch::script(boot.tests, &programs, corpus.as_ref(), &safe_run, &parts.release)?;
    let log = boot.log;
    let machine = Machine::start(&parts, boot.mac, processors, &script, &format!("{log}-console"))?;
    println!(
        "   Linux {} is up after {}",
        parts.release,
        plain::seconds(machine.took)
    );
    let log = target.join(format!("xtask/{log}-tests.log"));
    let mut log = std::fs::File::create(&log).map_err(|e| format!("   {}: {e}", log.display()))?;
    let mut lines = Lines::default();
    machine.finish(limit, |_, bytes| {
        // A log that cannot be written loses nothing that decides.
        let _ = log.write_all(bytes);
        lines.push(bytes, |line| {
            if let Some(progress) = results.line(line) {
                println!("   {progress}");
            }
            shown.line(line.to_owned());
        });
    })
}

/// What the tests with virtual machines boot, fetched if it is not there.
pub fn kernel(yes: bool) -> Outcome {
    parts(Series::Bookworm, yes).map(drop)
}

fn parts(series: Series, yes: bool) -> Outcome<Parts> {
    if !cfg!(target_arch = "x86_64") {
        return Err("   the rig runs this host's programs on a kernel for x86_64: it needs a host of that kind".into());
    }
    needs::rig(yes)?;
    Parts::get(series)
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
