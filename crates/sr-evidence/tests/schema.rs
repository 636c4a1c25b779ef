//! The published schemas are those of the code. `UPDATE_SCHEMAS=1 cargo test -p sr-evidence --test schema` writes them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use serde_json::Value;
use sr_evidence::approval::approval_schema;
use sr_evidence::event::event_schema;
use sr_evidence::files;
use sr_evidence::report::{RunReport, report_schema};
use std::path::Path;

fn check(name: &str, schema: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} is not what the code says: run with UPDATE_SCHEMAS=1 and look at the difference",
        path.display()
    );
}

#[test]
fn report() {
    check("run_report_v1.json", &report_schema());
}

#[test]
fn event() {
    check("event_v1.json", &event_schema());
}

#[test]
fn approval() {
    check("approval_v1.json", &approval_schema());
}

/// Every field of the report is written, also where it has nothing to say.
#[test]
fn the_report_writes_all_its_fields() {
    let run = support::run(1, None);
    let report: Value = serde_json::from_slice(&run.read(files::REPORT)).unwrap();
    let schema = report_schema();
    let mut told: Vec<&String> = report.as_object().unwrap().keys().collect();
    let mut known: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
    told.sort();
    known.sort();
    assert_eq!(told, known);
    assert_eq!(report["denied"], Value::Null);
    assert_eq!(report["host"]["memoryMax"], "18446744073709551615");
}

#[test]
fn reports_are_read_strictly() {
    let run = support::run(1, None);
    let good = String::from_utf8(run.read(files::REPORT)).unwrap();
    RunReport::parse(good.as_bytes()).unwrap();
    for (from, to) in [
        ("\"samples\":1", "\"samples\":1.0"),
        ("\"samples\":1", "\"samples\":1,\"more\":1"),
        ("\"samples\":1", "\"samples\":9007199254740993"),
        ("\"kind\":\"RunReport\"", "\"kind\":\"Report\""),
        ("\"apiVersion\":\"safe-run/v1\"", "\"apiVersion\":\"safe-run/v2\""),
        ("\"cause\":\"exit\"", "\"cause\":\"escape\""),
        ("\"complete\":true", "\"complete\": true"),
        ("\"startedAt\":\"2", "\"startedAt\":\"x"),
        ("\"denied\":null,", ""),
    ] {
        let bad = good.replacen(from, to, 1);
        assert!(
            bad != good && RunReport::parse(bad.as_bytes()).is_err(),
            "{from} -> {to}"
        );
    }
}
