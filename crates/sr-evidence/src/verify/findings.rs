//! What verification found: each check with its outcome, and which problem decides the status.

use super::{Status, Verification};
use serde::Serialize;
use sr_common::RunId;

/// Where something does not hold, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A file of the evidence, such as `events.jsonl`.
    pub path: String,
    /// Counted from 1, where the problem stands in a line.
    pub line: Option<u64>,
    pub found: String,
}

impl Problem {
    pub fn new(path: impl Into<String>, found: impl Into<String>) -> Self {
        Problem {
            path: shown(&path.into()),
            line: None,
            found: shown(&found.into()),
        }
    }

    pub fn at(path: impl Into<String>, line: u64, found: impl Into<String>) -> Self {
        Problem {
            line: Some(line),
            ..Problem::new(path, found)
        }
    }

    /// `events.jsonl:3`.
    pub fn place(&self) -> String {
        match self.line {
            Some(line) => format!("{}:{line}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Text of the evidence as a terminal may show it: cut at 500 characters, without control and bidi characters.
fn shown(text: &str) -> String {
    let unsafe_char = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars()
        .take(500)
        .map(|c| if unsafe_char(c) { '·' } else { c })
        .collect()
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// Collects checks. The worst kind of problem decides the status, and the first of that kind is shown.
#[derive(Default)]
pub(super) struct Findings {
    checks: Vec<Check>,
    problems: Vec<(Status, Problem)>,
}

impl Findings {
    pub fn pass(&mut self, name: &'static str, detail: impl Into<String>) {
        self.checks.push(Check {
            name,
            ok: true,
            detail: shown(&detail.into()),
        });
    }

    pub fn fail(&mut self, name: &'static str, problem: Problem) {
        self.note(name, Status::Failed, problem);
    }

    pub fn note(&mut self, name: &'static str, status: Status, problem: Problem) {
        self.checks.push(Check {
            name,
            ok: false,
            detail: format!("{}: {}", problem.place(), problem.found),
        });
        self.problems.push((status, problem));
    }

    /// Passes or fails by `ok`.
    pub fn require(
        &mut self,
        name: &'static str,
        ok: bool,
        detail: impl Into<String>,
        problem: impl FnOnce() -> Problem,
    ) {
        if ok {
            self.pass(name, detail)
        } else {
            self.fail(name, problem())
        }
    }

    /// What it comes to so far.
    pub fn status(&self) -> Status {
        // An unsigned report is judged before an unknown signer: where one is, the other cannot be.
        [
            Status::Failed,
            Status::Incomplete,
            Status::Unsigned,
            Status::SignerUnknown,
        ]
        .into_iter()
        .find(|status| self.problems.iter().any(|(s, _)| s == status))
        .unwrap_or(Status::Verified)
    }

    pub fn finish(self, run_id: Option<RunId>, signer: Option<String>, events: u64) -> Verification {
        let status = self.status();
        let first_problem = self
            .problems
            .into_iter()
            .find(|(s, _)| *s == status)
            .map(|(_, problem)| problem);
        Verification {
            status,
            run_id,
            signer,
            events,
            first_problem,
            checks: self.checks,
            approvals: 0,
            told: None,
        }
    }
}
