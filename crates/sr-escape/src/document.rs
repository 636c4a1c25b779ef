//! `attack.json`: what came of the harmless part of the corpus under one policy on one machine.

use crate::verdict::Verdict;
use serde::{Deserialize, Serialize};
use sr_common::{API_VERSION, Digest};

pub const KIND: &str = "AttackResults";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// `safe-run/v1`.
    pub api_version: String,
    /// `AttackResults`.
    pub kind: String,
    /// RFC 3339, UTC, microseconds.
    pub started_at: String,
    /// As which user it was started.
    pub uid: u32,
    pub policy: Policy,
    pub counts: Counts,
    pub cases: Vec<Case>,
}

/// The policy that was named. The cases' runs are under this one with a project of the corpus in the place of the current
/// directory, and evidence in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub name: String,
    /// Of the whole policy, as a run's report has it under `policySource`.
    pub digest: Digest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub held: usize,
    pub limit: usize,
    pub escaped: usize,
    pub unclear: usize,
    pub skipped: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// `GROUP/NAME`, as in tests/escape.
    pub id: String,
    pub title: String,
    /// Of its source.
    pub source: Digest,
    /// What its attempts may end with.
    pub expect: Vec<String>,
    /// What shows from outside that it got through.
    pub fires: String,
    pub outcome: Word,
    /// What was reached, which limit is stated, why it is unclear, why it was skipped.
    pub detail: Option<String>,
    /// How many attempts it made.
    pub attempts: usize,
    /// The runs that it was.
    pub runs: Vec<Run>,
}

/// A run of the run store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub id: String,
    /// Of its `run_report.json`.
    pub report: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Word {
    Held,
    Limit,
    Escaped,
    /// It ran, and what came of it shows neither.
    Unclear,
    Skipped,
}

impl Word {
    pub fn of(verdict: Verdict) -> (Word, Option<String>) {
        match verdict {
            Verdict::Held => (Word::Held, None),
            Verdict::Limit(limit) => (Word::Limit, Some(limit)),
            Verdict::Escaped(what) => (Word::Escaped, Some(what)),
            Verdict::Open(what) | Verdict::Broken(what) => (Word::Unclear, Some(what)),
        }
    }
}

impl Document {
    pub fn new(started_at: String, uid: u32, policy: Policy, cases: Vec<Case>) -> Document {
        Document {
            api_version: API_VERSION.into(),
            kind: KIND.into(),
            started_at,
            uid,
            policy,
            counts: Counts::of(&cases),
            cases,
        }
    }

    /// Whether something ran, and all that ran was held, or shows a stated limit.
    pub fn is_good(&self) -> bool {
        let Counts {
            held,
            limit,
            escaped,
            unclear,
            ..
        } = self.counts;
        held + limit > 0 && escaped + unclear == 0
    }
}

impl Counts {
    pub fn of<'a>(cases: impl IntoIterator<Item = &'a Case>) -> Counts {
        let mut counts = Counts::default();
        for case in cases {
            *match case.outcome {
                Word::Held => &mut counts.held,
                Word::Limit => &mut counts.limit,
                Word::Escaped => &mut counts.escaped,
                Word::Unclear => &mut counts.unclear,
                Word::Skipped => &mut counts.skipped,
            } += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(outcomes: &[Word]) -> Document {
        let case = |outcome: &Word| Case {
            id: "syscalls/x".into(),
            title: "T".into(),
            source: Digest::of(b""),
            expect: Vec::new(),
            fires: "call".into(),
            outcome: *outcome,
            detail: None,
            attempts: 1,
            runs: Vec::new(),
        };
        let policy = Policy {
            name: "standard".into(),
            digest: Digest::of(b""),
        };
        Document::new(String::new(), 0, policy, outcomes.iter().map(case).collect())
    }

    #[test]
    fn good_is_what_ran_and_was_held() {
        assert!(document(&[Word::Held, Word::Limit, Word::Skipped]).is_good());
        for bad in [
            &[][..],
            &[Word::Skipped],
            &[Word::Held, Word::Escaped],
            &[Word::Held, Word::Unclear],
        ] {
            assert!(!document(bad).is_good(), "{bad:?}");
        }
        let counts = document(&[Word::Held, Word::Held, Word::Skipped]).counts;
        assert_eq!((counts.held, counts.skipped, counts.escaped), (2, 1, 0));
    }
}
