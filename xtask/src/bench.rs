//! `cargo xtask bench start`: how long `/bin/true` and `python3 -c pass` take behind walls, ours and others', one after
//! the other in the same loop (A B C A B C …), so that whatever else the machine does meets all of them.

mod contender;
pub mod learn;
pub mod microvm;
mod table;
mod timeline;
pub mod wall;
pub mod wasm;

use crate::scratch::Scratch;
use crate::{Outcome, plain, tree};
use contender::{Contender, Row};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const PROGRAMS: [(&str, &[&str]); 2] = [
    ("/bin/true", &["/bin/true"]),
    ("python3 -c pass", &["/usr/bin/python3", "-c", "pass"]),
];
const WARM_UP: u32 = 3;

/// Where a benchmark's runs and settings are.
pub struct Place {
    scratch: Scratch,
    pub safe_run: PathBuf,
}

impl Place {
    fn new(name: &str) -> Outcome<Place> {
        let place = Place {
            scratch: Scratch::new(name)?,
            safe_run: tree::safe_run()?,
        };
        for dir in ["work", "store", "home"] {
            place.scratch.dir(dir)?;
        }
        Ok(place)
    }

    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// A command in the benchmark's own directory, store and home.
    fn command(&self, words: &[String]) -> Option<Command> {
        let (program, rest) = words.split_first()?;
        let mut command = Command::new(program);
        command
            .args(rest)
            .current_dir(self.path().join("work"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
            .env("SAFE_RUN_WORKDIR_BASE", self.store())
            .env("SAFE_RUN_KEY_DIR", self.path().join("keys"));
        command.env("HOME", self.path().join("home"));
        Some(command)
    }
}

/// The parts of `known` that are named behind `--parts`, or all.
fn parts_named<'a>(options: &[&'a str], known: &[&'a str]) -> Outcome<Vec<&'a str>> {
    let Some(at) = options.iter().position(|o| *o == "--parts") else {
        return Ok(known.to_vec());
    };
    let named: Vec<&str> = options.get(at + 1).map(|n| n.split(',').collect()).unwrap_or_default();
    if named.is_empty() || !named.iter().all(|name| known.contains(name)) {
        return Err(format!(
            "--parts wants names of {}, with commas between",
            known.join(", ")
        ));
    }
    Ok(named)
}

pub fn start(options: &[&str]) -> Outcome {
    let rounds = plain::number(options, "--rounds", 40)?;
    let place = Place::new("bench")?;
    let mut rows = Vec::new();
    for row in [Row::Wall, Row::Standard] {
        for (name, program) in PROGRAMS {
            rows.push(measure(&place, row, name, program, rounds)?);
        }
    }
    let result = json!({
        "benchmark": "start",
        "rounds": rounds,
        "host": host(),
        "rows": rows,
        "parts": parts(&place, rounds)?,
        "clocks": clocks(&place)?,
        "timeline": timeline::timeline(&place)?,
        "peakMemoryKiB": peak(&place)?,
    });
    let dir = tree::root().join("bench/results");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let text = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
    let table = table::table(&result);
    for (name, text) in [("start.json", format!("{text}\n")), ("start.md", table.clone())] {
        std::fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    print!("{table}");
    Ok(())
}

/// One row of the table: every contender that works here.
fn measure(place: &Place, row: Row, name: &str, program: &[&str], rounds: u32) -> Outcome<Value> {
    let mut taking_part = Vec::new();
    let mut absent = Vec::new();
    for contender in contender::all(place, row, program)? {
        match contender.and_then(|c| tried(place, &c).map(|()| c)) {
            Ok(contender) => taking_part.push(contender),
            Err((who, why)) => {
                println!("{who}: left out: {why}");
                absent.push(json!({"name": who, "reason": why}));
            }
        }
    }
    let times = interleaved(place, &taking_part, rounds)?;
    let of = |who: &str| {
        taking_part
            .iter()
            .zip(&times)
            .find(|(c, _)| c.name == who)
            .map(|(_, t)| plain::median(t))
    };
    let reference = of("bubblewrap");
    let contenders: Vec<Value> = taking_part
        .iter()
        .zip(&times)
        .map(|(contender, times)| {
            let median = plain::median(times);
            json!({
                "name": contender.name,
                "version": contender.version,
                "command": contender.shown,
                "medianMillis": median,
                "leastMillis": plain::least(times),
                "toBubblewrap": reference.map(|r| median / r),
            })
        })
        .collect();
    Ok(json!({"row": row.name(), "program": name, "contenders": contenders, "absent": absent}))
}

/// Whether a contender works here at all.
fn tried(place: &Place, contender: &Contender) -> Result<(), (String, String)> {
    let fail = |why: String| Err((contender.name.clone(), why));
    let (mut command, _files) = contender.command(place).map_err(|why| (contender.name.clone(), why))?;
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            fail(format!(
                "{}: {}",
                output.status,
                text.trim().lines().last().unwrap_or_default()
            ))
        }
        Err(e) => fail(e.to_string()),
    }
}

/// Milliseconds of each contender, in turn.
fn interleaved(place: &Place, contenders: &[Contender], rounds: u32) -> Outcome<Vec<Vec<f64>>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..rounds + WARM_UP {
        for (contender, times) in contenders.iter().zip(&mut times) {
            if let Some(dir) = &contender.empties {
                // Nothing is there the first time.
                let _ = std::fs::remove_dir_all(dir).and_then(|()| std::fs::create_dir(dir));
            }
            let (mut command, _files) = contender.command(place)?;
            command.stderr(Stdio::null());
            let start = Instant::now();
            let status = command.status().map_err(|e| format!("{}: {e}", contender.name))?;
            let time = start.elapsed();
            if !status.success() {
                return Err(format!("{}: {status} in round {round}", contender.name));
            }
            if round >= WARM_UP {
                times.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    Ok(times)
}

/// What hashing, signing and syncing cost: the same run with and without.
fn parts(place: &Place, rounds: u32) -> Outcome<Value> {
    let machine = tree::root().join("bench/machine.yaml").display().to_string();
    let variant = |name: &str, flags: &[&str]| Contender::ours(place, name, flags, &["/bin/true"]);
    let cold = Contender {
        empties: Some(place.store().join("cache")),
        ..variant("no digest cached", &[])
    };
    let variants = [
        variant("standard", &[]),
        variant("not signed", &["--no-sign"]),
        cold,
        variant("durability machine", &["--policy", &machine]),
    ];
    for variant in &variants {
        tried(place, variant).map_err(|(who, why)| format!("{who}: {why}"))?;
    }
    let medians: Vec<f64> = interleaved(place, &variants, rounds)?
        .iter()
        .map(|t| plain::median(t))
        .collect();
    let [standard, unsigned, cold, machine] = medians.as_slice() else {
        return Err("medians".into());
    };
    Ok(json!({
        "standardMillis": standard,
        "signingMillis": standard - unsigned,
        "hashingMillis": cold - standard,
        "syncingMillis": machine - standard,
    }))
}

/// Medians of the clocks in the reports of fifteen runs of their own.
fn clocks(place: &Place) -> Outcome<Value> {
    let ours = Contender::ours(place, "clocks", &["--json"], &["/bin/true"]);
    let mut seen: Vec<(&str, Vec<f64>)> = [
        "builtMicros",
        "wallMicros",
        "launchedMicros",
        "endedMicros",
        "resultMicros",
    ]
    .map(|c| (c, Vec::new()))
    .into();
    for _ in 0..15 {
        let Some(mut command) = place.command(&ours.words) else {
            break;
        };
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr);
        let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).map_err(|e| e.to_string())?;
        let dir = last["dir"]["path"]
            .as_str()
            .or_else(|| last["dir"].as_str())
            .unwrap_or_default();
        let report = std::fs::read(Path::new(dir).join("run_report.json")).map_err(|e| format!("{dir}: {e}"))?;
        let report: Value = serde_json::from_slice(&report).map_err(|e| e.to_string())?;
        for (clock, values) in &mut seen {
            values.extend(report["clocks"][*clock].as_f64());
        }
    }
    Ok(seen
        .into_iter()
        .map(|(clock, values)| (clock.to_owned(), json!(plain::median(&values))))
        .collect())
}

/// The supervisor's peak memory.
fn peak(place: &Place) -> Outcome<Value> {
    let tool = place.path().join("peak");
    let source = tree::root().join("bench/peak.c");
    let built = Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&tool)
        .arg(source)
        .status();
    if !built.is_ok_and(|s| s.success()) {
        println!("peak memory: not measured: no C compiler");
        return Ok(Value::Null);
    }
    let ours = Contender::ours(place, "peak", &[], &["/bin/true"]);
    let words: Vec<String> = [vec![tool.display().to_string()], ours.words].concat();
    let mut values = Vec::new();
    for _ in 0..5 {
        let Some(mut command) = place.command(&words) else {
            break;
        };
        let output = command.stdout(Stdio::piped()).output().map_err(|e| e.to_string())?;
        values.extend(String::from_utf8_lossy(&output.stdout).trim().parse::<f64>().ok());
    }
    Ok(json!(plain::median(&values)))
}

fn host() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    json!({
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "processors": processors,
        "root": tree::is_root(),
        "load": load,
    })
}
