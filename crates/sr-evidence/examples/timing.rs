//! How long the evidence of one run takes: `cargo run --release -p sr-evidence --example timing -- DIRECTORY [durable]`.
//! Not a test: it asserts nothing.

use serde_json::json;
use sr_common::RunId;
use sr_evidence::attestation::Subject;
use sr_evidence::event::{RUN_END, RUN_START, end_data, start_data};
use sr_evidence::files;
use sr_evidence::keystore::KeyStore;
use sr_evidence::log::EventLog;
use sr_evidence::report::{Durability, EvidenceSummary, RunReport, now};
use sr_evidence::seal::{seal, seal_launch};
use sr_evidence::verify::{VerifyOptions, verify_run};
use std::path::Path;
use std::time::Instant;

#[path = "../tests/support/mod.rs"]
mod support;

const STEPS: [&str; 9] = [
    "load key",
    "create log",
    "policy+bundle",
    "2 events",
    "launch head",
    "3 events",
    "report made",
    "seal",
    "verify",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let base = arguments.next().unwrap_or_else(|| "/tmp/sr-evidence-timing".into());
    let durable = arguments.next().is_some();
    let base = Path::new(&base);
    std::fs::create_dir_all(base)?;
    let store = KeyStore::open(base.join("keys"));
    store.default_key()?;
    let mut samples: Vec<[f64; STEPS.len()]> = Vec::new();
    for i in 0..200u8 {
        let id = RunId::new(1_795_390_325_000, [i; 10]);
        let path = base.join(id.as_str());
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path)?;
        samples.push(one(&path, &id, &store, durable)?);
        std::fs::remove_dir_all(&path)?;
    }
    let mut total = 0.0;
    for (step, name) in STEPS.iter().enumerate() {
        let mut times: Vec<f64> = samples.iter().map(|s| s[step]).collect();
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!(
            "{name:14} median {median:7.1} µs   90 % {:7.1} µs",
            times[times.len() * 9 / 10]
        );
        if *name != "verify" {
            total += median;
        }
    }
    println!("all but verify {total:.1} µs");
    Ok(())
}

fn one(
    path: &Path,
    id: &RunId,
    store: &KeyStore,
    durable: bool,
) -> Result<[f64; STEPS.len()], Box<dyn std::error::Error>> {
    let mut times = [0.0; STEPS.len()];
    let mut clock = Instant::now();
    let mut step = 0;
    let mut lap = || {
        times[step] = clock.elapsed().as_secs_f64() * 1e6;
        step += 1;
        clock = Instant::now();
    };
    let dir = files::open_dir(path)?;
    let key = store.default_key()?;
    lap();
    let mut log = EventLog::create(&dir, id, durable)?;
    lap();
    let policy = files::write_document(&dir, files::POLICY, &json!({"kind": "Policy"}), false)?;
    let bundle = files::write_document(&dir, files::BUNDLE, &json!({"kind": "CompileBundle"}), false)?;
    lap();
    log.append("supervisor", RUN_START, start_data(id, &policy, &bundle))?;
    log.append(
        "supervisor",
        "sandbox.built",
        json!({"mechanism": "namespaces", "micros": 812}),
    )?;
    lap();
    let mut subjects = vec![Subject::new(files::POLICY, policy), Subject::new(files::BUNDLE, bundle)];
    subjects.extend(seal_launch(&dir, &mut log, id, policy, bundle, Some(&key))?);
    lap();
    log.append(
        "supervisor",
        "program.launched",
        json!({"argv": ["/bin/sh", "-c", "exit 7"], "pid": 2}),
    )?;
    log.append("sampler", "usage", json!({"cpuMicros": 900, "memoryBytes": 1_048_576}))?;
    let mut report: RunReport = support::sample_report(id, now(), policy, bundle);
    log.append("supervisor", RUN_END, end_data(&report.result))?;
    lap();
    report.evidence = EvidenceSummary::new(log.state(), Durability::Process, true);
    lap();
    seal(&dir, &mut log, &report, Some(&key), &subjects)?;
    lap();
    let options = VerifyOptions {
        keys: vec![key.public().clone()],
        keyring: Vec::new(),
    };
    let v = verify_run(&path.join(files::REPORT), &options);
    lap();
    if v.exit_code() != 0 {
        return Err(format!("{v:?}").into());
    }
    Ok(times)
}
