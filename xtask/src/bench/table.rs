//! The benchmark's result as a page.

use serde_json::Value;
use std::fmt::Write;

pub fn table(result: &Value) -> String {
    let mut page = String::from(
        "# Start times\n\nMade by `cargo xtask bench start`; milliseconds of wall time from spawn to exit, contenders in turn.\n\n",
    );
    let host = &result["host"];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or("–").replace('|', "\\|");
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "Linux {}, {} processors, {}, load {} at the end, {} rounds.\n",
        word(&host["kernel"]),
        host["processors"],
        if host["root"] == Value::Bool(true) {
            "as root"
        } else {
            "as an ordinary user"
        },
        word(&host["load"]),
        result["rounds"],
    );
    page.push_str("| row | program | by | median | least | to bubblewrap |\n|---|---|---|---:|---:|---:|\n");
    let rows = result["rows"].as_array().cloned().unwrap_or_default();
    for row in &rows {
        for contender in row["contenders"].as_array().into_iter().flatten() {
            let ratio = contender["toBubblewrap"]
                .as_f64()
                .map_or("–".into(), |r| format!("{r:.2}×"));
            let _ = writeln!(
                page,
                "| {} | `{}` | {} | {:.1} | {:.1} | {ratio} |",
                word(&row["row"]),
                word(&row["program"]),
                word(&contender["name"]),
                number(&contender["medianMillis"]),
                number(&contender["leastMillis"]),
            );
        }
    }
    let mut absent: Vec<String> = rows
        .iter()
        .flat_map(|row| row["absent"].as_array().cloned().unwrap_or_default())
        .map(|a| format!("- {}: left out: {}", word(&a["name"]), word(&a["reason"])))
        .collect();
    absent.dedup();
    absent.sort();
    absent.dedup();
    if !absent.is_empty() {
        let _ = writeln!(page, "\n{}", absent.join("\n"));
    }
    let parts = &result["parts"];
    let whole = number(&parts["standardMillis"]);
    let _ = writeln!(
        page,
        "\n## Of one `safe-run run -- /bin/true` ({whole:.1} ms)\n\n| part | ms | share |\n|---|---:|---:|"
    );
    let told = [
        ("signing (with it, less without)", "signingMillis"),
        ("hashing (nothing cached, less cached)", "hashingMillis"),
        (
            "syncing (`durability: machine`, less `process`); not in the default",
            "syncingMillis",
        ),
    ];
    for (name, key) in told {
        let value = number(&parts[key]);
        let _ = writeln!(
            page,
            "| {name} | {value:.2} | {:.0} % |",
            if whole > 0.0 { value / whole * 100.0 } else { 0.0 }
        );
    }
    page.push_str("\nClocks of the report, medians, milliseconds since the run began:");
    for (name, key) in [
        ("sandbox built", "builtMicros"),
        ("wall up", "wallMicros"),
        ("first instruction", "launchedMicros"),
        ("program ended", "endedMicros"),
        ("result in hand", "resultMicros"),
    ] {
        let _ = write!(page, " {name} {:.1} ·", number(&result["clocks"][key]) / 1e3);
    }
    let steps = result["timeline"].as_array().cloned().unwrap_or_default();
    let whole: f64 = steps.iter().map(|step| number(&step["millis"])).sum();
    let _ = writeln!(
        page,
        "\n\n## Where it goes ({whole:.1} ms, with `-v`)\n\n| up to | ms | share |\n|---|---:|---:|"
    );
    for step in &steps {
        let millis = number(&step["millis"]);
        let _ = writeln!(
            page,
            "| {} | {millis:.2} | {:.0} % |",
            word(&step["step"]),
            if whole > 0.0 { millis / whole * 100.0 } else { 0.0 }
        );
    }
    let _ = writeln!(
        page,
        "\nPeak memory of the supervisor: {:.1} MiB.",
        number(&result["peakMemoryKiB"]) / 1024.0
    );
    page.push_str("\n## Commands\n\n");
    for row in &rows {
        for contender in row["contenders"].as_array().into_iter().flatten() {
            let shown = word(&contender["command"]);
            // The scratch directory of the measurement is nobody's business.
            let shown: Vec<&str> = shown
                .split(' ')
                .map(|w| if w.starts_with("/tmp/") { "BUNDLE" } else { w })
                .collect();
            let _ = writeln!(
                page,
                "- {}, {}: `{}`",
                word(&row["row"]),
                word(&contender["version"]),
                shown.join(" ")
            );
        }
    }
    page
}
