//! Verification of whole runs: what holds, what is incomplete, whose signature counts, and every kind of tampering.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use sr_common::{Code, RunId};
use sr_evidence::attestation::{SigstoreBundle, Statement};
use sr_evidence::dsse::Envelope;
use sr_evidence::export::{companion_dir, export_evidence};
use sr_evidence::files;
use sr_evidence::key::{Algorithm, SigningKey};
use sr_evidence::log::ChainState;
use sr_evidence::report::RunReport;
use sr_evidence::verify::{Status, Verification, VerifyOptions, verify_dir, verify_run};
use std::path::Path;
use support::{Run, Until, run, run_until, sample_report, trusting};

fn key() -> SigningKey {
    SigningKey::generate(Algorithm::EcdsaP256).unwrap()
}

fn place(v: &Verification) -> String {
    v.first_problem.as_ref().map(|p| p.place()).unwrap_or_default()
}

fn assert_failed(v: &Verification, at: &str) {
    assert_eq!((v.status, v.exit_code()), (Status::Failed, 1), "{v:#?}");
    assert_eq!(place(v), at, "{:?}", v.first_problem);
    assert_eq!(v.fault().unwrap().code, Code::Evd003);
}

fn lines(run: &Run) -> Vec<Vec<u8>> {
    run.read(files::EVENTS)
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn a_fresh_run_verifies_with_either_kind_of_key() {
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        for durable in [false, true] {
            let key = SigningKey::generate(algorithm).unwrap();
            let run = run_until(1, Some(&key), Until::Sealed, durable);
            let v = run.verify(&[&key]);
            assert_eq!(
                (v.status, v.exit_code(), &v.first_problem),
                (Status::Verified, 0, &None),
                "{v:#?}"
            );
            assert_eq!(
                (v.run_id, v.signer, v.events),
                (Some(run.id.clone()), Some(key.key_id().into()), 5)
            );
            assert!(v.checks.iter().all(|c| c.ok));
            assert_eq!(verify_dir(run.dir.path(), &trusting(&[&key])).status, Status::Verified);
        }
    }
}

#[test]
fn the_files_of_a_run() {
    let key = key();
    let run = run(1, Some(&key));
    let mut names: Vec<String> = std::fs::read_dir(run.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            files::ATTESTATION,
            files::BUNDLE,
            files::EVENTS,
            files::HEAD_LAUNCH,
            files::POLICY,
            files::REPORT,
            files::SIGNER
        ]
    );
}

#[test]
fn only_keys_that_the_verifier_brings_count() {
    let (signer, stranger) = (key(), key());
    let run = run(1, Some(&signer));
    for options in [VerifyOptions::default(), trusting(&[&stranger])] {
        let v = verify_run(&run.report(), &options);
        assert_eq!((v.status, v.exit_code()), (Status::SignerUnknown, 1), "{v:#?}");
        assert!(v.first_problem.unwrap().found.starts_with("consistent, signer unknown"));
    }
    // A named key shuts the keyring out.
    let named = VerifyOptions {
        keys: vec![stranger.public().clone()],
        keyring: vec![signer.public().clone()],
    };
    assert_eq!(verify_run(&run.report(), &named).status, Status::SignerUnknown);
    // The key in the evidence is never taken, and its absence is no obstacle to who has it already.
    std::fs::remove_file(run.path(files::SIGNER)).unwrap();
    assert_eq!(run.verify(&[&signer]).status, Status::Verified);
    assert_eq!(run.verify(&[]).status, Status::SignerUnknown);
    // Another key in its place misleads other tools.
    run.write(files::SIGNER, stranger.public().to_pem().as_bytes());
    assert_failed(&run.verify(&[&signer]), files::SIGNER);
}

#[test]
fn a_forger_with_a_key_of_their_own_is_an_unknown_signer() {
    let (signer, forger) = (key(), key());
    let genuine = run(1, Some(&signer));
    let forged = run(1, Some(&forger));
    assert_eq!(forged.verify(&[&signer]).status, Status::SignerUnknown);
    // One forged file among genuine ones is found.
    for name in [files::ATTESTATION, files::HEAD_LAUNCH] {
        let kept = genuine.read(name);
        genuine.write(name, &forged.read(name));
        assert_eq!(genuine.verify(&[&signer]).status, Status::Failed, "{name}");
        genuine.write(name, &kept);
    }
    assert_eq!(genuine.verify(&[&signer]).status, Status::Verified);
}

