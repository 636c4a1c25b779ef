//! A rule for one host call, flat as a document writes it: `allow`, `deny`, or a map with what its arguments may be.

use crate::decode::{Decode, Decoder, section};
use crate::node::{Kind, Node};
use crate::words::{Word, choices};
use schemars::JsonSchema;
use serde::Serialize;
use sr_common::host_calls::{Clock, Rule};

/// What may be done with one function of WASI.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HostCallRule {
    Word(HostCallWord),
    Arguments(HostCallSection),
}

/// Whether a function may be called at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HostCallWord {
    Allow,
    /// The program is told that it may not; where a function has no place for that, the program ends.
    Deny,
}

section! {
    /// What a function's arguments may be: one of these.
    pub struct HostCallSection {
        /// Of the functions that take paths: absolute paths, as the program names them. What it names lies within one of them.
        within: Vec<Word>,
        /// Of `clock_time_get` and `clock_res_get`.
        clocks: Vec<Clock>,
        /// Of `random_get`: so many bytes a call, at most 4294967296.
        at_most: u64,
    }
}

choices! {
    HostCallWord { "allow" => Allow, "deny" => Deny }
}

impl Decode for HostCallRule {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) => HostCallSection::decode(node, d).map(HostCallRule::Arguments),
            Kind::Text { .. } => HostCallWord::decode(node, d).map(HostCallRule::Word),
            _ => {
                let remedy = "write allow, deny, {within: [/work]}, {clocks: [monotonic]} or {atMost: 64}";
                d.mismatch(node, "allow, deny or a map", remedy);
                None
            }
        }
    }
}

impl HostCallSection {
    /// How many of its fields are written.
    pub(crate) fn count(&self) -> usize {
        let written = [self.within.is_some(), self.clocks.is_some(), self.at_most.is_some()];
        written.into_iter().filter(|there| *there).count()
    }
}

impl HostCallRule {
    /// As a complete policy has it. `None`: a map that does not say one thing.
    pub(crate) fn rule(self) -> Option<Rule> {
        let arguments = match self {
            HostCallRule::Word(HostCallWord::Allow) => return Some(Rule::Allow),
            HostCallRule::Word(HostCallWord::Deny) => return Some(Rule::Deny),
            HostCallRule::Arguments(arguments) => arguments,
        };
        if arguments.count() != 1 {
            return None;
        }
        let within = arguments.within.map(|paths| Rule::Within {
            paths: paths.into_iter().map(|Word(path)| path).collect(),
        });
        let clocks = arguments.clocks.map(|clocks| Rule::Clocks { clocks });
        let at_most = arguments.at_most.map(|bytes| Rule::AtMost { bytes });
        within.or(clocks).or(at_most)
    }
}

impl From<&Rule> for HostCallRule {
    fn from(rule: &Rule) -> HostCallRule {
        let mut arguments = HostCallSection::default();
        match rule {
            Rule::Allow => return HostCallRule::Word(HostCallWord::Allow),
            Rule::Deny => return HostCallRule::Word(HostCallWord::Deny),
            Rule::Within { paths } => arguments.within = Some(paths.iter().cloned().map(Word).collect()),
            Rule::Clocks { clocks } => arguments.clocks = Some(clocks.clone()),
            Rule::AtMost { bytes } => arguments.at_most = Some(*bytes),
        }
        HostCallRule::Arguments(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_flat_in_documents_and_come_back() {
        let path = "/work".to_owned();
        for (rule, text) in [
            (Rule::Allow, r#""allow""#),
            (Rule::Deny, r#""deny""#),
            (Rule::Within { paths: vec![path] }, r#"{"within":["/work"]}"#),
            (
                Rule::Clocks {
                    clocks: vec![Clock::Monotonic, Clock::ProcessCputimeId],
                },
                r#"{"clocks":["monotonic","processCputimeId"]}"#,
            ),
            (Rule::AtMost { bytes: 64 }, r#"{"atMost":64}"#),
        ] {
            let written = HostCallRule::from(&rule);
            assert_eq!(serde_json::to_string(&written).unwrap(), text);
            assert_eq!(written.rule(), Some(rule));
        }
    }

    #[test]
    fn a_map_that_does_not_say_one_thing_is_no_rule() {
        let both = HostCallSection {
            at_most: Some(1),
            clocks: Some(Vec::new()),
            ..HostCallSection::default()
        };
        for (section, count) in [(HostCallSection::default(), 0), (both, 2)] {
            assert_eq!(section.count(), count);
            assert_eq!(HostCallRule::Arguments(section).rule(), None);
        }
    }
}
