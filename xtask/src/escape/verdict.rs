//! What came of a case in one place: behind a wall as the corpus judges it, on the bare host as its control says.

use super::hold::Ended;
use super::wall::Column;
use sr_escape::case::{Case, Control};
use sr_escape::trip::{Canary, Trip};
use sr_escape::verdict::{self, End, Wall as Whose, attempts, listed};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Held,
    /// Something outside was reached.
    Escaped(String),
    /// What was reached is what SECURITY.md says can be.
    Limit(String),
    /// A reference let an attempt succeed that should not, though nothing outside was reached.
    Open(String),
    Broken(String),
    /// The control got through.
    Fired(String),
    /// The control did not get through.
    Silent(String),
    Void(String),
    /// The case says that its control is void, and it fired.
    Stale(String),
    /// Only in the virtual machine; what it was there, as the record says.
    Rig(Option<String>),
    /// Not behind this wall, for the reason that is told.
    NotRun(String),
    /// It tries what only Safe-Run has.
    Apart,
    Absent,
}

impl Verdict {
    /// What a person reads in a cell.
    pub fn text(&self) -> String {
        match self {
            Verdict::Held => "held".into(),
            Verdict::Escaped(what) => format!("ESCAPED: {what}"),
            Verdict::Limit(_) => "limit".into(),
            Verdict::Open(what) => format!("open: {what}"),
            Verdict::Broken(why) => format!("broken: {why}"),
            Verdict::Fired(what) => format!("fires: {what}"),
            Verdict::Silent(why) => format!("SILENT: {why}"),
            Verdict::Void(_) => "void".into(),
            Verdict::Stale(what) => format!("STALE void: {what}"),
            Verdict::Rig(None) => "rig".into(),
            Verdict::Rig(Some(cell)) => match cell.split_once(": ") {
                Some((word, rest)) => format!("{word} in the rig: {rest}"),
                None => format!("{cell} in the rig"),
            },
            Verdict::NotRun(_) => "not run".into(),
            Verdict::Apart => "–".into(),
            Verdict::Absent => "absent".into(),
        }
    }

    /// The same in one line, with the reason that the table has as a footnote.
    pub fn whole(&self) -> String {
        let text = match self {
            Verdict::Void(reason) => format!("void: {reason}"),
            Verdict::Limit(limit) => format!("limit: {limit}"),
            Verdict::NotRun(why) => format!("not run: {why}"),
            verdict => verdict.text(),
        };
        text.replace('|', "/").replace('\n', " ")
    }

    /// Whether it is as the corpus promises, where that is promised.
    pub fn is_good(&self) -> bool {
        !matches!(
            self,
            Verdict::Escaped(_) | Verdict::Open(_) | Verdict::Broken(_) | Verdict::Silent(_) | Verdict::Stale(_)
        )
    }
}

impl From<verdict::Verdict> for Verdict {
    fn from(verdict: verdict::Verdict) -> Verdict {
        match verdict {
            verdict::Verdict::Held => Verdict::Held,
            verdict::Verdict::Escaped(what) => Verdict::Escaped(what),
            verdict::Verdict::Limit(limit) => Verdict::Limit(limit),
            verdict::Verdict::Open(what) => Verdict::Open(what),
            verdict::Verdict::Broken(why) => Verdict::Broken(why),
        }
    }
}

/// Behind a wall. `more`: what else its own kernel may answer. A stated limit is Safe-Run's alone.
pub fn behind(column: Column, case: &Case, more: &[String], ended: &Ended, trips: &[Trip]) -> Verdict {
    let ours = column.wall.is_ours();
    let whose = if ours { Whose::Ours } else { Whose::Reference };
    let limit = case.limit(column.root).filter(|_| ours);
    let mut case = case.clone();
    case.expect.extend_from_slice(more);
    let case = &case;
    let verdict = verdict::behind(whose, case, &ended.end, &ended.output, trips);
    let silent = matches!(ended.end, End::Exit(0)) && attempts(&ended.output).is_empty();
    match verdict.within(limit, case, trips) {
        // By the monitor, or by the kernel of its own.
        verdict::Verdict::Broken(_) if more.iter().any(|m| m == ENDED) && (silent || ended.end == FAILED) => {
            Verdict::Held
        }
        verdict => verdict.into(),
    }
}

/// Among what another kernel may answer: it ends the case, or the run fails, and nothing outside is reached.
const ENDED: &str = "ENDED";
/// As a run ends that Safe-Run itself ended.
const FAILED: End = End::Exit(125);

