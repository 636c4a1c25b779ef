//! The one shape of an error that reaches a person: a code, a path, what was found, and what to do.

use serde::Serialize;
use std::fmt;

/// Error codes of design §4. `explain` has a page for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    Pol001,
    Pol002,
    Pol003,
    Cmp001,
    Cmp002,
    Run001,
    Run002,
    Run003,
    Evd001,
    Evd002,
    Evd003,
}

impl Code {
    pub const ALL: [Code; 11] = [
        Code::Pol001,
        Code::Pol002,
        Code::Pol003,
        Code::Cmp001,
        Code::Cmp002,
        Code::Run001,
        Code::Run002,
        Code::Run003,
        Code::Evd001,
        Code::Evd002,
        Code::Evd003,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Code::Pol001 => "SR-POL-001",
            Code::Pol002 => "SR-POL-002",
            Code::Pol003 => "SR-POL-003",
            Code::Cmp001 => "SR-CMP-001",
            Code::Cmp002 => "SR-CMP-002",
            Code::Run001 => "SR-RUN-001",
            Code::Run002 => "SR-RUN-002",
            Code::Run003 => "SR-RUN-003",
            Code::Evd001 => "SR-EVD-001",
            Code::Evd002 => "SR-EVD-002",
            Code::Evd003 => "SR-EVD-003",
        }
    }

    pub fn parse(text: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|c| c.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// Where in a document an error stands. Lines and columns count from 1, in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceLine {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// The whole line, cut at 200 characters; control characters shown as `·`.
    pub text: String,
}

/// An error as a person or a script reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    pub code: Code,
    /// Where: a field (`network.allow[2].host`) or a stage (`launch.preflight.userNamespaces`).
    pub path: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
    /// The combination rule that was broken (`SR-POL-003` only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceLine>,
}

impl Fault {
    pub fn new(code: Code, path: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Fault {
            code,
            path: path.into(),
            found: found.into(),
            remedy: remedy.into(),
            rule: None,
            source: None,
        }
    }

    pub fn with_rule(mut self, rule: &'static str) -> Self {
        self.rule = Some(rule);
        self
    }

    pub fn with_source(mut self, source: SourceLine) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.path, self.found)?;
        if let Some(rule) = self.rule {
            write!(f, " [{rule}]")?;
        }
        if let Some(s) = &self.source {
            write!(
                f,
                "\n  --> {}:{}:{}\n   | {}\n   | {:>width$}",
                s.file,
                s.line,
                s.column,
                s.text,
                "^",
                width = s.column
            )?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n  fix: {}", self.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_code_path_line_caret_and_fix() {
        let fault = Fault::new(
            Code::Pol002,
            "runtime.user",
            "expected a number, found \"x\"",
            "write a uid",
        )
        .with_source(SourceLine {
            file: "p.yaml".into(),
            line: 3,
            column: 7,
            text: "user: x".into(),
        });
        assert_eq!(
            fault.to_string(),
            "SR-POL-002 runtime.user: expected a number, found \"x\"\n  --> p.yaml:3:7\n   | user: x\n   |       ^\n  fix: write a uid"
        );
    }

    #[test]
    fn every_code_parses_back() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(code));
        }
    }
}
