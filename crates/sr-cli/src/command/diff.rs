//! `diff`: what a run changed, deletions first.

use crate::arguments::DiffArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::json;
use crate::terminal::{self, Style, clean, clean_lines};
use serde_json::json;
use sr_common::Fault;
use sr_evidence::verify::VerifyOptions;
use sr_runner::changes::{Change, Kind, diff_text};
use sr_runner::{CapturedLayer, takeover};

pub fn diff(arguments: &DiffArguments, env: &Environment) -> Done {
    let (store, run) = super::find_run(env, &arguments.run)?;
    let warn = |fault: &Fault| {
        let text = format!("warning: {}: {}", clean(&fault.path), clean(&fault.found));
        terminal::err(&env.err_style.warn(&text));
    };
    // What is there is shown in any case; whether anything vouches for it is said.
    let trust = super::trust(env).unwrap_or_else(|fault| {
        warn(&fault);
        VerifyOptions::default()
    });
    let seen = takeover::look(&store, &run, &trust)?;
    seen.doubts().into_iter().for_each(warn);
    let all: Vec<(&CapturedLayer, &[Change])> =
        seen.looks.iter().map(|l| (&l.captured, l.changes.as_slice())).collect();
    if arguments.json {
        let list: Vec<_> = all
            .iter()
            .map(|(c, changes)| json!({"source": c.source, "changes": changes}))
            .collect();
        terminal::out(&json::pretty(&list)?);
        return Ok(0);
    }
    let several = all.iter().filter(|(_, changes)| !changes.is_empty()).count() > 1;
    let mut nothing = true;
    for (captured, changes) in all.iter().filter(|(_, changes)| !changes.is_empty()) {
        nothing = false;
        // A file of the operating system's shall not look like one of the project's.
        if several || super::apply::the_hosts_own(&captured.source) {
            terminal::out(&format!("in {}:\n", clean(&captured.source.to_string_lossy())));
        }
        terminal::out(&text(captured, changes, arguments.names, env.out_style)?);
    }
    if nothing {
        terminal::out("nothing was changed\n");
    }
    Ok(0)
}

fn text(captured: &CapturedLayer, changes: &[Change], names: bool, style: Style) -> Result<String, Fault> {
    if names {
        return Ok(changes
            .iter()
            .map(|change| format!("{}\n", line(change, style)))
            .collect());
    }
    // It is clean already but for tabs, which belong to the lines of files.
    Ok(paint(&diff_text(changes, &captured.as_layer())?, style))
}

/// One change as a line: a letter, the path, and what a person must know before it is applied.
pub fn line(change: &Change, style: Style) -> String {
    let letter = match change.kind {
        Kind::Deleted => style.error("D"),
        Kind::Opaque => style.error("R"),
        Kind::Added => style.good("A"),
        Kind::Modified | Kind::ModeChanged | Kind::SymlinkChanged => style.warn("M"),
        Kind::TypeChanged => style.warn("T"),
    };
    let mut line = format!("{letter} {}", clean(&change.path));
    for (head, text) in [
        ("danger", &change.danger),
        ("conflict", &change.conflict),
        ("not applied", &change.skipped),
    ] {
        if let Some(text) = text {
            line.push_str(&style.warn(&format!("  {head}: {}", clean(text))));
        }
    }
    line
}

fn paint(text: &str, style: Style) -> String {
    if !style.color {
        return text.to_owned();
    }
    let painted = text.split_inclusive('\n').map(|line| {
        let body = line.strip_suffix('\n').unwrap_or(line);
        let shown = match body.as_bytes().first() {
            Some(b'+') => style.good(body),
            Some(b'-') => style.error(body),
            Some(b'@') => style.dim(body),
            Some(b' ' | b'\\') | None => body.to_owned(),
            Some(_) => style.bold(&clean_lines(body)),
        };
        shown + "\n"
    });
    painted.collect()
}
