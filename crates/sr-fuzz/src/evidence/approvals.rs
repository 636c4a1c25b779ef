//! `approvals.jsonl`: as the chain that it continues. Whole decisions cut off its end are not seen (SECURITY.md says so);
//! everything else is, at its first line that differs.

use super::sample::ended;
use super::{Change, Difference, chain, line_of, lines, says};
use crate::choices::Choices;
use crate::{Judgement, require};
use serde_json::Value;
use sr_common::canonical;
use sr_evidence::approval::APPLY_INTENT;
use sr_evidence::files::APPROVALS;
use sr_evidence::verify::Status;

pub fn approvals(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let all = ended();
    let evidence = all[c.below(all.len())];
    let whole = evidence.file(APPROVALS);
    let change = chain::change(whole, &mut c, &rehash);
    let changed = change.bytes();
    if changed == whole {
        return Ok(());
    }
    let v = evidence.verify(Some((APPROVALS, changed)));
    let how = Difference::of(whole, changed);
    let said = || format!("{} of\n{}", says(&v), String::from_utf8_lossy(changed));
    let line = line_of(&v, APPROVALS);
    if how.open_end {
        return require((v.status, line) == (Status::Incomplete, Some(how.same + 1)), said);
    }
    if how.is_prefix {
        let kept = lines(changed);
        let intent = kept.last().is_some_and(|line| kind(line) == APPLY_INTENT);
        let decisions = kept.iter().filter(|line| kind(line) != "apply.outcome").count() as u64;
        let expected = match intent {
            true => (Status::Incomplete, Some(how.same)),
            false => (Status::Verified, None),
        };
        return require((v.status, line) == expected && v.approvals == decisions, said);
    }
    // A line whose key is not known, or without a signature, is not verified either.
    let found = [Status::Failed, Status::SignerUnknown, Status::Unsigned].contains(&v.status);
    require(found && line == Some(how.same + 1), || {
        format!("line {} differs: {}", how.same + 1, said())
    })?;
    require(
        !matches!(change, Change::Bytes(_)) || v.status != Status::Verified,
        said,
    )
}

fn kind(line: &[u8]) -> String {
    let value: Value = serde_json::from_slice(line).unwrap_or_default();
    value["event"]["type"].as_str().unwrap_or_default().to_owned()
}

/// Gives the event in a line the hash of its content; its signature stays.
fn rehash(line: &mut Value) {
    if let Some(members) = line.get_mut("event").and_then(Value::as_object_mut) {
        members.remove("hash");
        if let Ok(hash) = canonical::digest(&members) {
            members.insert("hash".into(), hash.to_string().into());
        }
    }
}
