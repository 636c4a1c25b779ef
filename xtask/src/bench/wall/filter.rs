//! What a filter costs a system call: ours, libseccomp's of the same plan, and one that allows everything, which shows
//! what the kernel takes for having a filter at all.

use super::{Part, PartRow};
use crate::scratch::Scratch;
use crate::{Outcome, plain, tree};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Nanoseconds a call over none that our filters may cost.
const MOST: f64 = 30.0;

/// The calls of `bench/filter.c`, and whether the kernel has them in its bitmap.
const CALLS: [(&str, &str); 4] = [
    ("getppid", "always allowed"),
    ("read", "always allowed"),
    ("ioctl", "by its arguments"),
    ("clone", "by its arguments"),
];

/// Where the contender without a filter stands, and the one that allows everything.
const NONE: usize = 0;
const ALL: usize = 1;

pub fn part(rounds: u32) -> Outcome<Part> {
    let scratch = Scratch::new("filter")?;
    let dir = scratch.path();
    let tool = dir.join("filter");
    let source = tree::root().join("bench/filter.c");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&tool).arg(source).status();
    if !built.is_ok_and(|s| s.success()) {
        return Err("bench/filter.c does not build: a C compiler is needed".into());
    }
    let mut contenders = vec![("no filter".to_owned(), "-".to_owned(), false)];
    let mut notes = Vec::new();
    let mut take = |name: String, file: &str, filters: Vec<u8>, ours| -> Outcome {
        let path = dir.join(file);
        std::fs::write(&path, filters).map_err(|e| format!("{}: {e}", path.display()))?;
        contenders.push((name, path.display().to_string(), ours));
        Ok(())
    };
    let allow = [1u32.to_le_bytes().as_slice(), &[0x06, 0, 0, 0, 0, 0, 0xff, 0x7f]].concat();
    take("a filter that allows everything".into(), "all", allow, false)?;
    for preset in ["standard", "strict"] {
        let plan = super::bundle(preset)?["syscallsPlan"].take();
        let program = plan["program"].as_str().and_then(unhexed);
        let program = program.ok_or("the bundle holds no filter")?;
        let length = u32::try_from(program.len() / 8).map_err(|e| e.to_string())?;
        let filters = [length.to_le_bytes().as_slice(), &program].concat();
        take(format!("ours, {preset}"), preset, filters, true)?;
        if preset == "standard" {
            for (optimize, how) in [("1", "a list"), ("2", "a tree")] {
                match libseccomp(&plan, optimize, &dir.join("made")) {
                    Ok(filters) => take(format!("libseccomp, standard, {how}"), optimize, filters, false)?,
                    Err(why) => notes.push(format!("libseccomp: left out: {why}")),
                }
            }
        }
    }
    let output = Command::new(&tool)
        .arg(rounds.to_string())
        .args(contenders.iter().map(|(_, file, _)| file))
        .output()
        .map_err(|e| format!("{}: {e}", tool.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("bench/filter.c: {}: {}", output.status, text.trim()));
    }
    let times = times(&String::from_utf8_lossy(&output.stdout))?;
    let over = |contender: usize, base: usize, call: &str| -> f64 {
        let of = |contender: usize| times.get(&(contender, call.to_owned())).map_or(&[][..], Vec::as_slice);
        // Of each round by itself: what the machine did besides met both.
        let differences: Vec<f64> = of(contender)
            .iter()
            .zip(of(base))
            .map(|(with, without)| with - without)
            .collect();
        plain::median(&differences)
    };
    let mut rows = Vec::new();
    for (call, how) in CALLS {
        for (contender, (name, _, ours)) in contenders.iter().enumerate() {
            let median = times
                .get(&(contender, call.to_owned()))
                .map_or(0.0, |t| plain::median(t));
            let (none, all) = (over(contender, NONE, call), over(contender, ALL, call));
            let shown = |value: f64, base: usize| match contender > base {
                true => format!("{value:+.1}"),
                false => "–".into(),
            };
            rows.push(PartRow {
                cells: vec![
                    format!("`{call}`, {how}"),
                    name.clone(),
                    format!("{median:.1}"),
                    shown(none, NONE),
                    shown(all, ALL),
                    match (ours, all <= MOST) {
                        (false, _) => String::new(),
                        (true, true) => "yes".into(),
                        (true, false) => "**no**".into(),
                    },
                ],
                measured: json!({
                    "call": call, "filter": name, "medianNanos": median, "overNoneNanos": none, "overAllowAllNanos": all,
                    "holdsOverAllowAll": ours.then_some(all <= MOST),
                }),
                holds: ours.then_some(none <= MOST),
            });
        }
    }
    let floors = CALLS.map(|(call, _)| (call, over(ALL, NONE, call)));
    notes.push(floor(&floors));
    Ok(Part {
        name: "filter",
        bar: "our filters cost at most 30 ns a system call over none",
        rounds,
        columns: &[
            "call",
            "filter",
            "ns",
            "over none",
            "over allowing everything",
            "that at most 30",
        ],
        rows,
        notes,
    })
}

/// What having a filter at all costs, call by call, and whether any filter can hold the bar.
fn floor(floors: &[(&str, f64)]) -> String {
    let shown: Vec<String> = floors
        .iter()
        .map(|(call, nanos)| format!("`{call}` {nanos:.1}"))
        .collect();
    let over: Vec<String> = floors
        .iter()
        .filter(|(_, nanos)| *nanos > MOST)
        .map(|(call, _)| format!("`{call}`"))
        .collect();
    let can = match over.is_empty() {
        true => "that leaves room below the bar".to_owned(),
        false => format!(
            "for {} that is more than the bar (floor > bar): on this machine no filter can hold it",
            over.join(", ")
        ),
    };
    format!(
        "Nanoseconds a call; differences are medians of differences round by round. One instruction that allows everything, \
         and that the kernel's bitmap answers for, costs over none: {}; {can}.",
        shown.join(", ")
    )
}

fn unhexed(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok())
        .collect()
}

/// What the tests' script makes of the plan.
fn libseccomp(plan: &Value, optimize: &str, out: &Path) -> Outcome<Vec<u8>> {
    let script = tree::root().join("crates/sr-compiler/tests/libseccomp/filter.py");
    let mut python = Command::new("python3")
        .arg(script)
        .arg(out)
        .arg(optimize)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("python3: {e}"))?;
    if let Some(mut stdin) = python.stdin.take() {
        stdin
            .write_all(plan.to_string().as_bytes())
            .map_err(|e| e.to_string())?;
    }
    let output = python.wait_with_output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => std::fs::read(out).map_err(|e| e.to_string()),
        false => Err(String::from_utf8_lossy(&output.stderr)
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()),
    }
}

/// `contender call nanoseconds`, line by line.
fn times(text: &str) -> Outcome<BTreeMap<(usize, String), Vec<f64>>> {
    let mut times: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [contender, call, nanos] = words.as_slice() else {
            return Err(format!("bench/filter.c says {line:?}"));
        };
        match (contender.parse(), nanos.parse()) {
            (Ok(contender), Ok(nanos)) => times.entry((contender, (*call).to_owned())).or_default().push(nanos),
            _ => return Err(format!("bench/filter.c says {line:?}")),
        }
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_above_the_bar_is_told() {
        let told = floor(&[("read", MOST + 1.0), ("clone", MOST)]);
        assert!(told.contains("for `read` that is more than the bar"), "{told}");
        let told = floor(&[("read", MOST)]);
        assert!(told.contains("room below the bar"), "{told}");
    }
}