/// On the bare host, where `control` says that it fires.
pub fn bare(case: &Case, control: &Control, ended: &Ended, trips: &[Trip]) -> Verdict {
    let of_its_kind: Vec<Trip> = trips.iter().filter(|t| t.canary == case.fires).cloned().collect();
    let got = attempts(&ended.output).into_iter().find(|(_, result)| result == "GOT");
    let fired = match case.fires {
        Canary::Call => got.map(|(name, _)| format!("call: {name}")),
        _ => (!of_its_kind.is_empty()).then(|| listed(&of_its_kind)),
    };
    match (control, fired) {
        (Control::Void(_), Some(what)) => Verdict::Stale(what),
        (Control::Void(reason), None) => Verdict::Void(reason.clone()),
        (_, Some(_)) => Verdict::Fired(case.fires.name().into()),
        (_, None) => Verdict::Silent(format!("no {} was seen", case.fires.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::wall::Wall;
    use super::*;
    use std::path::Path;

    fn case(more: &str) -> Case {
        let text = format!("# title: T\n# source: S\n# control: host\n{more}");
        Case::parse(Path::new("network/n.py"), &text).unwrap()
    }

    fn ended(end: End, output: &str) -> Ended {
        Ended {
            end,
            output: output.as_bytes().to_vec(),
            left: Vec::new(),
            arrived: false,
            pushed: false,
        }
    }

    #[test]
    fn what_was_in_the_rig_says_so() {
        let rig = |cell: Option<&str>| Verdict::Rig(cell.map(str::to_owned)).text();
        assert_eq!(rig(None), "rig");
        assert_eq!(rig(Some("held")), "held in the rig");
        assert_eq!(rig(Some("fires: call")), "fires in the rig: call");
        assert_eq!(rig(Some("open: a: b")), "open in the rig: a: b");
        assert_eq!(Verdict::Void("a | b".into()).whole(), "void: a / b");
        assert_eq!(Verdict::Broken("a\nb".into()).whole(), "broken: a b");
    }

    #[test]
    fn another_kernel_may_answer_otherwise_and_reach_nothing() {
        let case = case("# expect: EPERM\n# fires: read\n");
        let of = |more: &[&str], end, output: &str, trips: &[Trip]| {
            let column = Column {
                wall: Wall::Gvisor,
                root: true,
            };
            let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
            behind(column, &case, &more, &ended(end, output), trips).text()
        };
        let got = "attempt a: GOT\n";
        assert_eq!(of(&[], End::Exit(0), got, &[]), "ESCAPED: call: a");
        assert_eq!(of(&["GOT"], End::Exit(0), got, &[]), "held");
        assert_eq!(
            of(&["GOT"], End::Exit(0), "attempt a: EIO\n", &[]),
            "broken: a: EIO is not expected"
        );
        // Nothing makes up for what was seen outside.
        let read = [Trip::new(Canary::Read, "DIR/secret")];
        assert_eq!(
            of(&["GOT", ENDED], End::Exit(0), "", &read),
            "ESCAPED: read: DIR/secret"
        );
        assert_eq!(of(&[], End::Exit(0), "", &[]), "broken: no attempt");
        assert_eq!(of(&[ENDED], End::Exit(0), "", &[]), "held");
        assert_eq!(of(&[ENDED], FAILED, "attempt a: EPERM\n", &[]), "held");
        assert_eq!(of(&[ENDED], FAILED, got, &[]), "ESCAPED: call: a");
        assert_eq!(of(&[ENDED], End::Exit(3), "", &[]), "broken: it ended with status 3");
    }

    #[test]
    fn on_the_bare_host() {
        let read = [Trip::new(Canary::Read, "DIR/secret")];
        let change = [Trip::new(Canary::Change, "DIR/target")];
        let void = Control::Void("why".into());
        let of = |fires: &str, control: &Control, output: &str, trips: &[Trip]| {
            let case = case(&format!("# expect: EPERM\n# fires: {fires}\n"));
            bare(&case, control, &ended(End::Exit(0), output), trips)
        };
        assert_eq!(of("read", &Control::Host, "", &read).text(), "fires: read");
        // It must fire what it says, and nothing that the case itself says counts for it.
        assert_eq!(
            of("read", &Control::Host, "attempt a: GOT\n", &change).text(),
            "SILENT: no read was seen"
        );
        assert_eq!(
            of("call", &Control::Host, "attempt a: GOT\n", &[]).text(),
            "fires: call"
        );
        assert_eq!(
            of("call", &Control::Host, "attempt a: EPERM\n", &read).text(),
            "SILENT: no call was seen"
        );
        assert_eq!(of("read", &void, "", &[]), Verdict::Void("why".into()));
        assert_eq!(of("read", &void, "", &read).text(), "STALE void: read: DIR/secret");
        let good = |v: Verdict| v.is_good();
        assert!(good(of("read", &Control::Host, "", &read)) && good(of("read", &void, "", &[])));
        assert!(!good(of("read", &Control::Host, "", &[])) && !good(of("read", &void, "", &read)));
    }
}
