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
    /// Nothing outside was reached, but an attempt succeeded that should not.
    Open(String),
    Broken(String),
    /// The control got through.
    Fired(String),
    /// The control did not get through.
    Silent(String),
    Void(String),
    /// The case says that its control is void, and it fired.
    Stale(String),
    /// Only in the virtual machine.
    Rig,
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
            Verdict::Open(what) => format!("open: {what}"),
            Verdict::Broken(why) => format!("broken: {why}"),
            Verdict::Fired(what) => format!("fires: {what}"),
            Verdict::Silent(why) => format!("SILENT: {why}"),
            Verdict::Void(_) => "void".into(),
            Verdict::Stale(what) => format!("STALE void: {what}"),
            Verdict::Rig => "rig".into(),
            Verdict::Apart => "–".into(),
            Verdict::Absent => "absent".into(),
        }
    }

    /// Whether it is as the corpus promises, where that is promised.
    pub fn is_good(&self) -> bool {
        !matches!(
            self,
            Verdict::Escaped(_) | Verdict::Open(_) | Verdict::Broken(_) | Verdict::Silent(_) | Verdict::Stale(_)
        )
    }
}

/// How one attempt ended: its name, and `GOT`, an errno's name or a signal's.
pub fn attempts(output: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(output);
    let lines = text.lines().filter_map(|line| line.strip_prefix("attempt ")?.rsplit_once(": "));
    lines.map(|(name, result)| (name.to_owned(), result.trim().to_owned())).collect()
}

/// Behind a wall.
pub fn behind(wall: Wall, case: &Case, ended: &Ended, trips: &[Trip]) -> Verdict {
    if !trips.is_empty() {
        return Verdict::Escaped(listed(trips));
    }
    let expected = |result: &String| case.expect.contains(result);
    let attempts = attempts(&ended.output);
    if let Some((name, _)) = attempts.iter().find(|(_, r)| r == "GOT" && !expected(r)) {
        return Verdict::Open(name.clone());
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
    let name = usize::try_from(signal).ok().and_then(|n| SIGNALS.get(n)).copied().unwrap_or("an unknown signal");
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
    let names = trips.iter().take(MOST).map(|t| format!("{}: {}", t.canary.name(), t.what));
    let mut text = names.collect::<Vec<_>>().join(", ");
    if trips.len() > MOST {
        text += &format!(" and {} more", trips.len() - MOST);
    }
    text
}

/// By their numbers.
const SIGNALS: [&str; 32] = [
    "", "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1",
    "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP",
    "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR",
    "SIGSYS",
];
