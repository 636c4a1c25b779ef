//! The record of approvals: it continues the run's chain, whatever is changed in it is found, and what cannot be found
//! is shown too.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use sr_common::Digest;
use sr_evidence::approval::{
    APPLY_INTENT, APPLY_OUTCOME, APPLY_REFUSED, Anchor, ApprovalLog, By, Intent, Outcome, Planned, Reason, Refused,
    Settled, read,
};
use sr_evidence::dsse::Envelope;
use sr_evidence::export::export_evidence;
use sr_evidence::files;
use sr_evidence::key::{Algorithm, SigningKey};
use sr_evidence::verify::{Status, Verification, verify_dir, verify_run};
use std::os::fd::AsFd;
use support::{Run, run_with_changes, trusting};

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EcdsaP256).unwrap()
}

fn by() -> By {
    By {
        uid: 1000,
        user: Some("ann".into()),
        login_uid: None,
    }
}

fn anchor(run: &Run) -> Anchor {
    run.verify(&[]).told.unwrap().anchor
}

fn manifest(run: &Run) -> Digest {
    Digest::of(&run.read(files::CHANGES))
}

fn intent(run: &Run, path: &str) -> Intent {
    Intent {
        by: by(),
        manifest: manifest(run),
        directories: vec![Planned {
            source: "/p".into(),
            named: Vec::new(),
            paths: vec![path.into()],
        }],
    }
}

fn outcome(intent: Digest, path: &str) -> Outcome {
    Outcome {
        intent,
        complete: true,
        directories: vec![Settled {
            source: "/p".into(),
            applied: vec![path.into()],
            refused: vec![Reason {
                path: "Makefile".into(),
                reason: "danger".into(),
            }],
            skipped: Vec::new(),
        }],
        faults: Vec::new(),
    }
}

/// As a command does: what is to be done, and what came of it.
fn approve(run: &Run, key: Option<&SigningKey>, path: &str) {
    let dir = files::open_dir(run.dir.path()).unwrap();
    let mut log = ApprovalLog::open(dir.as_fd(), anchor(run), key).unwrap();
    let hash = log.append(APPLY_INTENT, &intent(run, path)).unwrap();
    log.append(APPLY_OUTCOME, &outcome(hash, path)).unwrap();
}

