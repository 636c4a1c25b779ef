//! Sixty-four runs at once: how many end in a second, behind our wall and behind bubblewrap's.

use super::{OWN, Part, PartRow, STANDARD, TWIN, WALL, commands, contenders};
use crate::bench::contender::Contender;
use crate::bench::{Place, tried};
use crate::{Outcome, plain};
use serde_json::json;
use std::process::Stdio;
use std::time::Instant;

const AT_ONCE: u32 = 64;
/// Our runs a second are at least this many of bubblewrap's.
const LEAST: f64 = 1.2;

pub fn part(rounds: u32) -> Outcome<Part> {
    let mut rates = [const { Vec::new() }; 4];
    let mut shown = Vec::new();
    for round in 0..rounds {
        // A store for each round, so that the last meets no more runs than the first.
        let place = Place::new("throughput")?;
        let contenders = contenders(&place)?;
        let mut all: Vec<_> = contenders.iter().zip(&mut rates).collect();
        // What one leaves the kernel to do meets the next: in every other round the other way about.
        if round % 2 == 1 {
            all.reverse();
        }
        for (contender, rates) in all {
            // The first run makes the store and the key.
            tried(&place, contender).map_err(|(who, why)| format!("{who}: {why}"))?;
            rates.push(rate(&place, contender)?);
        }
        shown = contenders.into();
    }
    let to = |at: usize, other: usize| match (rates.get(at), rates.get(other)) {
        (Some(rates), Some(others)) => plain::median_ratio(rates, others),
        _ => 0.0,
    };
    let rows = shown
        .iter()
        .zip(&rates)
        .enumerate()
        .map(|(at, (contender, rates))| {
            let (median, to_twin, to_own) = (plain::median(rates), to(at, TWIN), to(at, OWN));
            PartRow {
                cells: vec![
                    contender.name.clone(),
                    format!("{median:.0}"),
                    format!("{to_twin:.2}×"),
                    format!("{to_own:.2}×"),
                ],
                measured: json!({
                    "name": contender.name, "version": contender.version, "command": contender.shown,
                    "runsPerSecond": median, "toSameNamespacesAndMounts": to_twin, "toOwnCommand": to_own,
                }),
                holds: match at {
                    WALL | STANDARD => Some(to_twin >= LEAST),
                    _ => None,
                },
            }
        })
        .collect();
    Ok(Part {
        name: "throughput",
        bar: "with 64 runs of `/bin/true` at once, at least 1.2× of the runs a second of bubblewrap with the same namespaces and \
              mounts; beside bubblewrap's own short command, too",
        rounds,
        columns: &[
            "64 at once by",
            "runs a second",
            "to the same namespaces and mounts",
            "to bubblewrap's own command",
        ],
        rows,
        notes: vec![
            "From the first spawn to the last exit; the ratio is the median of ratios round by round. Under standard ours \
             write their evidence, 64 into one store, and sign it."
                .into(),
            commands(&shown),
        ],
    })
}

/// Runs a second of one batch.
fn rate(place: &Place, contender: &Contender) -> Outcome<f64> {
    let fail = |e: std::io::Error| format!("{}: {e}", contender.name);
    let mut children = Vec::new();
    let start = Instant::now();
    for _ in 0..AT_ONCE {
        let (mut command, _files) = contender.command(place)?;
        children.push(command.stderr(Stdio::null()).spawn().map_err(fail)?);
    }
    let mut failed = Vec::new();
    for child in &mut children {
        let status = child.wait().map_err(fail)?;
        if !status.success() {
            failed.push(status.to_string());
        }
    }
    let time = start.elapsed();
    match failed.first() {
        None => Ok(f64::from(AT_ONCE) / time.as_secs_f64()),
        Some(status) => Err(format!(
            "{}: {} of {AT_ONCE} at once failed: {status}",
            contender.name,
            failed.len()
        )),
    }
}