#[test]
fn a_signature_under_a_borrowed_key_id_fails() {
    let (signer, forger) = (key(), key());
    let run = run(1, Some(&signer));
    let mut bundle: SigstoreBundle = serde_json::from_slice(&run.read(files::ATTESTATION)).unwrap();
    let payload = bundle.dsse_envelope.open("application/vnd.in-toto+json").unwrap();
    bundle.dsse_envelope = Envelope::sign("application/vnd.in-toto+json", &payload, &forger).unwrap();
    bundle.dsse_envelope.signatures[0].keyid = signer.key_id().into();
    let mut bytes = sr_common::canonical::to_bytes(&bundle).unwrap();
    bytes.push(b'\n');
    run.write(files::ATTESTATION, &bytes);
    assert_failed(&run.verify(&[&signer]), files::ATTESTATION);
}

#[test]
fn an_unsigned_run_is_consistent_and_no_more() {
    let run = run(1, None);
    let v = run.verify(&[&key()]);
    assert_eq!((v.status, v.exit_code()), (Status::Unsigned, 1), "{v:#?}");
    // Nor does a signed run become acceptable by losing its signatures.
    let signer = key();
    let signed = support::run(2, Some(&signer));
    for name in [files::ATTESTATION, files::HEAD_LAUNCH, files::SIGNER] {
        std::fs::remove_file(signed.path(name)).unwrap();
    }
    assert_eq!(signed.verify(&[&signer]).status, Status::Incomplete);
    let mut report = RunReport::parse(&signed.read(files::REPORT)).unwrap();
    report.evidence.signed = false;
    signed.write(files::REPORT, &report.to_bytes().unwrap());
    assert_eq!(signed.verify(&[&signer]).status, Status::Unsigned);
}

#[test]
fn a_killed_run_verifies_up_to_its_last_event() {
    let key = key();
    for (until, events) in [(Until::Started, 2), (Until::Launched, 2), (Until::Sampled, 4)] {
        let run = run_until(3, Some(&key), until, false);
        for v in [run.verify(&[&key]), verify_dir(run.dir.path(), &trusting(&[&key]))] {
            assert_eq!(
                (v.status, v.exit_code(), v.events),
                (Status::Incomplete, 3, events),
                "{v:#?}"
            );
            assert_eq!(v.run_id, Some(run.id.clone()));
        }
        // A line that the kill cut off is named and not counted.
        let whole = run.read(files::EVENTS);
        run.write(files::EVENTS, &whole[..whole.len() - 10]);
        let v = run.verify(&[&key]);
        if until == Until::Launched {
            assert_failed(&v, files::EVENTS); // what was signed at launch is not all there
        } else {
            assert_eq!((v.status, v.events), (Status::Incomplete, events - 1), "{v:#?}");
            assert_eq!(place(&v), format!("events.jsonl:{events}"));
        }
        // A whole line that does not hold is tampering, not a kill.
        let mut bad = whole.clone();
        bad[20] ^= 1;
        run.write(files::EVENTS, &bad);
        assert_failed(&run.verify(&[&key]), "events.jsonl:1");
    }
}

#[test]
fn a_kill_between_the_last_files_is_incomplete() {
    let key = key();
    let run = run(4, Some(&key));
    std::fs::remove_file(run.path(files::ATTESTATION)).unwrap();
    assert_eq!(run.verify(&[&key]).status, Status::Incomplete);
    // But the report still holds the chain fast.
    let kept = lines(&run);
    run.write(files::EVENTS, &kept[..4].concat());
    assert_failed(&run.verify(&[&key]), files::EVENTS);
    run.write(files::EVENTS, &kept.concat());
    std::fs::remove_file(run.report()).unwrap();
    assert_eq!(run.verify(&[&key]).status, Status::Incomplete);
}

/// No report says how the chain ended, but the attestation does.
#[test]
fn the_attestation_signs_the_chain_as_it_ended() {
    let key = key();
    let run = run(4, Some(&key));
    let kept = lines(&run);
    run.write(files::EVENTS, &kept[..4].concat());
    std::fs::remove_file(run.report()).unwrap();
    let v = verify_dir(run.dir.path(), &trusting(&[&key]));
    assert_eq!(v.status, Status::Failed);
    let end = v.checks.iter().find(|check| check.name == "head.end").unwrap();
    assert!(!end.ok, "{v:#?}");
}

