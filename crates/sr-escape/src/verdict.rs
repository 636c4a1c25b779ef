//! What came of a case behind a wall, from what it said and from what was seen outside.

use crate::case::Case;
use crate::trip::Trip;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Exit(i32),
    Signal(i32),
    /// It was not done in time, and was killed.
    Over,
}

/// Whose wall it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    Ours,
    /// Another's, for comparison: how it refuses is its own business.
    Reference,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Held,
    /// Something outside was reached.
    Escaped(String),
    /// What was reached is what SECURITY.md says can be.
    Limit(String),
    /// A reference let an attempt succeed that should not, though nothing outside was reached.
    Open(String),
    /// It could not be tried as it is meant.
    Broken(String),
}

impl Verdict {
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

/// What came of a case behind `wall`: how it ended, what it printed, and what was tripped.
pub fn behind(wall: Wall, case: &Case, end: &End, output: &[u8], trips: &[Trip]) -> Verdict {
    if !trips.is_empty() {
        return Verdict::Escaped(listed(trips));
    }
    let expected = |result: &String| case.expect.contains(result);
    let attempts = attempts(output);
    if let Some((name, _)) = attempts.iter().find(|(_, r)| r == "GOT" && !expected(r)) {
        return match wall {
            Wall::Ours => Verdict::Escaped(format!("call: {name}")),
            Wall::Reference => Verdict::Open(name.clone()),
        };
    }
    match ending(case, end) {
        Err(why) => return Verdict::Broken(why),
        Ok(true) => return Verdict::Held,
        Ok(false) if attempts.is_empty() => return Verdict::Broken("no attempt".into()),
        Ok(false) => {}
    }
    // How others refuse is their own business.
    match attempts.iter().find(|(_, r)| wall == Wall::Ours && !expected(r)) {
        Some((name, result)) => Verdict::Broken(format!("{name}: {result} is not expected")),
        None => Verdict::Held,
    }
}

/// Whether the case died of a signal that it expects; an error where it ended otherwise than it should.
fn ending(case: &Case, end: &End) -> Result<bool, String> {
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

/// The first of what was tripped: `read: DIR/secret, change: DIR/target and 3 more`.
pub fn listed(trips: &[Trip]) -> String {
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
    use crate::trip::Canary;
    use std::path::Path;

    fn case(more: &str) -> Case {
        let text = format!("# title: T\n# source: S\n# control: host\n{more}");
        Case::parse(Path::new("network/n.py"), &text).unwrap()
    }

    fn text(verdict: Verdict) -> String {
        match verdict {
            Verdict::Held => "held".into(),
            Verdict::Escaped(what) => format!("ESCAPED: {what}"),
            Verdict::Limit(_) => "limit".into(),
            Verdict::Open(what) => format!("open: {what}"),
            Verdict::Broken(why) => format!("broken: {why}"),
        }
    }

    #[test]
    fn behind_a_wall() {
        let case = case("# expect: EPERM SIGSYS\n# fires: read\n");
        let of = |wall, end, output: &str| text(behind(wall, &case, &end, output.as_bytes(), &[]));
        let ours = |end, output| of(Wall::Ours, end, output);
        assert_eq!(ours(End::Exit(0), "attempt a: EPERM\nattempt b: x: EPERM\n"), "held");
        assert_eq!(
            ours(End::Exit(0), "attempt a: EPERM\nattempt b: GOT\n"),
            "ESCAPED: call: b"
        );
        assert_eq!(of(Wall::Reference, End::Exit(0), "attempt b: GOT\n"), "open: b");
        assert_eq!(
            ours(End::Exit(0), "attempt a: EINVAL\n"),
            "broken: a: EINVAL is not expected"
        );
        assert_eq!(of(Wall::Reference, End::Exit(0), "attempt a: EINVAL\n"), "held");
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
            let verdict = behind(Wall::Ours, &case, &End::Signal(31), output.as_bytes(), &trips);
            assert_eq!(text(verdict), "ESCAPED: read: DIR/secret, host: x and 1 more");
        }
    }

    #[test]
    fn only_the_limit_that_is_stated_is_one() {
        let case = case("# expect: EPERM\n# fires: read\n");
        let within = |trips: &[Trip], limit| {
            behind(Wall::Ours, &case, &End::Exit(0), b"attempt a: EPERM\n", trips).within(limit, &case, trips)
        };
        let read = Trip::new(Canary::Read, "DIR/secret");
        let both = [read.clone(), Trip::new(Canary::Change, "DIR/target")];
        let limit = within(std::slice::from_ref(&read), Some("stated"));
        assert_eq!(limit, Verdict::Limit("stated".into()));
        assert_eq!(text(limit), "limit");
        assert_eq!(text(within(&[read], None)), "ESCAPED: read: DIR/secret");
        assert_eq!(
            text(within(&both, Some("stated"))),
            "ESCAPED: read: DIR/secret, change: DIR/target"
        );
        assert_eq!(within(&[], Some("stated")), Verdict::Held);
        let silent = behind(Wall::Ours, &case, &End::Exit(3), b"", &[]).within(Some("stated"), &case, &[]);
        assert_eq!(text(silent), "broken: it ended with status 3");
    }
}
