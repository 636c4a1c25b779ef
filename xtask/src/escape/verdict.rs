//! What came of a case in one place, from what it said and from what was seen outside.

use super::case::{Canary, Case, Control};
use super::ground::Trip;
use super::hold::{End, Ended};
use super::wall::Wall;

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
            Verdict::Apart => "–".into(),
            Verdict::Absent => "absent".into(),
        }
    }

    /// The same in one line, with the reason that the table has as a footnote.
    pub fn whole(&self) -> String {
        let text = match self {
            Verdict::Void(reason) => format!("void: {reason}"),
            Verdict::Limit(limit) => format!("limit: {limit}"),
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

    /// What it is where SECURITY.md states the `limit` that the case shows. What trips another canary than the case says is
    /// no part of it.
    pub fn within(self, limit: Option<&str>, case: &Case, trips: &[Trip]) -> Verdict {
        match (self, limit) {
            (Verdict::Escaped(_), Some(limit)) if trips.iter().all(|trip| trip.canary == case.fires) => {
                Verdict::Limit(limit.to_owned())
            }
            (verdict, _) => verdict,
        }
    }
}

/// How one attempt ended: its name, and `GOT`, an errno's name or a signal's.
pub fn attempts(output: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(output);
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("attempt ")?.rsplit_once(": "));
    lines
        .map(|(name, result)| (name.to_owned(), result.trim().to_owned()))
        .collect()
}

/// Behind a wall.
pub fn behind(wall: Wall, case: &Case, ended: &Ended, trips: &[Trip]) -> Verdict {
    if !trips.is_empty() {
        return Verdict::Escaped(listed(trips));
    }
    let expected = |result: &String| case.expect.contains(result);
    let attempts = attempts(&ended.output);
    if let Some((name, _)) = attempts.iter().find(|(_, r)| r == "GOT" && !expected(r)) {
        return match wall {
            Wall::Process => Verdict::Escaped(format!("call: {name}")),
            _ => Verdict::Open(name.clone()),
        };
    }
    match end(case, &ended.end) {
        Err(why) => return Verdict::Broken(why),
        Ok(true) => return Verdict::Held,
        Ok(false) if attempts.is_empty() => return Verdict::Broken("no attempt".into()),
        Ok(false) => {}
    }
    // How others refuse is their own business.
    match attempts.iter().find(|(_, r)| wall == Wall::Process && !expected(r)) {
        Some((name, result)) => Verdict::Broken(format!("{name}: {result} is not expected")),
        None => Verdict::Held,
    }
}

/// Whether the case died of a signal that it expects; an error where it ended otherwise than it should.
fn end(case: &Case, end: &End) -> Result<bool, String> {
    let signal = match end {
        End::Over => return Err(format!("not done within {} s", case.seconds)),
        End::Exit(0) => return Ok(false),
        End::Signal(n) => *n,
        // As every wall passes a signal on.
        End::Exit(status @ 129..160) => status - 128,
        End::Exit(status) => return Err(format!("it ended with status {status}")),
    };
    let name = usize::try_from(signal)
        .ok()
        .and_then(|n| SIGNALS.get(n))
        .copied()
        .unwrap_or("an unknown signal");
    match case.expect.iter().any(|e| e == name) {
        true => Ok(true),
        false => Err(format!("it died of {name}")),
    }
}

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

/// The first of what was tripped: `read: DIR/secret, change: DIR/target and 3 more`.
fn listed(trips: &[Trip]) -> String {
    const MOST: usize = 2;
    let names = trips
        .iter()
        .take(MOST)
        .map(|t| format!("{}: {}", t.canary.name(), t.what));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if trips.len() > MOST {
        text += &format!(" and {} more", trips.len() - MOST);
    }
    text
}

/// By their numbers.
const SIGNALS: [&str; 32] = [
    "",
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

#[cfg(test)]
mod tests {
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
    fn behind_a_wall() {
        let case = case("# expect: EPERM SIGSYS\n# fires: read\n");
        let of = |wall, end, output: &str| behind(wall, &case, &ended(end, output), &[]).text();
        let ours = |end, output| of(Wall::Process, end, output);
        assert_eq!(ours(End::Exit(0), "attempt a: EPERM\nattempt b: x: EPERM\n"), "held");
        assert_eq!(
            ours(End::Exit(0), "attempt a: EPERM\nattempt b: GOT\n"),
            "ESCAPED: call: b"
        );
        assert_eq!(of(Wall::Runc, End::Exit(0), "attempt b: GOT\n"), "open: b");
        assert_eq!(
            ours(End::Exit(0), "attempt a: EINVAL\n"),
            "broken: a: EINVAL is not expected"
        );
        assert_eq!(of(Wall::Runc, End::Exit(0), "attempt a: EINVAL\n"), "held");
        assert_eq!(ours(End::Exit(0), "nothing\n"), "broken: no attempt");
        assert_eq!(
            ours(End::Exit(3), "attempt a: EPERM\n"),
            "broken: it ended with status 3"
        );
        assert_eq!(ours(End::Over, "attempt a: EPERM\n"), "broken: not done within 10 s");
        // Died of what it expects, as a status or as a signal; of something else.
        assert_eq!(ours(End::Exit(128 + 31), ""), "held");
        assert_eq!(ours(End::Signal(31), "attempt a: EPERM\n"), "held");
        assert_eq!(ours(End::Signal(31), "attempt a: GOT\n"), "ESCAPED: call: a");
        assert_eq!(
            ours(End::Exit(128 + 9), "attempt a: EPERM\n"),
            "broken: it died of SIGKILL"
        );
        // What was seen outside decides, whatever is said.
        let trips = [
            Trip::new(Canary::Read, "DIR/secret"),
            Trip::new(Canary::Host, "x"),
            Trip::new(Canary::Host, "y"),
        ];
        for output in ["attempt a: EPERM\n", ""] {
            let verdict = behind(Wall::Process, &case, &ended(End::Signal(31), output), &trips);
            assert_eq!(verdict.text(), "ESCAPED: read: DIR/secret, host: x and 1 more");
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
    fn only_the_limit_that_is_stated_is_one() {
        let case = case("# expect: EPERM\n# fires: read\n");
        let within = |trips: &[Trip], limit| {
            behind(Wall::Process, &case, &ended(End::Exit(0), "attempt a: EPERM\n"), trips).within(limit, &case, trips)
        };
        let read = Trip::new(Canary::Read, "DIR/secret");
        let both = [read.clone(), Trip::new(Canary::Change, "DIR/target")];
        let limit = within(std::slice::from_ref(&read), Some("stated"));
        assert_eq!(limit, Verdict::Limit("stated".into()));
        assert!(limit.is_good() && limit.text() == "limit");
        assert_eq!(within(&[read], None).text(), "ESCAPED: read: DIR/secret");
        assert_eq!(
            within(&both, Some("stated")).text(),
            "ESCAPED: read: DIR/secret, change: DIR/target"
        );
        assert_eq!(within(&[], Some("stated")), Verdict::Held);
        let silent = behind(Wall::Process, &case, &ended(End::Exit(3), ""), &[]).within(Some("stated"), &case, &[]);
        assert_eq!(silent.text(), "broken: it ended with status 3");
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
