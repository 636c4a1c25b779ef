//! `why`: for what reasons a run was refused, ended or denied something, and what would allow it.

use crate::arguments::WhyArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::{self, Style, clean, count};
use crate::{json, summary};
use serde_json::json;
use sr_common::{Code, Fault};
use sr_evidence::files;
use sr_evidence::report::RunReport;
use sr_observe::why::{self, Finding, Kind};
use std::fmt::Write as _;

pub fn why(arguments: &WhyArguments, env: &Environment) -> Done {
    let (_, run) = super::find_run(env, &arguments.run)?;
    let Some(report) = run.report() else {
        let found = format!(
            "run {} has no report: it did not come to its end, or goes on",
            run.id.short()
        );
        let remedy = format!("its events so far: safe-run report verify {}", run.id.short());
        return Err(Fault::new(Code::Evd002, "run", found, remedy).into());
    };
    let read = files::open_dir(&run.path)
        .map_err(|e| e.to_string())
        .and_then(|dir| files::read_document(dir, files::EVENTS));
    let events = read.map_err(|why| Fault::new(Code::Evd002, "run", why, "see the run's folder: safe-run show"))?;
    let faults = why::faults(&String::from_utf8_lossy(&events.unwrap_or_default()));
    let findings = why::findings(&report, &faults);
    if arguments.json {
        let all = json!({"runId": report.run_id, "result": report.result, "deniedCallsTold": why::tells_denials(&report), "findings": findings});
        terminal::out(&json::pretty(&all)?);
    } else {
        terminal::out(&text(&report, &findings, env.out_style));
    }
    Ok(0)
}

// Writing to a string cannot fail.
fn text(report: &RunReport, findings: &[Finding], style: Style) -> String {
    let mut out = String::new();
    let ended = summary::ending(&report.result, report.duration_micros);
    let _ = writeln!(out, "{}", style.bold(&ended));
    for finding in findings {
        let head = match finding.kind {
            Kind::Refused => "refused",
            Kind::Denied => "denied",
            Kind::Limit => "limit",
            Kind::Hidden => "not shown",
        };
        let mut what = clean(&finding.what);
        if let Some(n) = finding.count {
            let _ = write!(what, ", {}", count(n, "time"));
        }
        if let Some(program) = &finding.program {
            let _ = write!(what, ", by {}", clean(program));
        }
        let _ = writeln!(out, "\n{}{what}", style.warn(&format!("{head:11}")));
        let _ = writeln!(out, "           {}", clean(&finding.reason));
        if let Some(clause) = &finding.clause {
            let _ = writeln!(out, "  clause   {}", clean(clause));
        }
        let remedy = match (&finding.remedy, finding.kind) {
            (Some(remedy), Kind::Refused) => format!("  fix      {}", clean(remedy)),
            (Some(remedy), _) => format!("  allow    {}", clean(remedy)),
            (None, Kind::Denied) => "  allow    no policy does".to_owned(),
            (None, _) => continue,
        };
        let _ = writeln!(out, "{remedy}");
    }
    if findings.is_empty() {
        out.push_str(match why::own_end(report) {
            true if why::keeps_files_untold(report) => "\nIt ended by itself.\n",
            true => "\nNo clause of the policy was met: it ended by itself.\n",
            false => "\nNothing more is recorded of it.\n",
        });
    }
    if why::keeps_files_untold(report) {
        out.push_str(
            "\nFiles that `files` does not name are denied and not told of: evidence: {denied: paths} does.\n",
        );
    }
    if !why::tells_denials(report) && findings.iter().all(|f| f.kind != Kind::Refused) {
        out.push_str("\nDenied system calls were not told of (evidence.denied).\n");
    }
    out
}
