//! `cargo xtask bench learn`: what telling of denied calls and paths costs, watching all, and holding files by name, call by
//! call, beside a policy that does nothing of it.

use super::{Place, host};
use crate::{Outcome, plain, tree};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

/// What `evidence` says, in the table's order. The first is what the others are compared with.
const SCOPES: [(&str, &str); 5] = [
    ("nothing", "denied: network"),
    ("telling of denied calls (the default)", "denied: calls"),
    ("telling of denied calls and paths", "denied: paths"),
    (
        "telling of everything, as `learn` does",
        "denied: paths, observe: calls",
    ),
    (FILES, "denied: network"),
];
const FILES: &str = "`files` with 400 places";
const CALLS: [(&str, &str); 4] = [
    ("allowed", "an allowed call"),
    ("denied", "a denied call"),
    ("opened", "open and close of a file"),
    ("missing", "open of what is not there"),
];

/// What the program opens, and as many other places that are there.
fn files() -> Outcome<String> {
    let entries = std::fs::read_dir("/usr/bin").map_err(|e| format!("/usr/bin: {e}"))?;
    // A path of `files` leads through no link.
    let files = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names = files.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric()));
    let others: Vec<String> = names.take(398).map(|name| format!("/usr/bin/{name}")).collect();
    if others.len() < 398 {
        return Err(format!("/usr/bin has only {} programs", others.len()));
    }
    Ok(format!(
        "files: {{read: [/usr/lib, /etc/passwd, {}]}}\n",
        others.join(", ")
    ))
}

pub fn learn(options: &[&str]) -> Outcome {
    let rounds = plain::number(options, "--rounds", 10)?.max(1);
    let place = Place::new("learn")?;
    let work = place.path().join("work");
    let tool = work.join("told");
    let source = tree::root().join("bench/told.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&tool).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("bench/told.c does not build: a C compiler is needed".into());
    }
    let files = files()?;
    for (n, (name, evidence)) in SCOPES.iter().enumerate() {
        let files = if *name == FILES { files.as_str() } else { "" };
        let policy = format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: told-{n}}}\nextends: standard\nruntime: {{command: ./told, args: []}}\n\
             mounts: [{{source: ., captured: true}}]\nevidence: {{sign: none, {evidence}}}\n{files}"
        );
        let path = work.join(format!("{n}.yaml"));
        std::fs::write(&path, policy).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let mut times: BTreeMap<(usize, String), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for n in 0..SCOPES.len() {
            let words = [place.safe_run.display().to_string(), "run".into(), "--quiet".into()];
            let words = [words.as_slice(), &["--policy".into(), format!("./{n}.yaml")]].concat();
            let mut command = place.command(&words).ok_or("no command")?;
            let output = command.stdout(std::process::Stdio::piped()).output();
            let output = output.map_err(|e| format!("safe-run: {e}"))?;
            if !output.status.success() {
                return Err(format!("safe-run: {}", String::from_utf8_lossy(&output.stderr)));
            }
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let (name, nanos) = line.split_once(' ').ok_or("told.c printed something else")?;
                let nanos: f64 = nanos.parse().map_err(|e| format!("{line}: {e}"))?;
                times.entry((n, name.to_owned())).or_default().push(nanos);
            }
        }
    }
    let of = |n: usize, call: &str| times.get(&(n, call.to_owned())).map_or(&[][..], Vec::as_slice);
    let mut page = format!(
        "# What telling, learning and named files cost\n\n`cargo xtask bench learn`, {rounds} rounds in turn. Microseconds a call, \
         medians; in brackets the median of the ratios to the first row, round by round. One that is off costs nothing: its row is \
         the first.\n\n| with |{} |\n|---|{}\n",
        CALLS.map(|(_, text)| format!(" {text} ")).join("|"),
        "---:|".repeat(CALLS.len())
    );
    let mut rows = Vec::new();
    for (n, (name, _)) in SCOPES.iter().enumerate() {
        let mut line = format!("| {name} |");
        let mut row = json!({"toldOf": name});
        for (call, _) in CALLS {
            let (median, ratio) = (
                plain::median(of(n, call)),
                plain::median_ratio(of(n, call), of(0, call)),
            );
            let _ = write!(line, " {:.2} ({ratio:.1}×) |", median / 1000.0);
            row[call] = json!({"medianNanos": median, "toFirst": ratio});
        }
        let _ = writeln!(page, "{line}");
        rows.push(row);
    }
    let result = json!({"benchmark": "learn", "rounds": rounds, "host": host(), "rows": rows});
    let dir = tree::root().join("bench/results");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let text = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
    for (name, text) in [("learn.json", format!("{text}\n")), ("learn.md", page.clone())] {
        std::fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    print!("{page}");
    Ok(())
}