fn lines(run: &Run) -> Vec<Vec<u8>> {
    let bytes = run.read(files::APPROVALS);
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

fn place(v: &Verification) -> String {
    v.first_problem.as_ref().map(|p| p.place()).unwrap_or_default()
}

#[test]
fn approvals_continue_the_chain_and_verify() {
    let (runner, approver) = (key(), key());
    let run = run_with_changes(1, Some(&runner));
    approve(&run, Some(&approver), "a");
    approve(&run, Some(&approver), "b");
    let v = run.verify(&[&runner, &approver]);
    assert_eq!((v.status, v.approvals, v.events), (Status::Verified, 2, 6), "{v:#?}");
    let found = read(files::open_dir(run.dir.path()).unwrap(), anchor(&run))
        .unwrap()
        .unwrap();
    let numbers: Vec<u64> = found.list.iter().map(|a| a.event.seq).collect();
    assert_eq!(numbers, [7, 8, 9, 10]);
    assert_eq!(found.list[0].event.prev, anchor(&run).head);
    assert_eq!(found.list[0].intent().unwrap().directories[0].paths, ["a"]);
    // Other tools verify a line by its DSSE envelope.
    let envelope: Envelope = found.list[3].envelope().unwrap();
    assert!(envelope.is_signed_by(approver.public()) && !envelope.is_signed_by(runner.public()));
    // The approver's key is not the run's: the verifier must have both.
    let v = run.verify(&[&runner]);
    assert_eq!(
        (v.status, place(&v)),
        (Status::SignerUnknown, "approvals.jsonl:1".into())
    );
    // An export takes them along.
    let out = tempfile::tempdir().unwrap();
    let dest = out.path().join("r.json");
    export_evidence(files::open_dir(run.dir.path()).unwrap(), &dest).unwrap();
    let v = verify_run(&dest, &trusting(&[&runner, &approver]));
    assert_eq!((v.status, v.approvals), (Status::Verified, 2));
}

#[test]
fn every_changed_byte_is_found() {
    let key = key();
    let run = run_with_changes(2, Some(&key));
    approve(&run, Some(&key), "a");
    let whole = run.read(files::APPROVALS);
    // Every byte of the first line, and of the second as many as take as long.
    let first = lines(&run)[0].len();
    for at in (0..first).chain((first..whole.len()).step_by(5)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        run.write(files::APPROVALS, &bytes);
        let v = run.verify(&[&key]);
        assert_ne!(v.status, Status::Verified, "byte {at}");
        assert!(
            place(&v).starts_with("approvals.jsonl:"),
            "byte {at}: {:?}",
            v.first_problem
        );
    }
}

#[test]
fn lines_dropped_doubled_swapped_or_foreign_are_named() {
    let key = key();
    let run = run_with_changes(3, Some(&key));
    for path in ["a", "b", "c"] {
        approve(&run, Some(&key), path);
    }
    let other = run_with_changes(4, Some(&key));
    approve(&other, Some(&key), "a");
    let (all, foreign) = (lines(&run), lines(&other));
    let mut swapped = all.clone();
    swapped.swap(0, 2);
    let cases = [
        ("first dropped", all[1..].to_vec(), 1),
        ("first approval dropped", all[2..].to_vec(), 1),
        ("middle dropped", [&all[..2], &all[4..]].concat(), 3),
        ("outcome dropped", [&all[..1], &all[2..]].concat(), 2),
        ("swapped", swapped, 1),
        ("doubled", [&all[..2], &all[..2]].concat(), 3),
        ("another run's", foreign.clone(), 1),
        ("spliced", [&all[..2], &foreign[..]].concat(), 3),
        ("blank line", [&all[..], &[b"\n".to_vec()]].concat(), 7),
    ];
    for (what, tampered, line) in cases {
        run.write(files::APPROVALS, &tampered.concat());
        let v = run.verify(&[&key]);
        let at = format!("approvals.jsonl:{line}");
        assert_eq!(
            (v.status, v.exit_code(), place(&v)),
            (Status::Failed, 1, at),
            "{what}: {v:#?}"
        );
        // And nothing is added to such a record.
        let dir = files::open_dir(run.dir.path()).unwrap();
        assert!(ApprovalLog::open(dir.as_fd(), anchor(&run), None).is_err(), "{what}");
    }
}

/// A line that was rewritten with a hash of its own holds by itself; its signature does not, and only then does the next
/// line fail to follow it.
#[test]
fn a_rewritten_line_was_told_as_the_line_after_it() {
    let key = key();
    let run = run_with_changes(12, Some(&key));
    approve(&run, Some(&key), "a");
    let all = lines(&run);
    let mut first: serde_json::Value = serde_json::from_slice(&all[0]).unwrap();
    let event = first["event"].as_object_mut().unwrap();
    event["data"]["by"]["user"] = "eve".into();
    event.remove("hash");
    let hash = sr_common::canonical::digest(&event).unwrap();
    event.insert("hash".into(), hash.to_string().into());
    let mut forged = sr_common::canonical::to_bytes(&first).unwrap();
    forged.push(b'\n');
    run.write(files::APPROVALS, &[&forged, &all[1][..]].concat());
    let v = run.verify(&[&key]);
    assert_eq!(
        (v.status, place(&v)),
        (Status::Failed, "approvals.jsonl:1".into()),
        "{v:#?}"
    );
}

/// What a chain cannot show by itself, signed or not: that its newest decisions were cut off as a whole.
#[test]
fn a_tail_that_was_cut_off_whole_is_not_found_unless_it_leaves_an_intent() {
    let key = key();
    let run = run_with_changes(5, Some(&key));
    approve(&run, Some(&key), "a");
    approve(&run, Some(&key), "b");
    let all = lines(&run);
    run.write(files::APPROVALS, &all[..2].concat());
    let v = run.verify(&[&key]);
    assert_eq!(
        (v.status, v.approvals),
        (Status::Verified, 1),
        "one decision fewer, and nobody can tell"
    );
    for (kept, line) in [
        (all[..3].concat(), 3),
        (all.concat()[..all.concat().len() - 1].to_vec(), 4),
    ] {
        run.write(files::APPROVALS, &kept);
        let v = run.verify(&[&key]);
        let at = format!("approvals.jsonl:{line}");
        assert_eq!(
            (v.status, v.exit_code(), place(&v)),
            (Status::Incomplete, 3, at),
            "{v:#?}"
        );
        assert!(v.sentence().starts_with("the run verifies"), "{}", v.sentence());
        assert_eq!(v.told.unwrap().status, Status::Verified, "the run itself stands");
    }
}

#[test]
fn after_a_kill_the_record_goes_on() {
    let key = key();
    let run = run_with_changes(6, Some(&key));
    let dir = files::open_dir(run.dir.path()).unwrap();
    let mut log = ApprovalLog::open(dir.as_fd(), anchor(&run), Some(&key)).unwrap();
    log.append(APPLY_INTENT, &intent(&run, "a")).unwrap();
    // The next line was cut off by the kill.
    let mut bytes = run.read(files::APPROVALS);
    bytes.extend_from_slice(b"{\"event\":{\"da");
    run.write(files::APPROVALS, &bytes);
    assert_eq!(run.verify(&[&key]).status, Status::Incomplete);
    approve(&run, Some(&key), "a");
    let v = run.verify(&[&key]);
    assert_eq!(
        (v.status, v.approvals, lines(&run).len()),
        (Status::Verified, 2, 3),
        "{v:#?}"
    );
}

#[test]
fn an_approval_counts_as_signed_only_under_a_trusted_key() {
    let (signer, forger) = (key(), key());
    let run = run_with_changes(7, Some(&signer));
    approve(&run, None, "a");
    let v = run.verify(&[&signer]);
    assert_eq!(
        (v.status, place(&v)),
        (Status::Unsigned, "approvals.jsonl:1".into()),
        "in a signed run"
    );
    std::fs::remove_file(run.path(files::APPROVALS)).unwrap();
    approve(&run, Some(&forger), "a");
    assert_eq!(run.verify(&[&signer]).status, Status::SignerUnknown);
    // A forger's signature under the signer's name.
    let forged: Vec<u8> = lines(&run)
        .iter()
        .flat_map(|line| {
            let text = String::from_utf8(line.clone()).unwrap();
            text.replace(forger.key_id(), signer.key_id()).into_bytes()
        })
        .collect();
    run.write(files::APPROVALS, &forged);
    let v = run.verify(&[&signer]);
    assert_eq!((v.status, place(&v)), (Status::Failed, "approvals.jsonl:1".into()));
    let unsigned = run_with_changes(8, None);
    approve(&unsigned, None, "a");
    let v = unsigned.verify(&[&signer]);
    assert_eq!((v.status, v.approvals), (Status::Unsigned, 1));
    assert_eq!(place(&v), files::REPORT);
}

#[test]
fn refusals_are_recorded_and_foreign_manifests_found() {
    let key = key();
    let run = run_with_changes(9, Some(&key));
    let dir = files::open_dir(run.dir.path()).unwrap();
    let refused = |manifest| Refused {
        by: by(),
        manifest,
        named: vec!["a".into()],
        refused: vec![Reason {
            path: "b".into(),
            reason: "conflict".into(),
        }],
    };
    let mut log = ApprovalLog::open(dir.as_fd(), anchor(&run), Some(&key)).unwrap();
    log.append(APPLY_REFUSED, &refused(manifest(&run))).unwrap();
    assert_eq!(run.verify(&[&key]).status, Status::Verified);
    log.append(APPLY_REFUSED, &refused(Digest::of(b"other"))).unwrap();
    let v = run.verify(&[&key]);
    assert_eq!((v.status, place(&v)), (Status::Failed, "approvals.jsonl:2".into()));
    // What is no approval at all, though it chains.
    std::fs::remove_file(run.path(files::APPROVALS)).unwrap();
    let mut log = ApprovalLog::open(dir.as_fd(), anchor(&run), Some(&key)).unwrap();
    log.append("apply.anything", &serde_json::json!({})).unwrap();
    assert!(
        run.verify(&[&key])
            .first_problem
            .unwrap()
            .found
            .contains("no kind of approval")
    );
}

#[test]
fn an_outcome_belongs_to_the_intent_before_it() {
    let key = key();
    let run = run_with_changes(10, Some(&key));
    let dir = files::open_dir(run.dir.path()).unwrap();
    let mut log = ApprovalLog::open(dir.as_fd(), anchor(&run), Some(&key)).unwrap();
    log.append(APPLY_INTENT, &intent(&run, "a")).unwrap();
    log.append(APPLY_OUTCOME, &outcome(Digest::of(b"another"), "a"))
        .unwrap();
    let v = run.verify(&[&key]);
    assert_eq!((v.status, place(&v)), (Status::Failed, "approvals.jsonl:2".into()));
}

#[test]
fn approvals_without_a_chain_prove_nothing() {
    let key = key();
    let run = run_with_changes(11, Some(&key));
    approve(&run, Some(&key), "a");
    std::fs::write(run.path(files::EVENTS), b"").unwrap();
    assert_eq!(run.verify(&[&key]).status, Status::Failed);
    for name in [files::EVENTS, files::REPORT, files::ATTESTATION, files::HEAD_LAUNCH] {
        std::fs::remove_file(run.path(name)).unwrap();
    }
    let v = verify_dir(run.dir.path(), &trusting(&[&key]));
    assert_eq!((v.status, v.approvals), (Status::Failed, 0));
    assert!(v.checks.iter().any(|c| c.name == "approvals" && !c.ok), "{v:#?}");
}
