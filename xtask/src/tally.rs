//! What test programs say about themselves: passed, failed, skipped and why; and which skips are allowed.
//!
//! A test that meets a host where it cannot run prints `SKIP <test>: <reason>`. libtest counts it as passed; here it is
//! a skip. Ignored tests are skips too.

use std::collections::BTreeSet;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skip {
    pub test: String,
    pub reason: String,
}

/// The sum of what was read.
#[derive(Debug, Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    /// The tests that failed, by name.
    pub failures: Vec<String>,
    pub skips: Vec<Skip>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
    }

    /// As a test program would have said it, for [`Reader`]; with `why` it failed.
    pub fn as_test_program(&self, why: &str) -> String {
        let mut text = String::new();
        for Skip { test, reason } in &self.skips {
            text += &format!("test {test} ... ignored, {reason}\n");
        }
        for test in &self.failures {
            text += &format!("test {test} ... FAILED\n");
        }
        if !why.is_empty() {
            text += &format!("\nfailures:\n\n{}\n\n", why.trim_end());
        }
        let word = if why.is_empty() { "ok" } else { "FAILED" };
        let (passed, failed, ignored) = (self.passed, self.failed, self.skips.len());
        text + &format!("test result: {word}. {passed} passed; {failed} failed; {ignored} ignored\n")
    }

    /// The last line of `xtask test`.
    pub fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed,
            self.skips.len()
        )
    }
}

/// Reads the output of test programs that were run with `--show-output`, line by line.
#[derive(Debug, Default)]
pub struct Reader {
    pub tally: Tally,
    /// The test whose captured output is being read.
    section: Option<String>,
    /// Tests of the current program that skipped themselves.
    skipped: BTreeSet<String>,
}

impl Reader {
    /// Takes one line. Gives a summary where the line ends a test program, and the name of a test that failed.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if let Some(rest) = line.strip_prefix("---- ") {
            self.section = rest
                .strip_suffix(" stdout ----")
                .or_else(|| rest.strip_suffix(" ----"))
                .map(str::to_owned);
        } else if matches!(line, "successes:" | "failures:") {
            self.section = None;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            return Some(self.program_ended(result));
        } else if let Some(test) = failed(line) {
            self.tally.failures.push(test.to_owned());
            return Some(format!("{test} FAILED"));
        } else if let Some(skip) = self.own_skip(line) {
            if self.skipped.insert(skip.test.clone()) {
                self.tally.skips.push(skip);
            }
        } else if let Some(skip) = ignored(line) {
            self.tally.skips.push(skip);
        }
        None
    }

    fn own_skip(&self, line: &str) -> Option<Skip> {
        if let Some(reason) = line.strip_prefix("SKIPPED: ") {
            let test = self.section.clone().unwrap_or_else(|| "unnamed".into());
            return Some(Skip {
                test,
                reason: reason.trim().into(),
            });
        }
        let (test, reason) = line.strip_prefix("SKIP ")?.split_once(": ")?;
        Some(Skip {
            test: test.into(),
            reason: reason.trim().into(),
        })
    }

    fn program_ended(&mut self, result: &str) -> String {
        let number = |word: &str| -> u64 {
            result
                .split("; ")
                .find_map(|part| part.trim_end_matches('.').strip_suffix(word))
                .and_then(|part| part.trim().rsplit(' ').next())
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
        };
        let own = u64::try_from(self.skipped.len()).unwrap_or(0);
        let (passed, failed) = (number(" passed").saturating_sub(own), number(" failed"));
        let skipped = number(" ignored") + own;
        self.tally.passed += passed;
        self.tally.failed += failed;
        self.skipped.clear();
        self.section = None;
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// `test NAME ... FAILED`.
fn failed(line: &str) -> Option<&str> {
    Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.trim())
}

/// `test NAME ... ignored, REASON`.
fn ignored(line: &str) -> Option<Skip> {
    let (test, result) = line.strip_prefix("test ")?.rsplit_once(" ... ignored")?;
    // libtest writes `, REASON`, libtest-mimic `(REASON)`.
    let reason = result.trim().trim_start_matches(',').trim();
    let reason = reason
        .strip_prefix('(')
        .and_then(|r| r.strip_suffix(')'))
        .unwrap_or(reason);
    let reason = if reason.is_empty() {
        "ignored without a reason"
    } else {
        reason
    };
    Some(Skip {
        test: test.trim().into(),
        reason: reason.into(),
    })
}

/// `tests/allowed-skips.txt`: lines `test-glob: reason-glob`; `#` begins a comment.
pub struct Allowed(Vec<(String, String)>);

