//! Why a run was refused, ended or denied something: each with the policy's clause, and what would allow it.

use serde::{Deserialize, Serialize};
use sr_common::{ByteSize, Cause, Millis};
use sr_evidence::report::{DeniedOperation, RunReport};

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    pub kind: Kind,
    /// What was tried, met or not shown.
    pub what: String,
    /// The policy's field, or where the launch was; `None`: it was no clause of the policy.
    pub clause: Option<String>,
    pub reason: String,
    /// What to write or do to allow it; `None`: nothing allows it.
    pub remedy: Option<String>,
    /// How often; `None` where it is not counted.
    pub count: Option<u64>,
    /// What the program that tried it calls itself.
    pub program: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// There was no run, or not to its end.
    Refused,
    Denied,
    /// A limit was met.
    Limit,
    /// A file of the host that was not shown.
    Hidden,
}

/// A fault as an event records it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Recorded {
    pub code: String,
    pub path: String,
    pub found: String,
    pub remedy: String,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    data: serde_json::Value,
}

/// The faults for which a run was refused or failed, from its `events.jsonl`. What cannot be read is passed over: whether
/// the record is whole is for `report verify` to say.
pub fn faults(events: &str) -> Vec<Recorded> {
    let events = events
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let faults = events.flat_map(|event| match event.kind.as_str() {
        "run.refused" => event.data["faults"].as_array().cloned().unwrap_or_default(),
        "run.failed" => vec![event.data],
        _ => Vec::new(),
    });
    faults.filter_map(|fault| serde_json::from_value(fault).ok()).collect()
}

/// Every reason that the record of a run gives, the weightiest first.
pub fn findings(report: &RunReport, faults: &[Recorded]) -> Vec<Finding> {
    let mut all: Vec<Finding> = faults.iter().map(refused).collect();
    all.extend(report.result.limits_hit.iter().map(|clause| limit(report, clause)));
    all.extend(report.denied.iter().flatten().map(denied));
    all.extend(report.hidden.iter().map(|hidden| Finding {
        kind: Kind::Hidden,
        what: hidden.path.clone(),
        clause: Some("hide".into()),
        reason: hidden.reason.clone(),
        remedy: Some("take what matches it out of hide, or write a shorter list".into()),
        count: None,
        program: None,
    }));
    all
}

/// Whether denied system calls were told of at all.
pub fn tells_denials(report: &RunReport) -> bool {
    report.denied.is_some()
}

/// Whether files that the policy does not let be opened were denied without being told of.
pub fn keeps_files_untold(report: &RunReport) -> bool {
    let says = |clause: &str, what: &str| {
        let mut all = report.obligations.iter();
        all.any(|obligation| obligation.clause == clause && obligation.requested.starts_with(what))
    };
    says("files.read", "") && !says("evidence.denied", "paths")
}

/// Whether the run ended for a reason that is none of the policy's.
pub fn own_end(report: &RunReport) -> bool {
    matches!(report.result.cause, Cause::Exit | Cause::Signal | Cause::Trap)
}

fn refused(fault: &Recorded) -> Finding {
    Finding {
        kind: Kind::Refused,
        what: fault.code.clone(),
        clause: Some(fault.path.clone()),
        reason: fault.found.clone(),
        remedy: Some(fault.remedy.clone()).filter(|remedy| !remedy.is_empty()),
        count: None,
        program: None,
    }
}

fn denied(denied: &DeniedOperation) -> Finding {
    Finding {
        kind: Kind::Denied,
        what: denied.operation.clone(),
        clause: denied.clause.clone(),
        reason: denied
            .reason
            .clone()
            .unwrap_or_else(|| format!("denied by {}", denied.by)),
        remedy: denied.remedy.clone(),
        count: Some(denied.count),
        program: denied.program.clone(),
    }
}

fn limit(report: &RunReport, clause: &str) -> Finding {
    let asked = report.obligations.iter().find(|o| o.clause == clause);
    let requested = asked.map(|o| o.requested.as_str()).unwrap_or_default();
    let (section, field) = clause.rsplit_once('.').unwrap_or(("resources", clause));
    let fatal = matches!(
        report.result.cause,
        Cause::Timeout | Cause::Memory | Cause::Pids | Cause::Disk | Cause::Output | Cause::Fuel | Cause::Stack
    );
    let reason = match (fatal, field) {
        (_, "output") if !fatal => format!("what came after {requested} was dropped"),
        (true, _) => format!("the limit of {requested} was used up"),
        (false, _) => format!("the limit of {requested} was met, and the program went on"),
    };
    Finding {
        kind: Kind::Limit,
        what: field.to_owned(),
        clause: Some(clause.to_owned()),
        reason,
        remedy: doubled(requested).map(|more| format!("{section}: {{{field}: {more}}}")),
        count: None,
        program: None,
    }
}

/// Twice a size, a time or a number.
fn doubled(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<u64>() {
        return Some(number.saturating_mul(2).to_string());
    }
    if let Ok(size) = ByteSize::parse(text) {
        return Some(ByteSize(size.0.saturating_mul(2)).to_string());
    }
    let time = Millis::parse(text).ok()?;
    Some(Millis(time.0.saturating_mul(2)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_double_in_their_own_words() {
        let of = |text| doubled(text).unwrap_or_default();
        assert_eq!(
            (of("512"), of("2GiB"), of("30s"), of("all")),
            ("1024".into(), "4GiB".into(), "1min".into(), String::new())
        );
    }

    #[test]
    fn faults_are_read_from_the_events_that_have_them() {
        let fault = r#"{"code":"SR-RUN-001","path":"a.b","found":"x","remedy":"y"}"#;
        let events = format!(
            "{{\"type\":\"run.start\",\"data\":{{}}}}\n{{\"type\":\"run.refused\",\"data\":{{\"faults\":[{fault}]}}}}\n\
             half a line\n{{\"type\":\"run.failed\",\"data\":{fault}}}\n{{\"type\":\"run.failed\",\"data\":{{}}}}\n"
        );
        let found = faults(&events);
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .all(|f| (f.path.as_str(), f.found.as_str()) == ("a.b", "x"))
        );
    }
}
