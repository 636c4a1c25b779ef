//! The whole of one run's evidence: report, signatures, files, chain, and that they tell the same story.

use super::chain::{self, Chain};
use super::findings::{Findings, Problem};
use super::signature::{Judgement, judge};
use super::{Status, Told, Verification, VerifyOptions};
use crate::approval::Anchor;
use crate::attestation::{Predicate, STATEMENT_MEDIA_TYPE, Statement, Subject, parse_bundle, parse_statement};
use crate::dsse::Envelope;
use crate::event::{CAPTURE_DONE, end_data, start_data};
use crate::files::{self, Unreadable};
use crate::head::{HEAD_TYPE, Head, parse_payload};
use crate::key::PublicKey;
use crate::report::RunReport;
use serde_json::Value;
use sr_common::canonical;
use sr_common::{Digest, RunId};
use std::os::fd::BorrowedFd;

/// `given`: the report's shown name and bytes. `id`: what the directory's name says the run is.
pub(super) fn verify(
    dir: BorrowedFd,
    given: Option<(&str, &[u8])>,
    id: Option<RunId>,
    options: &VerifyOptions,
) -> Verification {
    let mut v = Verifier {
        dir,
        trusted: options.trusted(),
        f: Findings::default(),
        enclosed: None,
        signer: None,
    };
    v.enclosed = v.enclosed_key();

    let report = given.and_then(|(name, bytes)| v.report(name, bytes));
    let attested = v.attestation();
    let launch = v.launch_head();
    let end = attested.as_ref().map(|(statement, _)| &statement.predicate);
    v.signer_file();

    let told = [
        report.as_ref().map(|r| &r.run_id),
        end.map(|predicate| &predicate.run_id),
        launch.as_ref().map(|h| &h.run_id),
        id.as_ref(),
    ];
    let run_id = told.into_iter().flatten().next().cloned();
    if let Some(other) = told.into_iter().flatten().find(|other| Some(*other) != run_id.as_ref()) {
        let found = format!(
            "belongs to more than one run: {} and {other}",
            run_id.as_ref().map_or("", RunId::as_str)
        );
        v.f.fail("runId", Problem::new("evidence", found));
    }

    let chain = v.chain(run_id.as_ref(), launch.as_ref(), given.is_some() || end.is_some());
    if let Some((statement, subjects)) = &attested {
        v.subjects(subjects, given, chain.as_ref());
        if let Some(report) = &report {
            v.f.require(
                "attestation.predicate",
                statement.predicate == Predicate::of(report),
                "says what the report says",
                || Problem::new(files::ATTESTATION, "its predicate differs from the report"),
            );
        }
    }
    if let Some(chain) = chain.as_ref().filter(|c| c.broken.is_none()) {
        v.heads(chain, launch.as_ref(), end);
        if let Some(report) = &report {
            v.report_chain(report, chain);
        }
    }
    match &report {
        Some(report) => v.report_files(report, launch.as_ref()),
        None => v.policy(launch.as_ref().map(|head| head.policy)),
    }
    let anchor = match (&chain, &report) {
        (Some(chain), _) if chain.broken.is_none() => Some(Anchor {
            count: chain.state.count,
            head: chain.state.head,
        }),
        // Where the chain cannot be read, the approvals still follow on what the report says of it.
        (_, Some(report)) => Some(Anchor {
            count: report.evidence.count,
            head: report.evidence.chain_head,
        }),
        _ => None,
    };
    v.completeness(given, report.as_ref(), attested.is_some(), launch.is_some());
    let status = v.f.status();
    let approvals = v.approvals(anchor, report.as_ref());

    let run_id = run_id.or_else(|| chain.as_ref().and_then(|c| c.run_id.clone()));
    let signer = v.signer;
    Verification {
        approvals,
        told: report.map(|report| Told {
            anchor: Anchor {
                count: report.evidence.count,
                head: report.evidence.chain_head,
            },
            bundle: report.digests.bundle,
            captured_changes: report.digests.captured_changes,
            signed: report.evidence.signed,
            status,
        }),
        ..v.f.finish(run_id, signer, chain.map_or(0, |c| c.state.count))
    }
}

pub(super) struct Verifier<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) trusted: &'a [PublicKey],
    pub(super) f: Findings,
    /// `signer.pub`.
    pub(super) enclosed: Option<PublicKey>,
    /// Key id of the first signature that holds; all must have the same.
    signer: Option<String>,
}

