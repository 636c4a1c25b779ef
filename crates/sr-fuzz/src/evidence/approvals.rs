//! `approvals.jsonl`: as the chain that it continues. Whole decisions cut off its end are not seen (SECURITY.md says so);
//! everything else is, at its first line that differs; where a later line is worse, that one is told, and this one is among
//! what was looked at.

use super::sample::{Evidence, ended};
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
    judge(evidence, &chain::change(whole, &mut c, &rehash))
}

fn judge(evidence: &Evidence, change: &Change) -> Judgement {
    let (whole, changed) = (evidence.file(APPROVALS), change.bytes());
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
    let first = how.same + 1;
    let place = format!("{APPROVALS}:{first}: ");
    let seen = v
        .checks
        .iter()
        .any(|check| !check.ok && check.detail.starts_with(&place));
    let found = match v.status {
        // The worst kind of problem decides, and a line whose key is not known, or without a signature, is none of the worst.
        Status::Failed | Status::Incomplete => line == Some(first) || (seen && line > Some(first)),
        Status::SignerUnknown | Status::Unsigned => line == Some(first),
        Status::Verified => false,
    };
    require(found, || format!("line {first} differs: {}", said()))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `null` in the key id of a line, whose signer is unknown then, and a line after it that is no JSON.
    #[test]
    fn a_line_that_fails_is_told_before_an_unknown_signer() {
        let mut judged = 0;
        for evidence in ended() {
            let mut list: Vec<String> = lines(evidence.file(APPROVALS))
                .into_iter()
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
                .collect();
            if list.len() < 2 || !list[0].contains(r#""keyid":""#) {
                continue;
            }
            list[0] = list[0].replacen(r#""keyid":""#, r#""keyid":"null"#, 1);
            let of = |list: &[String]| Change::Bytes(list.concat().into_bytes());
            let told = |change: &Change| {
                let v = evidence.verify(Some((APPROVALS, change.bytes())));
                (v.status, line_of(&v, APPROVALS))
            };
            let unknown = of(&list);
            assert_eq!(told(&unknown), (Status::SignerUnknown, Some(1)));
            assert_eq!(judge(evidence, &unknown), Ok(()));
            list[1].insert(1, '{');
            let worse = of(&list);
            assert_eq!(told(&worse), (Status::Failed, Some(2)));
            assert_eq!(judge(evidence, &worse), Ok(()));
            judged += 1;
        }
        assert!(judged > 0);
    }
}