#[test]
fn lines_dropped_doubled_swapped_cut_or_foreign_are_named() {
    let key = key();
    let run = run(5, Some(&key));
    let other = support::run(6, Some(&key));
    let (all, foreign) = (lines(&run), lines(&other));
    let cases: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("drop last", all[..4].to_vec(), files::EVENTS),
        ("drop first", all[1..].to_vec(), "events.jsonl:1"),
        ("drop middle", [&all[..2], &all[3..]].concat(), "events.jsonl:3"),
        (
            "swap",
            vec![
                all[1].clone(),
                all[0].clone(),
                all[2].clone(),
                all[3].clone(),
                all[4].clone(),
            ],
            "events.jsonl:1",
        ),
        ("double first", [&all[..1], &all[..]].concat(), "events.jsonl:2"),
        ("double last", [&all[..], &all[4..]].concat(), "events.jsonl:6"),
        ("empty", vec![], files::EVENTS),
        ("another run's", foreign.clone(), "events.jsonl:1"),
        ("spliced", [&all[..2], &foreign[2..]].concat(), "events.jsonl:3"),
        ("blank line", [&all[..], &[b"\n".to_vec()]].concat(), "events.jsonl:6"),
        (
            "cut",
            vec![all.concat()[..all.concat().len() - 1].to_vec()],
            "events.jsonl:5",
        ),
        (
            "long line",
            [&all[..], &[vec![b' '; 3 << 20]]].concat(),
            "events.jsonl:6",
        ),
    ];
    for (what, tampered, at) in cases {
        run.write(files::EVENTS, &tampered.concat());
        let v = run.verify(&[&key]);
        assert_eq!(
            (v.status, place(&v).as_str()),
            (Status::Failed, at),
            "{what}: {:?}",
            v.first_problem
        );
    }
    std::fs::remove_file(run.path(files::EVENTS)).unwrap();
    assert_failed(&run.verify(&[&key]), files::EVENTS);
    std::os::unix::fs::symlink(other.path(files::EVENTS), run.path(files::EVENTS)).unwrap();
    assert!(
        run.verify(&[&key])
            .first_problem
            .unwrap()
            .found
            .contains("symbolic link")
    );
    run.write(files::EVENTS, b"");
}

#[test]
fn every_changed_byte_of_the_signed_files_is_found() {
    let key = key();
    let run = run(7, Some(&key));
    // A bit of every byte of the small files; of the large ones in the property test below.
    for name in [files::POLICY, files::HEAD_LAUNCH, files::BUNDLE] {
        let whole = run.read(name);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            run.write(name, &bytes);
            assert_eq!(run.verify(&[&key]).status, Status::Failed, "{name}, byte {at}");
        }
        run.write(name, &whole);
    }
    for name in [
        files::REPORT,
        files::EVENTS,
        files::ATTESTATION,
        files::POLICY,
        files::HEAD_LAUNCH,
    ] {
        let whole = run.read(name);
        for extra in [&b"\n"[..], b" ", b"\0", b"{}"] {
            run.write(name, &[&whole, extra].concat());
            assert_eq!(run.verify(&[&key]).status, Status::Failed, "{name} + {extra:?}");
        }
        run.write(name, &whole[..whole.len() - 1]);
        assert_eq!(run.verify(&[&key]).status, Status::Failed, "{name} cut");
        run.write(name, &whole);
    }
    for name in [files::POLICY, files::BUNDLE, files::HEAD_LAUNCH] {
        let whole = run.read(name);
        std::fs::remove_file(run.path(name)).unwrap();
        assert_failed(&run.verify(&[&key]), name);
        run.write(name, &whole);
    }
    assert_eq!(run.verify(&[&key]).status, Status::Verified);
}

