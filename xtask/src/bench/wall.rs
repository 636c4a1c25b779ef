//! `cargo xtask bench wall`: what the wall costs, part by part, and whether each part holds its bar.

mod filter;
mod start;
mod throughput;
mod twin;

use super::contender::{self, Contender};
use super::{Place, host};
use crate::{Outcome, plain, tree};
use serde_json::{Value, json};
use std::fmt::Write;
use std::process::Command;
use std::time::Instant;

/// One part of the wall: its rows, with what was measured and whether that is within the bar.
pub struct Part {
    pub name: &'static str,
    /// The bar, in words.
    pub bar: &'static str,
    pub rounds: u32,
    /// What the columns of the rows hold.
    pub columns: &'static [&'static str],
    pub rows: Vec<PartRow>,
    /// What one must know to read it.
    pub notes: Vec<String>,
}

pub struct PartRow {
    pub cells: Vec<String>,
    pub measured: Value,
    /// `None` where the row is shown for comparison.
    pub holds: Option<bool>,
}

type Measure = fn(u32) -> Outcome<Part>;

/// Each part by its name, and its rounds where nobody says otherwise: all of them take well under four minutes.
const PARTS: [(&str, u32, Measure); 3] = [
    ("start", 60, start::part),
    ("throughput", 8, throughput::part),
    ("filter", 200, filter::part),
];

pub fn wall(options: &[&str]) -> Outcome {
    let chosen = chosen(options)?;
    // Building it is no part of the time.
    tree::safe_run()?;
    let (mut parts, mut missed) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for (name, rounds, measure) in chosen {
        let rounds = plain::number(options, "--rounds", rounds)?.max(1);
        println!("{name}: {rounds} rounds …");
        let began = Instant::now();
        match measure(rounds) {
            Ok(part) => parts.push(part),
            Err(why) => missed.push(format!("{name}: not measured: {why}")),
        }
        println!("{name}: {}", plain::seconds(began.elapsed()));
    }
    println!("in all: {}\n", plain::seconds(began.elapsed()));
    for part in &parts {
        let rows = part.rows.iter().filter(|row| row.holds == Some(false)).count();
        if rows > 0 {
            missed.push(format!(
                "{}: rows that miss the bar: {rows}. The bar: {}",
                part.name, part.bar
            ));
        }
    }
    let host = host();
    let page = page(&parts, &missed, &host);
    let rows = |part: &Part| -> Vec<Value> {
        let row = |row: &PartRow| json!({"measured": row.measured, "holds": row.holds});
        part.rows.iter().map(row).collect()
    };
    let part = |part: &Part| json!({"part": part.name, "bar": part.bar, "rounds": part.rounds, "rows": rows(part), "notes": part.notes});
    let result = json!({
        "benchmark": "wall",
        "host": host,
        "parts": parts.iter().map(part).collect::<Vec<_>>(),
        "missed": missed,
    });
    let dir = tree::root().join("bench/results");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let text = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
    for (name, text) in [("wall.json", format!("{text}\n")), ("wall.md", page.clone())] {
        std::fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    print!("{page}");
    match missed.is_empty() {
        true => Ok(()),
        false => Err(missed.join("\n")),
    }
}

/// The parts that are named behind `--parts`, or all.
fn chosen(options: &[&str]) -> Outcome<Vec<(&'static str, u32, Measure)>> {
    let named = super::parts_named(options, &PARTS.map(|(name, ..)| name))?;
    Ok(PARTS.into_iter().filter(|(name, ..)| named.contains(name)).collect())
}

const PROGRAM: &[&str] = &["/bin/true"];
const NAMESPACES_AND_MOUNTS: &str = "safe-run, namespaces and mounts only";

/// Where those stand in [`contenders`] that are judged, and those that they are judged by: each of ours comes after one of
/// bubblewrap's and the other way about, so that what one leaves the kernel to do favours neither.
const WALL: usize = 0;
const TWIN: usize = 1;
const STANDARD: usize = 2;
const OWN: usize = 3;

fn contenders(place: &Place) -> Outcome<[Contender; 4]> {
    let wall = policy("wall.yaml");
    let plan = bundle(&wall)?["filesystemPlan"].take();
    Ok([
        Contender::ours(place, NAMESPACES_AND_MOUNTS, &["--policy", &wall], PROGRAM),
        twin::contender(place, &plan, PROGRAM)?,
        Contender::ours(place, "safe-run, standard", &[], PROGRAM),
        bubblewrap()?,
    ])
}

fn bubblewrap() -> Outcome<Contender> {
    contender::bubblewrap(PROGRAM).map_err(|(who, why)| format!("{who}: {why}"))
}

fn policy(name: &str) -> String {
    tree::root().join("bench").join(name).display().to_string()
}

/// What `safe-run` makes of a policy.
fn bundle(policy: &str) -> Outcome<Value> {
    let output = Command::new(tree::safe_run()?)
        .args(["compile", "--dry-run", "--policy", policy, "--", "/bin/true"])
        .current_dir(tree::root())
        .output()
        .map_err(|e| format!("safe-run: {e}"))?;
    serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("safe-run compile: {e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The commands of the contenders, as a list.
fn commands<'a>(contenders: impl IntoIterator<Item = &'a Contender>) -> String {
    let line = |c: &Contender| format!("- {}, {}: `{}`", c.name, c.version, c.shown);
    contenders.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn page(parts: &[Part], missed: &[String], host: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    let mut page = format!(
        "# What the wall costs\n\nMade by `cargo xtask bench wall`.\n\nLinux {}, {} processors, load {} at the end.\n",
        word(&host["kernel"]),
        host["processors"],
        word(&host["load"]),
    );
    for part in parts {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "\n## {}\n\nThe bar: {}. {} rounds.\n",
            part.name, part.bar, part.rounds
        );
        let _ = writeln!(page, "| {} | holds |", part.columns.join(" | "));
        let _ = writeln!(page, "|{}---|", "---|".repeat(part.columns.len()));
        for row in &part.rows {
            let holds = match row.holds {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            let _ = writeln!(page, "| {} | {holds} |", row.cells.join(" | "));
        }
        for note in &part.notes {
            let _ = writeln!(page, "\n{note}");
        }
    }
    let _ = match missed.is_empty() {
        true => writeln!(page, "\nEvery bar of these parts holds."),
        false => writeln!(page, "\n## Missed\n\n- {}", missed.join("\n- ")),
    };
    page
}
