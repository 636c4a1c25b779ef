//! A real report against the promises of its schema.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::{CANARY, LIMIT, Place, Test, end, skip};

fn main() {
    support::main(&[
        ("a_report_fits_its_schema", a_report_fits_its_schema),
        (
            "posture_holds_and_clauses_are_enforced",
            posture_holds_and_clauses_are_enforced,
        ),
        ("no_values_of_the_environment", no_values_of_the_environment),
    ]);
}

fn a_report_fits_its_schema(place: &Place) -> Test {
    place.run(&["--", "true"]).ok()?;
    let schema = place.tell(&["schema", "report"]);
    schema.ok()?;
    let path = place.root().join("schema.json");
    fs::write(&path, &schema.out)?;
    let script = "import json, sys, jsonschema; jsonschema.Draft202012Validator(json.load(open(sys.argv[1]))).validate(json.load(open(sys.argv[2])))";
    let python = std::env::var("SAFE_RUN_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut has = place.command(&python);
    has.args(["-c", "import jsonschema"]);
    if end(has, b"", LIMIT).status != 0 {
        return skip("python3 has no jsonschema");
    }
    let mut check = place.command(&python);
    check
        .args(["-c", script])
        .arg(&path)
        .arg(place.last_run().join("run_report.json"));
    end(check, b"", LIMIT).ok()
}

fn posture_holds_and_clauses_are_enforced(place: &Place) -> Test {
    for policy in ["strict", "standard", "agent", "build"] {
        place.run(&["--policy", policy, "--", "true"]).ok()?;
        let report = place.report();
        let posture = report["posture"].as_array().expect("an array");
        ensure!(posture.len() >= 10, "{policy}: only {} lines of posture", posture.len());
        for line in posture {
            ensure!(line["holds"] == true, "{policy}: {line}");
        }
        for line in report["obligations"].as_array().expect("an array") {
            ensure!(line["enforced"] == true, "{policy}: {line}");
        }
        // Nothing observed file accesses: that is not "none were denied".
        ensure!(
            report["denied"].is_null() || report["denied"].is_array() || report["denied"].is_object(),
            "{}",
            report["denied"]
        );
        ensure!(
            report["peaks"]
                .as_object()
                .is_some_and(|p| !p.values().all(Value::is_null)),
            "{}",
            report["peaks"]
        );
    }
    Ok(())
}

fn no_values_of_the_environment(place: &Place) -> Test {
    place
        .run(&["-e", &format!("GIVEN={CANARY}-given"), "--", "true"])
        .ok()?;
    for entry in fs::read_dir(place.last_run())?.flatten() {
        if entry.file_type()?.is_file() {
            let bytes = fs::read(entry.path())?;
            let has = bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes());
            ensure!(!has, "{} holds a value of the environment", entry.path().display());
        }
    }
    Ok(())
}