/// The report and the events are each signed for, but by a signer who lets them contradict each other.
#[test]
fn a_report_that_contradicts_its_events_fails_even_when_signed() {
    use serde_json::json;
    use sr_evidence::attestation::{Subject, write_attestation};
    use sr_evidence::event::{RUN_END, RUN_START, start_data};
    let key = key();
    let run = Run {
        dir: tempfile::tempdir().unwrap(),
        id: RunId::new(9, [9; 10]),
    };
    let dir = files::open_dir(run.dir.path()).unwrap();
    let mut log = sr_evidence::log::EventLog::create(&dir, &run.id, false).unwrap();
    let policy = files::write_document(&dir, files::POLICY, &json!({}), false).unwrap();
    log.append("s", RUN_START, start_data(&run.id, &policy, &policy))
        .unwrap();
    let end = json!({"cause": "memory", "exitCode": 7, "signal": null, "status": 7, "limitsHit": []});
    log.append("s", RUN_END, end).unwrap();
    let mut report = sample_report(&run.id, sr_evidence::report::now(), policy, policy);
    let ChainState {
        count,
        head,
        merkle_root,
    } = log.state();
    report.evidence.signed = true;
    (
        report.evidence.count,
        report.evidence.chain_head,
        report.evidence.merkle_root,
    ) = (count, head, merkle_root);
    let written = sr_evidence::report::write_report(&dir, &report, false).unwrap();
    let subjects = [
        Subject::new(files::REPORT, written),
        Subject::new(files::EVENTS, log.content_digest()),
        Subject::new(files::POLICY, policy),
    ];
    write_attestation(&dir, &subjects, &report, &key, false).unwrap();
    let v = run.verify(&[&key]);
    assert_failed(&v, "events.jsonl:2");
    assert!(
        v.first_problem
            .unwrap()
            .found
            .contains("cause is \"memory\"; the report says \"exit\"")
    );
}

#[test]
fn an_exported_report_verifies_and_a_second_export_replaces_the_first() {
    let key = key();
    let (first, second, unsigned) = (run(10, Some(&key)), run(11, Some(&key)), run(12, None));
    let out = tempfile::tempdir().unwrap();
    let dest = out.path().join("r.json");
    for (run, status) in [
        (&first, Status::Verified),
        (&second, Status::Verified),
        (&unsigned, Status::Unsigned),
        (&first, Status::Verified),
    ] {
        export_evidence(files::open_dir(run.dir.path()).unwrap(), &dest).unwrap();
        let v = verify_run(&dest, &trusting(&[&key]));
        assert_eq!((v.status, v.run_id), (status, Some(run.id.clone())));
        assert_eq!(std::fs::read(&dest).unwrap(), run.read(files::REPORT));
    }
    let mut report = std::fs::read(&dest).unwrap();
    report[100] ^= 1;
    std::fs::write(&dest, &report).unwrap();
    assert_failed(&verify_run(&dest, &trusting(&[&key])), "r.json");
    // Without its folder the report proves nothing.
    std::fs::remove_dir_all(companion_dir(&dest)).unwrap();
    assert_eq!(verify_run(&dest, &trusting(&[&key])).status, Status::Failed);
}

#[test]
fn export_replaces_regular_files_only() {
    let run = run(13, None);
    let dir = files::open_dir(run.dir.path()).unwrap();
    let out = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/null", out.path().join("link")).unwrap();
    for dest in [Path::new("/dev/null"), &out.path().join("link"), out.path()] {
        let fault = export_evidence(&dir, dest).unwrap_err();
        assert_eq!(fault.code, Code::Evd002);
        assert!(fault.found.contains("not a regular file"), "{fault}");
    }
    let dest = out.path().join("r.json");
    std::os::unix::fs::symlink(run.dir.path(), companion_dir(&dest)).unwrap();
    assert!(export_evidence(&dir, &dest).is_err());
    assert!(!dest.exists());
}

#[test]
fn what_is_no_evidence_is_said_plainly() {
    let out = tempfile::tempdir().unwrap();
    assert_failed(
        &verify_run(&out.path().join("none.json"), &VerifyOptions::default()),
        "none.json",
    );
    assert_failed(&verify_run(out.path(), &VerifyOptions::default()), files::EVENTS);
    assert_failed(&verify_run(Path::new("/dev/zero"), &VerifyOptions::default()), "zero");
    let report = out.path().join("bad\u{1b}[2J.json");
    std::fs::write(&report, "{\"\u{1b}[31m\": 1}").unwrap();
    let problem = verify_run(&report, &VerifyOptions::default()).first_problem.unwrap();
    assert!(
        !format!("{}{}", problem.path, problem.found).contains('\u{1b}'),
        "{problem:?}"
    );
    // A run that was killed before its first event: its directory's name tells which it was.
    let id = RunId::new(1, [1; 10]);
    let empty = out.path().join(id.as_str());
    std::fs::create_dir(&empty).unwrap();
    let v = verify_run(&empty, &VerifyOptions::default());
    assert_eq!((v.status, v.run_id, v.events), (Status::Incomplete, Some(id), 0));
}

