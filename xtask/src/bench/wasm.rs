//! `cargo xtask bench wasm`: what WebAssembly behind its two walls costs beside the engine used bare, in turn in the same
//! process; and what a whole run of a module takes that is compiled already.

use super::{Place, host};
use crate::alone::WASM;
use crate::{Outcome, plain, tree};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::time::Instant;

/// What the bars are: nanoseconds, milliseconds, ratios.
const INSTANTIATE: f64 = 50_000.0;
const INSTANTIATE_RATIO: f64 = 1.2;
const HOST_CALL: f64 = 50.0;
const RUN_MILLIS: f64 = 15.0;
const WARM_UP: u32 = 3;

/// Prints a word and ends.
const HELLO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\06\00\00\00") (data (i32.const 16) "hello\n")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

pub fn wasm(options: &[&str]) -> Outcome {
    let rounds = plain::number(options, "--rounds", 60)?.max(1);
    let place = Place::new("wasm")?;
    println!("the engine: ours and bare …");
    let engine = engine()?;
    println!("whole runs: {rounds} rounds …");
    let run = run(&place, rounds)?;
    let figures = figures(&engine, &run)?;
    let missed: Vec<String> = figures
        .iter()
        .filter(|figure| !figure.holds)
        .map(|figure| format!("{}: {}, the bar is {}", figure.what, figure.found, figure.bar))
        .collect();
    let rows: Vec<Value> = figures.iter().map(Figure::json).collect();
    let result = json!({"benchmark": "wasm", "host": host(), "rows": rows, "missed": missed});
    let page = page(&figures, &result);
    print!("{page}");
    let dir = tree::root().join("bench/results");
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let text = serde_json::to_string_pretty(&result).map_err(|e| e.to_string())?;
    for (name, text) in [("wasm.json", format!("{text}\n")), ("wasm.md", page)] {
        fs::write(dir.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    match missed.is_empty() {
        true => Ok(()),
        false => Err(missed.join("\n")),
    }
}

/// One row: what was found, and whether its bar holds.
struct Figure {
    what: &'static str,
    found: String,
    bar: String,
    holds: bool,
}

impl Figure {
    fn json(&self) -> Value {
        json!({"what": self.what, "found": self.found, "bar": self.bar, "holds": self.holds})
    }
}

/// What the measuring program of `sr-wasm` says.
fn engine() -> Outcome<Value> {
    let output = WASM
        .cargo("run")
        .args(["--quiet", "--example", "measure"])
        .output()
        .map_err(|e| format!("cargo: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| format!("the measurement: {e}"))
}

/// Milliseconds of whole runs, ours and those of `/bin/true` behind the native wall, in turn.
fn run(place: &Place, rounds: u32) -> Outcome<(Vec<f64>, Vec<f64>)> {
    let worker = WASM.build()?;
    let module = place.path().join("work/hello.wasm");
    let binary = wat::parse_str(HELLO).map_err(|e| e.to_string())?;
    fs::write(&module, binary).map_err(|e| format!("{}: {e}", module.display()))?;
    let safe_run = place.safe_run.to_str().ok_or("the path of safe-run is not UTF-8")?;
    let took = |program: &str| -> Outcome<f64> {
        let words: Vec<String> = [safe_run, "run", "--quiet", "--", program].map(str::to_owned).into();
        let mut command = place.command(&words).ok_or("no command")?;
        command.env("SAFE_RUN_WASM", &worker);
        let start = Instant::now();
        let status = command.status().map_err(|e| format!("{safe_run}: {e}"))?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        match status.success() {
            true => Ok(took),
            false => Err(format!("{program} ended with {status}")),
        }
    };
    let (mut ours, mut native) = (Vec::new(), Vec::new());
    for round in 0..rounds + WARM_UP {
        let pair = (took("./hello.wasm")?, took("/bin/true")?);
        if round >= WARM_UP {
            ours.push(pair.0);
            native.push(pair.1);
        }
    }
    Ok((ours, native))
}

fn figures(engine: &Value, (ours, native): &(Vec<f64>, Vec<f64>)) -> Outcome<Vec<Figure>> {
    let list = |name: &str, side: &str| -> Outcome<Vec<f64>> {
        let all = engine[name][side].as_array().ok_or(format!("no {name}"))?;
        Ok(all.iter().filter_map(Value::as_f64).collect())
    };
    let ratio = |name: &str| Ok::<f64, String>(plain::median_ratio(&list(name, "ours")?, &list(name, "bare")?));
    let warm = plain::median(&list("instantiate", "ours")?);
    let warm_ratio = ratio("instantiate")?;
    let calls = engine["calls"].as_f64().ok_or("no calls")?;
    let filter = (plain::median(&list("hostCall", "ours")?) - plain::median(&list("hostCall", "bare")?)) / calls;
    let run = plain::median(ours);
    let same = engine["sameCode"] == true;
    let told = |what, found: String| Figure {
        what,
        found,
        bar: "none".to_owned(),
        holds: true,
    };
    Ok(vec![
        Figure {
            what: "instantiate and call, warm",
            found: format!("{:.1} µs, {warm_ratio:.2}× of wasmtime with pooling", warm / 1e3),
            bar: format!("{:.0} µs, {INSTANTIATE_RATIO}×", INSTANTIATE / 1e3),
            holds: warm <= INSTANTIATE && warm_ratio <= INSTANTIATE_RATIO,
        },
        Figure {
            what: "metering: deadline",
            found: match same {
                true => "the same machine code, byte for byte".to_owned(),
                false => "other machine code".to_owned(),
            },
            bar: "as many instructions, and 1 %".to_owned(),
            holds: same,
        },
        told(
            "metering: deadline, time of a loop",
            format!("{:.3}×", ratio("deadline")?),
        ),
        told("metering: epochs, time of a loop", format!("{:.3}×", ratio("epochs")?)),
        told("metering: fuel, time of a loop", format!("{:.3}×", ratio("fuel")?)),
        Figure {
            what: "rules of a host call",
            found: format!("{filter:.0} ns a call"),
            bar: format!("{HOST_CALL:.0} ns"),
            holds: filter <= HOST_CALL,
        },
        Figure {
            what: "safe-run run of a module that is compiled",
            found: format!(
                "{run:.1} ms, {:.2}× of /bin/true behind the native wall",
                plain::median_ratio(ours, native)
            ),
            bar: format!("{RUN_MILLIS:.0} ms"),
            holds: run <= RUN_MILLIS,
        },
    ])
}

fn page(figures: &[Figure], result: &Value) -> String {
    let mut page = format!("# WebAssembly\n\n`cargo xtask bench wasm`, on {}\n\n", result["host"]);
    page.push_str("| what | found | bar | holds |\n|---|---|---|---|\n");
    for Figure {
        what,
        found,
        bar,
        holds,
    } in figures
    {
        let holds = if *holds { "yes" } else { "**no**" };
        let _ = writeln!(page, "| {what} | {found} | {bar} | {holds} |");
    }
    page
}
