//! `runs`: the runs of the store, the newest last.

use crate::arguments::RunsArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::{self, clean};
use crate::{json, summary};
use serde_json::{Value, json};
use sr_runner::{RunDir, Store};
use std::fmt::Write as _;

pub fn runs(arguments: &RunsArguments, env: &Environment) -> Done {
    let mut runs = Vec::new();
    let mut store = None;
    if env.store.is_dir() {
        let opened = Store::open(&env.store)?;
        runs = opened.runs()?;
        store = Some(opened);
    }
    let left_out = if arguments.all {
        0
    } else {
        runs.len().saturating_sub(arguments.limit)
    };
    let shown = runs.split_off(left_out);
    let running = |run: &RunDir| store.as_ref().is_some_and(|s| s.is_running(&run.id));
    if arguments.json {
        let all: Vec<Value> = shown.iter().map(|run| object(run, running(run))).collect();
        terminal::out(&json::pretty(&all)?);
        return Ok(0);
    }
    if shown.is_empty() {
        terminal::out("no runs yet: safe-run run -- COMMAND\n");
        return Ok(0);
    }
    let mut out = String::new();
    if left_out > 0 {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "{left_out} older: safe-run runs --all");
    }
    for run in &shown {
        let _ = writeln!(out, "{}", line(run, running(run)));
    }
    terminal::out(&out);
    Ok(0)
}

fn line(run: &RunDir, running: bool) -> String {
    let id = run.id.short();
    let Some(report) = run.report() else {
        let state = if running { "running" } else { "incomplete" };
        return format!("{id}  {:19}  {state}", "");
    };
    let started = report.started_at.get(..19).unwrap_or_default().replace('T', " ");
    let changes = report.changes.map_or(0, |c| c.files);
    let changes = if changes == 0 {
        String::new()
    } else {
        format!(", {} changed", terminal::count(changes, "file"))
    };
    let ended = summary::ending(&report.result, report.duration_micros);
    let command: Vec<String> = report.command.argv.iter().map(|word| clean(word)).collect();
    let mut command = command.join(" ");
    if let Some((cut, _)) = command.char_indices().nth(60) {
        command.truncate(cut);
        command.push('…');
    }
    format!("{id}  {started}  {command}  ({ended}{changes})")
}

fn object(run: &RunDir, running: bool) -> Value {
    let report = run.report();
    let state = match (&report, running) {
        (Some(_), _) => "finished",
        (None, true) => "running",
        (None, false) => "incomplete",
    };
    let report = report.as_ref();
    json!({
        "id": run.id,
        "dir": run.path,
        "state": state,
        "startedAt": report.map(|r| &r.started_at),
        "durationMicros": report.map(|r| r.duration_micros),
        "cause": report.map(|r| r.result.cause),
        "status": report.map(|r| r.result.status),
        "argv": report.map(|r| &r.command.argv),
        "changes": report.and_then(|r| r.changes),
    })
}
