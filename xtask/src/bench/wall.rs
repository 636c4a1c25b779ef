//! `cargo xtask bench wall`: what the wall costs, part by part, and whether each part holds its bar.

mod filter;

use super::host;
use crate::{Outcome, plain, tree};
use serde_json::{Value, json};
use std::fmt::Write;

/// One part of the wall: its rows, with what was measured and whether that is within the bar.
pub struct Part {
    pub name: &'static str,
    /// The bar, in words.
    pub bar: &'static str,
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

pub fn wall(options: &[&str]) -> Outcome {
    let rounds = plain::number(options, "--rounds", 200)?;
    let parts = [filter::part(rounds)?];
    let host = host();
    let page = page(&parts, &host, rounds);
    let rows = |part: &Part| -> Vec<Value> {
        let row = |row: &PartRow| json!({"measured": row.measured, "holds": row.holds});
        part.rows.iter().map(row).collect()
    };
    let part = |part: &Part| json!({"part": part.name, "bar": part.bar, "rows": rows(part), "notes": part.notes});
    let result = json!({
        "benchmark": "wall",
        "rounds": rounds,
        "host": host,
        "parts": parts.iter().map(part).collect::<Vec<_>>(),
    });
    let dir = tree::root().join("bench/results");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let text = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
    for (name, text) in [("wall.json", format!("{text}\n")), ("wall.md", page.clone())] {
        std::fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    print!("{page}");
    let missed: Vec<String> = parts
        .iter()
        .filter_map(|part| {
            let missed = part.rows.iter().filter(|row| row.holds == Some(false)).count();
            (missed > 0).then(|| format!("{}: {missed} rows miss the bar: {}", part.name, part.bar))
        })
        .collect();
    match missed.is_empty() {
        true => Ok(()),
        false => Err(missed.join("\n")),
    }
}

fn page(parts: &[Part], host: &Value, rounds: u32) -> String {
    let word = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    let mut page = format!(
        "# What the wall costs\n\nMade by `cargo xtask bench wall`.\n\nLinux {}, {} processors, load {} at the end, {rounds} rounds.\n",
        word(&host["kernel"]),
        host["processors"],
        word(&host["load"]),
    );
    for part in parts {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "\n## {}\n\nThe bar: {}.\n", part.name, part.bar);
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
    page
}
