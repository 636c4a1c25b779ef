//! What Safe-Run says at the end of a run: how it ended, what changed, and the next command.

use crate::terminal::{Style, clean, count, seconds};
use serde_json::json;
use sr_common::Cause;
use sr_evidence::report::{ChangeSummary, RunReport, RunResult};
use sr_runner::Outcome;
use std::path::Path;

/// Notes, then the last line. Each begins with `safe-run:`, so that it is told from the program's own.
pub fn text(outcome: &Outcome, style: Style) -> Vec<String> {
    let mark = style.dim("safe-run:");
    let mut lines: Vec<String> = Vec::new();
    for note in &outcome.notes {
        // The last line says how the run ended, though not what a signal may mean.
        let result = &outcome.report.result;
        if result.cause == Cause::Signal || Some(note) != result.message.as_ref() {
            lines.push(format!("{mark} {}", clean(note)));
        }
    }
    lines.extend(denied(&outcome.report).map(|denied| format!("{mark} {}", clean(&denied))));
    let (said, next) = last_line(&outcome.report);
    let said = if outcome.status == 0 { said } else { style.warn(&said) };
    lines.push(match &outcome.dir {
        Some(_) => format!("{mark} {said} → {}", style.bold(next)),
        None => format!("{mark} {said}, no evidence kept (evidence.durability: none)"),
    });
    lines
}

/// What was denied, and what would allow it: the first few of all.
fn denied(report: &RunReport) -> Option<String> {
    const MOST: usize = 3;
    let all = report.denied.as_deref().filter(|denied| !denied.is_empty())?;
    let said = all.iter().take(MOST).map(|denied| match &denied.remedy {
        Some(remedy) => format!("{} (to allow it: {remedy})", denied.operation),
        None => denied.operation.clone(),
    });
    let mut text = format!("denied: {}", said.collect::<Vec<_>>().join(", "));
    if all.len() > MOST {
        text += &format!(" and {} more", all.len() - MOST);
    }
    Some(text + " → safe-run why")
}

fn last_line(report: &RunReport) -> (String, &'static str) {
    let changes = report.changes.filter(|c| c.files > 0);
    let ended = ending(&report.result, report.duration_micros);
    let clean_exit = report.result.cause == Cause::Exit && report.result.status == 0;
    match changes {
        Some(c) if clean_exit => (changed(&c), "safe-run diff · safe-run apply"),
        Some(c) => (format!("{ended}, {}", changed(&c)), "safe-run show · safe-run diff"),
        None => (ended, "safe-run show"),
    }
}

fn changed(changes: &ChangeSummary) -> String {
    let files = count(changes.files, "file");
    match changes.deleted {
        0 => format!("{files} changed"),
        n if n == changes.files => format!("{files} deleted"),
        n => format!("{files} changed, {n} of them deleted"),
    }
}

/// How a run ended, in a few words.
pub fn ending(result: &RunResult, duration_micros: u64) -> String {
    let time = seconds(duration_micros);
    match result.cause {
        Cause::Exit => format!("exit {} in {time}", result.status),
        Cause::Signal => format!("ended by {} after {time}", signal_name(result.signal)),
        Cause::Timeout => format!("timeout after {time}"),
        Cause::Memory | Cause::Pids | Cause::Disk | Cause::Output => {
            format!("{} limit reached after {time}", result.cause.as_str())
        }
        Cause::Policy => format!("ended by a denied call after {time}"),
        Cause::Fuel | Cause::Stack => format!("{} used up after {time}", result.cause.as_str()),
        Cause::Trap => format!("trapped after {time}"),
        Cause::Anomaly => format!("ended by an anomaly after {time}"),
        Cause::Cancelled => format!("cancelled after {time}"),
        Cause::Supervisor => format!("Safe-Run could not go on after {time}"),
    }
}

fn signal_name(signal: Option<i32>) -> String {
    let Some(number) = signal else { return "a signal".into() };
    let names = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (11, "SIGSEGV"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
        (24, "SIGXCPU"),
        (25, "SIGXFSZ"),
        (31, "SIGSYS"),
    ];
    names
        .iter()
        .find(|(n, _)| *n == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| (*name).into())
}

/// The same as one JSON object on one line.
pub fn json(outcome: &Outcome, report: Option<&Path>) -> String {
    let result = &outcome.report.result;
    json!({
        "id": outcome.id,
        "status": outcome.status,
        "cause": result.cause,
        "exitCode": result.exit_code,
        "signal": result.signal,
        "limitsHit": result.limits_hit,
        "durationMicros": outcome.report.duration_micros,
        "changes": outcome.report.changes,
        "notes": outcome.notes,
        "dir": outcome.dir,
        "report": report,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(cause: Cause, status: u8, signal: Option<i32>) -> RunResult {
        RunResult {
            cause,
            exit_code: None,
            signal,
            status,
            limits_hit: Vec::new(),
            message: None,
        }
    }

    #[test]
    fn endings() {
        assert_eq!(ending(&result(Cause::Exit, 3, None), 123_456), "exit 3 in 0.12 s");
        assert_eq!(
            ending(&result(Cause::Timeout, 124, Some(9)), 30_000_000),
            "timeout after 30 s"
        );
        assert_eq!(
            ending(&result(Cause::Signal, 139, Some(11)), 5_000),
            "ended by SIGSEGV after 0.005 s"
        );
        assert_eq!(
            ending(&result(Cause::Memory, 137, Some(9)), 1_500_000),
            "memory limit reached after 1.50 s"
        );
    }

    #[test]
    fn changes() {
        let of = |files, deleted| {
            changed(&ChangeSummary {
                files,
                added: 0,
                modified: files - deleted,
                deleted,
            })
        };
        assert_eq!(
            (of(4, 0), of(1, 1), of(3, 1)),
            (
                "4 files changed".into(),
                "1 file deleted".into(),
                "3 files changed, 1 of them deleted".into()
            )
        );
    }
}
