//! `run_report.json`: a report with anything in it changed, well-formed as it may be, is not the one that was attested.

use super::sample::ended;
use super::{chain::alter, says};
use crate::choices::Choices;
use crate::{Judgement, require};
use serde_json::Value;
use sr_common::canonical;
use sr_evidence::files::REPORT;
use sr_evidence::report::RunReport;
use sr_evidence::verify::Status;

pub fn report(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let all = ended();
    let evidence = all[c.below(all.len())];
    let whole = evidence.file(REPORT);
    let parsed = RunReport::parse(whole)?;
    let again = parsed.to_bytes().map_err(|fault| fault.to_string())?;
    require(again == whole, || {
        "a report is written otherwise the second time".into()
    })?;

    let mut value: Value = serde_json::from_slice(whole).map_err(|e| e.to_string())?;
    for _ in 0..=c.below(3) {
        alter(&mut value, &mut c);
    }
    let mut changed = canonical::to_bytes(&value).map_err(|e| e.to_string())?;
    changed.push(b'\n');
    if changed == whole {
        return Ok(());
    }
    let v = evidence.verify(Some((REPORT, &changed)));
    require(v.status == Status::Failed && v.first_problem.is_some(), || {
        format!("{}\n{}", says(&v), String::from_utf8_lossy(&changed))
    })
}