impl Allowed {
    pub fn parse(text: &str) -> Result<Allowed, String> {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'));
        lines
            .map(|line| match line.split_once(": ") {
                Some((test, reason)) => Ok((test.trim().to_owned(), reason.trim().to_owned())),
                None => Err(format!("allowed skips: {line:?} is not `test-glob: reason-glob`")),
            })
            .collect::<Result<_, _>>()
            .map(Allowed)
    }

    pub fn allows(&self, skip: &Skip) -> bool {
        self.0
            .iter()
            .any(|(test, reason)| glob(test, &skip.test) && glob(reason, &skip.reason))
    }
}

/// Whether `text` matches `pattern`, where `*` stands for any text.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(text) = text.strip_prefix(head) else {
        return false;
    };
    let starts = text.char_indices().map(|(i, _)| i).chain([text.len()]);
    starts
        .into_iter()
        .any(|i| text.get(i..).is_some_and(|tail| glob(rest, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test a ... ok
test group::b ... ok
test c ... ignored, needs a drum
test d ... FAILED

successes:

---- group::b stdout ----
SKIP group::b: no cgroup v2 here
some more

failures:

---- d stdout ----
left != right

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn a_test_that_skips_itself_is_no_pass() {
        let mut reader = Reader::default();
        let ends: Vec<String> = OUTPUT.lines().filter_map(|l| reader.line(l)).collect();
        assert_eq!(ends, ["d FAILED", "1 passed, 1 failed, 2 skipped"]);
        assert_eq!(reader.tally.failures, ["d"]);
        assert_eq!(reader.tally.line(), "1 passed, 1 failed, 2 skipped");
        let skips: Vec<_> = reader
            .tally
            .skips
            .iter()
            .map(|s| (s.test.as_str(), s.reason.as_str()))
            .collect();
        assert_eq!(skips, [("c", "needs a drum"), ("group::b", "no cgroup v2 here")]);
    }

    #[test]
    fn what_is_said_as_a_test_program_is_read_as_one() {
        let tally = Tally {
            passed: 3,
            failed: 1,
            failures: vec!["escape a/b, root".into()],
            skips: vec![Skip {
                test: "escape runc".into(),
                reason: "no runc on PATH".into(),
            }],
        };
        let said = tally.as_test_program("   a/b, root: SILENT\n      | attempt x: EPERM\n");
        let mut reader = Reader::default();
        let shown: Vec<String> = said.lines().filter_map(|l| reader.line(l)).collect();
        assert_eq!(shown, ["escape a/b, root FAILED", "3 passed, 1 failed, 1 skipped"]);
        assert_eq!(
            (&reader.tally.failures, &reader.tally.skips),
            (&tally.failures, &tally.skips)
        );
        assert_eq!(reader.tally.line(), tally.line());
        assert!(said.contains("\nfailures:\n\n   a/b, root: SILENT\n"), "{said}");
        assert_eq!(
            Tally::default().as_test_program(""),
            "test result: ok. 0 passed; 0 failed; 0 ignored\n"
        );
    }

    #[test]
    fn ignored_tests_of_both_harnesses() {
        let of = |line| ignored(line).map(|skip| (skip.test, skip.reason));
        let expected = Some(("a".to_owned(), "no b (yet)".to_owned()));
        assert_eq!(
            (
                of("test a ... ignored, no b (yet)"),
                of("test a    ... ignored (no b (yet))")
            ),
            (expected.clone(), expected)
        );
        assert_eq!(
            of("test a ... ignored").map(|s| s.1).as_deref(),
            Some("ignored without a reason")
        );
        assert_eq!(of("test a ... ok"), None);
    }

    #[test]
    fn unnamed_skips_get_the_name_of_their_section() {
        let mut reader = Reader::default();
        for line in [
            "---- x::y stdout ----",
            "SKIPPED: nothing here",
            "SKIPPED: nothing here",
        ] {
            reader.line(line);
        }
        assert_eq!(
            reader.tally.skips,
            [Skip {
                test: "x::y".into(),
                reason: "nothing here".into()
            }]
        );
    }

    #[test]
    fn only_listed_skips_are_allowed() {
        let allowed = Allowed::parse("# why\n\ncgroup::*: no * here\nexact: reason\n").unwrap();
        let skip = |test: &str, reason: &str| {
            allowed.allows(&Skip {
                test: test.into(),
                reason: reason.into(),
            })
        };
        assert!(skip("cgroup::limits", "no cgroup v2 here") && skip("exact", "reason"));
        assert!(!skip("cgroup::limits", "broken") && !skip("exact", "reasons") && !skip("other", "no x here"));
        assert!(Allowed::parse("a line without a reason").is_err());
    }
}
