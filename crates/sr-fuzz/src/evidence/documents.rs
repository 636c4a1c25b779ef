//! Any file of the evidence replaced by anything: hostile JSON is read within bounds, and never believed.

use super::sample::samples;
use super::says;
use crate::choices::{Choices, mutate};
use crate::{Judgement, require};
use sr_evidence::files;
use sr_evidence::verify::Status;

const NAMES: [&str; 9] = [
    files::REPORT,
    files::EVENTS,
    files::ATTESTATION,
    files::HEAD_LAUNCH,
    files::SIGNER,
    files::POLICY,
    files::BUNDLE,
    files::CHANGES,
    files::APPROVALS,
];

/// A verification is for a person to read, whatever it is of.
const LONGEST: usize = 64 << 10;

pub fn documents(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let all = samples();
    let evidence = &all[c.below(all.len())];
    let name = c.word(&NAMES);
    let bytes = match c.below(4) {
        0 => hostile(&mut c),
        1 => c.rest().to_vec(),
        _ => {
            let mut bytes = evidence.file(name).to_vec();
            mutate(&mut bytes, &mut c);
            bytes
        }
    };
    let v = evidence.verify(Some((name, &bytes)));
    // Beginnings of the two records of lines are for their own targets.
    let records = [files::EVENTS, files::APPROVALS].contains(&name);
    if records && evidence.file(name).starts_with(&bytes) {
        return Ok(());
    }
    if evidence.files.get(name) == Some(&bytes) {
        let untouched = evidence.verify(None);
        require(v == untouched, || {
            format!("{name}: {}, and {}", says(&v), says(&untouched))
        })?;
    } else {
        require(v.status != Status::Verified, || format!("{name}: {}", says(&v)))?;
    }
    let told = serde_json::to_string(&v).map_err(|e| e.to_string())?;
    require(told.len() <= LONGEST, || {
        format!("{} bytes are told of {name}", told.len())
    })?;
    let clean = |text: &str| {
        !text
            .chars()
            .any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))
    };
    require(
        v.first_problem.iter().all(|p| clean(&p.found) && clean(&p.path)),
        || says(&v),
    )
}

/// Depth, length, numbers and names without end.
fn hostile(c: &mut Choices<'_>) -> Vec<u8> {
    let count = 1 + c.below(1 << 16);
    match c.below(8) {
        0 => "[".repeat(count).into_bytes(),
        1 => "{\"a\":".repeat(count).into_bytes(),
        2 => format!("{}{}", "[".repeat(count), "]".repeat(count)).into_bytes(),
        3 => format!("{{\"event\":{}{}}}", "[".repeat(count), "]".repeat(count)).into_bytes(),
        4 => format!("{{{}\"z\":1}}", "\"k\":0,".repeat(count)).into_bytes(),
        5 => "9".repeat(count).into_bytes(),
        6 => format!("{{\"runId\":\"{}\"}}", "\u{202e}".repeat(count)).into_bytes(),
        _ => vec![b'\n'; count],
    }
}

/// Every file as it is, to be changed.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..NAMES.len() as u8)
        .flat_map(|name| [vec![0, name, 2], vec![3, name, 2], vec![0, name, 0, 9, 9, 0]])
        .collect()
}