impl Verifier<'_> {
    fn enclosed_key(&mut self) -> Option<PublicKey> {
        match files::read_regular(self.dir, files::SIGNER, files::MAX_SMALL) {
            Err(Unreadable::Absent) => None,
            Err(why) => {
                self.f.fail("signer.pub", Problem::new(files::SIGNER, why.text()));
                None
            }
            Ok(bytes) => {
                let key = std::str::from_utf8(&bytes)
                    .map_err(|_| "is not text".to_owned())
                    .and_then(PublicKey::from_pem)
                    .and_then(|key| {
                        if key.to_pem().as_bytes() == bytes {
                            Ok(key)
                        } else {
                            Err("is not plain PEM".into())
                        }
                    });
                key.map_err(|e| self.f.fail("signer.pub", Problem::new(files::SIGNER, e)))
                    .ok()
            }
        }
    }

    /// Other tools verify with `signer.pub`, so it must be the key that signed.
    fn signer_file(&mut self) {
        if let (Some(key), Some(signer)) = (&self.enclosed, &self.signer) {
            let ok = key.key_id() == signer;
            self.f.require("signer.pub", ok, "is the key that signed", || {
                Problem::new(files::SIGNER, "is not the key that signed")
            });
        }
    }

    fn report(&mut self, name: &str, bytes: &[u8]) -> Option<RunReport> {
        match RunReport::parse(bytes) {
            Ok(report) => {
                self.f.pass("report", "strict form, canonical bytes");
                Some(report)
            }
            Err(why) => {
                self.f.fail("report", Problem::new(name, why));
                None
            }
        }
    }

    fn attestation(&mut self) -> Option<(Statement, Vec<Subject>)> {
        let name = files::ATTESTATION;
        let bytes = match files::read_regular(self.dir, name, files::MAX_DOCUMENT) {
            Ok(bytes) => bytes,
            Err(Unreadable::Absent) => return None,
            Err(why) => {
                self.f.fail("attestation", Problem::new(name, why.text()));
                return None;
            }
        };
        let parsed = parse_bundle(&bytes).and_then(|bundle| {
            let statement = parse_statement(&bundle.dsse_envelope.open(STATEMENT_MEDIA_TYPE)?)?;
            let subjects = statement.subjects()?;
            Ok((bundle.dsse_envelope, statement, subjects))
        });
        match parsed {
            Ok((envelope, statement, subjects)) => {
                self.signature("attestation.signature", name, &envelope);
                Some((statement, subjects))
            }
            Err(why) => {
                self.f.fail("attestation", Problem::new(name, why));
                None
            }
        }
    }

    fn launch_head(&mut self) -> Option<Head> {
        let name = files::HEAD_LAUNCH;
        let bytes = match files::read_regular(self.dir, name, files::MAX_SMALL) {
            Ok(bytes) => bytes,
            Err(Unreadable::Absent) => return None,
            Err(why) => {
                self.f.fail("head", Problem::new(name, why.text()));
                return None;
            }
        };
        let parsed = serde_json::from_slice::<Envelope>(&bytes)
            .map_err(|e| format!("is not a DSSE envelope: {e}"))
            .and_then(
                |envelope| match canonical::to_bytes(&envelope).ok().as_deref() == bytes.strip_suffix(b"\n") {
                    true => Ok(envelope),
                    false => Err("is not canonical JSON and one newline".into()),
                },
            )
            .and_then(|envelope| Ok((parse_payload(&envelope.open(HEAD_TYPE)?)?, envelope)));
        match parsed {
            Ok((head, envelope)) => {
                self.signature("head.signature", name, &envelope);
                Some(head)
            }
            Err(why) => {
                self.f.fail("head", Problem::new(name, why));
                None
            }
        }
    }

    fn signature(&mut self, check: &'static str, name: &str, envelope: &Envelope) {
        let id = envelope.key_id().to_owned();
        match judge(envelope, self.trusted, self.enclosed.as_ref()) {
            Judgement::Trusted => self.f.pass(check, format!("{name}: signed by {id}")),
            Judgement::Unknown { checked } => {
                let found = match checked {
                    true => format!("consistent, signer unknown: key {id} is neither given nor in the keyring"),
                    false => {
                        format!("signer unknown, signature not checked: key {id} is neither given nor in the keyring")
                    }
                };
                self.f.note(check, Status::SignerUnknown, Problem::new(name, found));
            }
            Judgement::Bad => {
                self.f.fail(
                    check,
                    Problem::new(name, format!("its signature is not that of key {id} over this content")),
                );
                return;
            }
        }
        match &self.signer {
            None => self.signer = Some(id),
            Some(signer) if *signer == id => {}
            Some(signer) => {
                let found = format!("is signed by {id}, other parts of the run by {signer}");
                self.f.fail(check, Problem::new(name, found));
            }
        }
    }

    fn chain(&mut self, run_id: Option<&RunId>, launch: Option<&Head>, ended: bool) -> Option<Chain> {
        let chain = match chain::read(self.dir, run_id, launch.map(|h| h.count)) {
            Ok(chain) => chain,
            Err(Unreadable::Absent) if !ended && launch.is_none() && run_id.is_some() => {
                let problem = Problem::new(files::EVENTS, "is missing: the run ended before its first event");
                self.f.note("chain", Status::Incomplete, problem);
                return None;
            }
            Err(why) => {
                self.f.fail("chain", Problem::new(files::EVENTS, why.text()));
                return None;
            }
        };
        if let Some((line, why)) = &chain.broken {
            self.f.fail("chain", Problem::at(files::EVENTS, *line, why));
        } else if let Some(line) = chain.partial {
            let found = format!("is cut off; {} events before it hold", chain.state.count);
            let status = if ended { Status::Failed } else { Status::Incomplete };
            self.f.note("chain", status, Problem::at(files::EVENTS, line, found));
        } else {
            self.f.pass(
                "chain",
                format!("{} events, head {}", chain.state.count, chain.state.head),
            );
        }
        Some(chain)
    }

    /// Every file that the attestation names is there and is what it was.
    fn subjects(&mut self, subjects: &[Subject], given: Option<(&str, &[u8])>, chain: Option<&Chain>) {
        for required in [files::REPORT, files::EVENTS, files::POLICY] {
            if subjects.iter().all(|s| s.name != required) {
                self.f.fail(
                    "subject",
                    Problem::new(files::ATTESTATION, format!("does not name {required}")),
                );
            }
        }
        for subject in subjects {
            let (shown, digest) = match subject.name.as_str() {
                files::REPORT => match given {
                    Some((shown, bytes)) => (shown, Ok(Digest::of(bytes))),
                    None => (files::REPORT, Err("is missing".to_owned())),
                },
                files::EVENTS => match chain {
                    Some(chain) => (files::EVENTS, Ok(chain.content)),
                    None => continue, // said already
                },
                name => (name, self.file_digest(name)),
            };
            match digest {
                Ok(digest) if digest == subject.digest => {
                    self.f.pass("subject", format!("{shown} is what was attested"))
                }
                Ok(digest) => {
                    let found = format!(
                        "differs from what was attested: has {digest}, attested {}",
                        subject.digest
                    );
                    self.f.fail("subject", Problem::new(shown, found));
                }
                Err(why) => self.f.fail("subject", Problem::new(shown, why)),
            }
        }
    }

    fn file_digest(&self, name: &str) -> Result<Digest, String> {
        let file = files::open_regular(self.dir, name, files::MAX_EVENTS).map_err(|e| e.text().to_owned())?;
        let (digest, _) =
            Digest::of_reader(std::io::Read::take(file, files::MAX_EVENTS + 1)).map_err(|e| e.to_string())?;
        Ok(digest)
    }

    /// The chain is the one that was signed at the launch and, in the attestation, at the end.
    fn heads(&mut self, chain: &Chain, launch: Option<&Head>, end: Option<&Predicate>) {
        if let Some(head) = launch {
            let ok = chain.prefix == Some(head.chain());
            self.f.require(
                "head.launch",
                ok,
                format!("the first {} events are those signed at launch", head.count),
                || {
                    let found = match chain.state.count < head.count {
                        true => format!(
                            "ends after {} events; {} were signed at launch",
                            chain.state.count, head.count
                        ),
                        false => format!("its first {} events are not those signed at launch", head.count),
                    };
                    Problem::new(files::EVENTS, found)
                },
            );
        }
        if let Some(end) = end {
            let signed = end.chain.count;
            self.f.require(
                "head.end",
                chain.state == end.chain && chain.partial.is_none(),
                format!("all {signed} events are those signed at the end"),
                || {
                    let found = match chain.state.count == signed {
                        true => "is not the chain signed at the end".to_owned(),
                        false => format!("has {} events; {signed} were signed at the end", chain.state.count),
                    };
                    Problem::new(files::EVENTS, found)
                },
            );
        }
        if let (Some(launch), Some(end)) = (launch, end) {
            let ok = (launch.policy, launch.bundle) == (end.policy, end.bundle) && launch.count <= end.chain.count;
            self.f.require("heads", ok, "launch and end agree", || {
                Problem::new(files::ATTESTATION, "does not continue the head signed at launch")
            });
        }
    }

    /// The report tells the same chain and the same facts as the events.
    fn report_chain(&mut self, report: &RunReport, chain: &Chain) {
        let told = report.evidence.chain();
        self.f.require(
            "report.evidence",
            told == chain.state,
            "count, head and Merkle root are the chain's",
            || {
                let found = match told.count == chain.state.count {
                    true => "the report's chain head or Merkle root is not this chain's".to_owned(),
                    false => format!("has {} events; the report says {}", chain.state.count, told.count),
                };
                Problem::new(files::EVENTS, found)
            },
        );
        if let (Some(told), Some(event)) = (&report.digests.captured_changes, &chain.capture) {
            let ok = event.get("manifest").and_then(Value::as_str) == Some(told.to_string().as_str());
            self.f
                .require(CAPTURE_DONE, ok, "the report agrees with the event", || {
                    Problem::new(
                        files::EVENTS,
                        format!("{CAPTURE_DONE} names another manifest than the report, {told}"),
                    )
                });
        }
        let start = start_data(&report.run_id, &report.digests.policy, &report.digests.bundle);
        let end = end_data(&report.result);
        for (check, line, told, event) in [
            ("run.start", 1, &start, chain.start.as_ref()),
            ("run.end", chain.state.count, &end, chain.end.as_ref()),
        ] {
            match disagreement(told, event) {
                None => self.f.pass(check, "the report agrees with the event"),
                Some(found) => self.f.fail(
                    check,
                    Problem::at(files::EVENTS, line.max(1), format!("{check}: {found}")),
                ),
            }
        }
    }

    /// `policy.json` is the policy that the report, or failing it the signed head, names.
    fn policy(&mut self, told: Option<Digest>) {
        let Some(told) = told else { return };
        match self.file_digest(files::POLICY) {
            Ok(found) => self
                .f
                .require("policy", found == told, "is the policy that was in force", || {
                    Problem::new(files::POLICY, format!("has {found}; the policy in force had {told}"))
                }),
            Err(why) => self.f.fail("policy", Problem::new(files::POLICY, why)),
        }
    }

    fn report_files(&mut self, report: &RunReport, launch: Option<&Head>) {
        let digests = &report.digests;
        self.policy(Some(digests.policy));
        for (name, told) in [
            (files::BUNDLE, Some(digests.bundle)),
            (files::CHANGES, digests.captured_changes),
        ] {
            match files::open_regular(self.dir, name, files::MAX_EVENTS) {
                Err(Unreadable::Absent) => {}
                _ => {
                    let found = self.file_digest(name);
                    self.f.require(
                        "file",
                        found.as_ref().ok() == told.as_ref(),
                        format!("{name} is that of the report"),
                        || Problem::new(name, "is not what the report says"),
                    );
                }
            }
        }
        if let Some(head) = launch {
            let ok = (head.policy, head.bundle) == (digests.policy, digests.bundle);
            self.f.require("head", ok, "names the report's policy and bundle", || {
                Problem::new(files::HEAD_LAUNCH, "names another policy or bundle than the report")
            });
        }
    }

    /// Whether what should be there at the end of a run is there.
    fn completeness(&mut self, given: Option<(&str, &[u8])>, report: Option<&RunReport>, attested: bool, launch: bool) {
        let Some((name, _)) = given else {
            let problem = Problem::new(files::REPORT, "is missing: the run was killed or still goes on");
            return match attested {
                true => {} // said as a subject
                false => self.f.note("complete", Status::Incomplete, problem),
            };
        };
        let Some(report) = report else { return };
        if !report.complete {
            let problem = Problem::new(name, "says that part of the run's account is lost");
            self.f.note("complete", Status::Incomplete, problem);
        }
        match (report.evidence.signed, attested) {
            (true, true) => self.f.pass("signed", "the attestation is there"),
            (true, false) => {
                let problem = Problem::new(
                    files::ATTESTATION,
                    "is missing: the run was killed before it was signed",
                );
                self.f.note("signed", Status::Incomplete, problem);
            }
            (false, false) if !launch => {
                let problem = Problem::new(name, "the run was not signed");
                self.f.note("signed", Status::Unsigned, problem);
            }
            (false, _) => self.f.fail(
                "signed",
                Problem::new(name, "says that the run was not signed; there are signatures"),
            ),
        }
    }
}

/// The first member of `told` that `event` has not, or has otherwise.
fn disagreement(told: &Value, event: Option<&Value>) -> Option<String> {
    let Some(event) = event else {
        return Some("there is no such event".into());
    };
    let told = told.as_object()?;
    told.iter().find_map(|(key, value)| match event.get(key) {
        Some(found) if found == value => None,
        Some(found) => Some(format!("{key} is {found}; the report says {value}")),
        None => Some(format!("{key} is not told; the report says {value}")),
    })
}