#[test]
fn the_statement_is_in_toto() {
    let key = key();
    let run = run(14, Some(&key));
    let bundle: SigstoreBundle = serde_json::from_slice(&run.read(files::ATTESTATION)).unwrap();
    assert_eq!(bundle.verification_material.public_key.hint, key.key_id());
    let payload = bundle.dsse_envelope.open("application/vnd.in-toto+json").unwrap();
    let statement: Statement = serde_json::from_slice(&payload).unwrap();
    let names: Vec<&str> = statement.subject.iter().map(|s| s.name.as_str()).collect();
    let all = [
        files::REPORT,
        files::EVENTS,
        files::POLICY,
        files::BUNDLE,
        files::HEAD_LAUNCH,
    ];
    assert_eq!(names, all);
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use std::sync::OnceLock;

    struct Fixture {
        key: SigningKey,
        run: Run,
        other: Run,
    }

    fn fixture() -> &'static Fixture {
        static FIXTURE: OnceLock<Fixture> = OnceLock::new();
        FIXTURE.get_or_init(|| {
            let key = key();
            Fixture {
                run: run(20, Some(&key)),
                other: run(21, Some(&key)),
                key,
            }
        })
    }

    /// A copy of the run with one file replaced. Each case has its own directory: tests run at the same time.
    fn verify_with(name: &str, bytes: &[u8]) -> Verification {
        let fixture = fixture();
        let copy = Run {
            dir: tempfile::tempdir().unwrap(),
            id: fixture.run.id.clone(),
        };
        for entry in std::fs::read_dir(fixture.run.dir.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.dir.path().join(entry.file_name())).unwrap();
        }
        copy.write(name, bytes);
        copy.verify(&[&fixture.key])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn one_flipped_bit_is_found(
            name in prop::sample::select(vec![files::EVENTS, files::REPORT, files::ATTESTATION, files::HEAD_LAUNCH]),
            at: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let mut bytes = fixture().run.read(name);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let v = verify_with(name, &bytes);
            prop_assert_eq!(v.status, Status::Failed);
            if name == files::EVENTS {
                let problem = v.first_problem.unwrap();
                let line = 1 + fixture().run.read(name)[..at].iter().filter(|b| **b == b'\n').count() as u64;
                prop_assert_eq!((problem.path.as_str(), problem.line), (files::EVENTS, Some(line)));
            }
        }

        #[test]
        fn another_order_or_choice_of_lines_is_found(
            choice in prop::collection::vec((any::<bool>(), 0usize..5), 0..8),
        ) {
            let fixture = fixture();
            let (own, foreign) = (lines(&fixture.run), lines(&fixture.other));
            let whole: Vec<(bool, usize)> = (0..own.len()).map(|i| (false, i)).collect();
            prop_assume!(choice != whole);
            let pick = |(other, i): &(bool, usize)| if *other { foreign[*i].clone() } else { own[*i].clone() };
            let text: Vec<u8> = choice.iter().flat_map(pick).collect();
            prop_assert_eq!(verify_with(files::EVENTS, &text).status, Status::Failed);
        }

        #[test]
        fn a_cut_at_any_byte_is_found(at: prop::sample::Index, name in prop::sample::select(vec![files::EVENTS, files::REPORT])) {
            let bytes = fixture().run.read(name);
            prop_assert_eq!(verify_with(name, &bytes[..at.index(bytes.len())]).status, Status::Failed);
        }

        #[test]
        fn arbitrary_bytes_are_refused_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            name in prop::sample::select(vec![files::EVENTS, files::REPORT, files::ATTESTATION, files::HEAD_LAUNCH, files::SIGNER, files::POLICY]),
        ) {
            prop_assert_eq!(verify_with(name, &bytes).status, Status::Failed);
        }
    }
}
