//! How a command ends: an exit status, or faults with the status that they mean for that kind of command.

use crate::terminal::{self, Style};
use sr_common::{Code, Fault};

/// What kind of command failed; it decides the exit status (design §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `run`, `shell`, `exec`: the program's statuses are 0 to 124 and from 126 on, so 125 is Safe-Run's.
    Run,
    /// Everything else: 2 for what was asked, 1 for what could not be done.
    Plain,
}

/// One fault or more. Never empty.
#[derive(Debug)]
pub struct Failure(pub Vec<Fault>);

/// What a command gives back.
pub type Done = Result<u8, Failure>;

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure(vec![fault])
    }
}

impl From<Vec<Fault>> for Failure {
    fn from(faults: Vec<Fault>) -> Self {
        Failure(faults)
    }
}

impl Failure {
    pub fn status(&self, kind: Kind) -> u8 {
        let first = self.0.first().map(|f| f.code);
        match (kind, first) {
            (Kind::Run, Some(Code::Run003)) => 124,
            (Kind::Run, _) => 125,
            (Kind::Plain, Some(Code::Pol001 | Code::Pol002 | Code::Pol003 | Code::Cmp001 | Code::Cmp002)) => 2,
            (Kind::Plain, _) => 1,
        }
    }

    /// Writes the faults to standard error.
    pub fn report(&self, json: bool, style: Style) {
        if json {
            terminal::err(&json_text(&self.0));
            return;
        }
        for fault in &self.0 {
            terminal::err(&terminal::fault_text(fault, style));
        }
    }
}

/// A JSON array on one line. Escapes are JSON's own: no control character reaches a terminal.
pub fn json_text(faults: &[Fault]) -> String {
    serde_json::to_string(faults).unwrap_or_else(|_| "[]".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_the_design() {
        let of = |code, kind| Failure::from(Fault::new(code, "p", "f", "r")).status(kind);
        assert_eq!((of(Code::Pol002, Kind::Run), of(Code::Pol002, Kind::Plain)), (125, 2));
        assert_eq!((of(Code::Cmp002, Kind::Plain), of(Code::Evd003, Kind::Plain)), (2, 1));
        assert_eq!(
            (
                of(Code::Run001, Kind::Run),
                of(Code::Run003, Kind::Run),
                of(Code::Evd001, Kind::Run)
            ),
            (125, 124, 125)
        );
    }
}
