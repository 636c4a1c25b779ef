//! The record of what people took over of a run's changes: `approvals.jsonl`. It continues the run's own chain: its
//! first event's `prev` is the last hash of `events.jsonl`, its numbers go on from there, and each line is signed by
//! the key of whoever approved. A signature thus stands for everything before it: the run, and every approval so far.
//!
//! What is about to be written is recorded, and on the disk, before the first file changes; what came of it follows.

use crate::clock;
use crate::dsse::{Envelope, Signature};
use crate::event::{Draft, Event};
use crate::files::{self, Unreadable};
use crate::key::SigningKey;
use crate::portable::{self, MAX_INTEGER};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Mode, OFlags};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sr_common::{Code, Digest, Fault, canonical};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

/// The payload type under which an event of this record is signed (DSSE).
pub const APPROVAL_TYPE: &str = "application/vnd.safe-run.approval+json";
/// What is about to be written. Its data are an [`Intent`].
pub const APPLY_INTENT: &str = "apply.intent";
/// What came of the intent just before it. Its data are an [`Outcome`].
pub const APPLY_OUTCOME: &str = "apply.outcome";
/// Nothing was written, because of conflicts. Its data are a [`Refused`].
pub const APPLY_REFUSED: &str = "apply.refused";

/// One line of `approvals.jsonl`: canonical JSON (RFC 8785).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// `seq` and `prev` continue `events.jsonl`; `monotonic` counts from the start of the command that recorded it.
    pub event: Event,
    /// One, or none where signing is off: of the event's canonical JSON, as DSSE signs a payload.
    pub signatures: Vec<Signature>,
}

/// Who approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct By {
    pub uid: u32,
    /// Its name on that host, where it has one.
    pub user: Option<String>,
    /// The uid that logged in, where the kernel keeps it (audit): it stays through `su` and `sudo`.
    pub login_uid: Option<u32>,
}

/// The data of [`APPLY_INTENT`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    pub by: By,
    /// Digest of the `changes.json` that the layers were compared with.
    pub manifest: Digest,
    pub directories: Vec<Planned>,
}

/// What is to be written to one captured directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Planned {
    /// On the host.
    pub source: String,
    /// What the approver named; empty: everything that needs no naming.
    pub named: Vec<String>,
    /// Every path that will be written or deleted.
    pub paths: Vec<String>,
}

/// The data of [`APPLY_OUTCOME`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    /// `hash` of the intent.
    pub intent: Digest,
    /// Whether all that was intended was written.
    pub complete: bool,
    pub directories: Vec<Settled>,
    /// What stopped the writing.
    pub faults: Vec<Reason>,
}

/// What became of one captured directory's changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settled {
    pub source: String,
    pub applied: Vec<String>,
    /// Not applied, because they must be named and were not.
    pub refused: Vec<Reason>,
    /// Never applied, wholly or in part.
    pub skipped: Vec<Reason>,
}

/// The data of [`APPLY_REFUSED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refused {
    pub by: By,
    pub manifest: Digest,
    pub named: Vec<String>,
    pub refused: Vec<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reason {
    pub path: String,
    pub reason: String,
}

/// The end of a run's chain, where its approvals begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Number of events.
    pub count: u64,
    /// `hash` of the last.
    pub head: Digest,
}

impl Approval {
    /// The line, without its newline.
    fn encode(event: &str, signatures: &[Signature]) -> Result<String, String> {
        let signatures = canonical::to_bytes(&signatures).map_err(|e| e.to_string())?;
        let signatures = String::from_utf8(signatures).map_err(|e| e.to_string())?;
        Ok(format!(r#"{{"event":{event},"signatures":{signatures}}}"#))
    }

    /// Reads one line strictly. Says nothing about the signature.
    fn parse(line: &[u8]) -> Result<Approval, String> {
        let approval: Approval = serde_json::from_slice(line).map_err(|e| format!("is not an approval: {e}"))?;
        let event = approval.event.canonical()?;
        if approval.signatures.len() > 1 {
            return Err(format!("has {} signatures, more than one", approval.signatures.len()));
        }
        match Self::encode(&event, &approval.signatures)?.as_bytes() == line {
            true => approval.well_formed().map(|()| approval),
            false => Err("is not canonical JSON (RFC 8785)".into()),
        }
    }

    fn well_formed(&self) -> Result<(), String> {
        let data = self.event.data.clone();
        let read = match self.event.kind.as_str() {
            APPLY_INTENT => serde_json::from_value::<Intent>(data).map(drop),
            APPLY_OUTCOME => serde_json::from_value::<Outcome>(data).map(drop),
            APPLY_REFUSED => serde_json::from_value::<Refused>(data).map(drop),
            other => return Err(format!("is no kind of approval: {other:?}")),
        };
        read.map_err(|e| format!("does not hold what {} holds: {e}", self.event.kind))
    }

    /// The event in its DSSE envelope, as other tools verify it; `None` where it is not signed.
    pub fn envelope(&self) -> Option<Envelope> {
        let event = self.event.canonical().ok()?;
        (!self.signatures.is_empty()).then(|| Envelope {
            payload: STANDARD.encode(event),
            payload_type: APPROVAL_TYPE.to_owned(),
            signatures: self.signatures.clone(),
        })
    }

    pub fn intent(&self) -> Option<Intent> {
        (self.event.kind == APPLY_INTENT).then(|| serde_json::from_value(self.event.data.clone()).ok())?
    }

    pub fn outcome(&self) -> Option<Outcome> {
        (self.event.kind == APPLY_OUTCOME).then(|| serde_json::from_value(self.event.data.clone()).ok())?
    }

    pub fn refused(&self) -> Option<Refused> {
        (self.event.kind == APPLY_REFUSED).then(|| serde_json::from_value(self.event.data.clone()).ok())?
    }
}

/// A record as it was read, up to the first line that does not hold.
#[derive(Debug, Default)]
pub struct Approvals {
    pub list: Vec<Approval>,
    /// The first line that does not hold (counted from 1), and why.
    pub broken: Option<(u64, String)>,
    /// The last line was cut off while it was written. Its number.
    pub partial: Option<u64>,
    /// Bytes of the whole lines that hold.
    bytes: u64,
}

impl Approvals {
    /// Whether the last thing recorded is something that was begun: the process was killed, or the rest cut off.
    pub fn unfinished(&self) -> bool {
        self.list.last().is_some_and(|last| last.event.kind == APPLY_INTENT)
    }
}

/// Reads the record of a run whose chain ends at `anchor`; `None` if there is none.
pub fn read(dir: impl AsFd, anchor: Anchor) -> Result<Option<Approvals>, String> {
    let bytes = match files::read_regular(dir.as_fd(), files::APPROVALS, files::MAX_APPROVALS) {
        Ok(bytes) => bytes,
        Err(Unreadable::Absent) => return Ok(None),
        Err(why) => return Err(why.text().to_owned()),
    };
    let mut read = Approvals::default();
    let mut at = anchor;
    for (line, number) in bytes.split_inclusive(|b| *b == b'\n').zip(1u64..) {
        let Some(text) = line.strip_suffix(b"\n") else {
            read.partial = Some(number);
            break;
        };
        match Approval::parse(text).and_then(|approval| follows(&approval, at, read.list.last()).map(|()| approval)) {
            Ok(approval) => {
                at = Anchor {
                    count: approval.event.seq,
                    head: approval.event.hash,
                };
                read.bytes += line.len() as u64;
                read.list.push(approval);
            }
            Err(why) => {
                read.broken = Some((number, why));
                break;
            }
        }
    }
    Ok(Some(read))
}

fn follows(approval: &Approval, at: Anchor, before: Option<&Approval>) -> Result<(), String> {
    let event = &approval.event;
    if event.prev != at.head {
        let what = match before {
            None => "the run's chain ends with",
            Some(_) => "the line before has",
        };
        return Err(format!("prev is {}, {what} {}", event.prev, at.head));
    }
    if event.seq != at.count + 1 {
        return Err(format!("seq is {}, expected {}", event.seq, at.count + 1));
    }
    if let Some(outcome) = approval.outcome() {
        let intent = before.filter(|b| b.event.kind == APPLY_INTENT && b.event.hash == outcome.intent);
        if intent.is_none() {
            return Err("is the outcome of something else than the line before".into());
        }
    }
    Ok(())
}

/// The writing side. The caller sees to it that nobody else writes.
pub struct ApprovalLog<'a> {
    dir: BorrowedFd<'a>,
    key: Option<&'a SigningKey>,
    file: Option<OwnedFd>,
    at: Anchor,
    bytes: u64,
    start: Instant,
}

impl<'a> ApprovalLog<'a> {
    /// Opens the record of a run whose chain ends at `anchor`. Nothing is made before something is recorded.
    pub fn open(dir: BorrowedFd<'a>, anchor: Anchor, key: Option<&'a SigningKey>) -> Result<Self, Fault> {
        let found = read(dir, anchor).map_err(|why| fault(format!("{} {why}", files::APPROVALS)))?;
        let found = found.unwrap_or_default();
        if let Some((line, why)) = found.broken {
            let found = format!("{}:{line} {why}", files::APPROVALS);
            let remedy = "the record was changed after it was written: nothing can be added to it";
            return Err(Fault::new(Code::Evd003, "evidence.approvals", found, remedy));
        }
        let at = found.list.last().map_or(anchor, |last| Anchor {
            count: last.event.seq,
            head: last.event.hash,
        });
        Ok(ApprovalLog {
            dir,
            key,
            file: None,
            at,
            bytes: found.bytes,
            start: Instant::now(),
        })
    }

    /// Adds an event; it is on the disk when this returns. Gives its hash.
    pub fn append<T: Serialize>(&mut self, kind: &str, data: &T) -> Result<Digest, Fault> {
        let problem = |e: String| fault(format!("{kind} cannot be recorded: {e}"));
        let data = portable::text(data).map_err(problem)?;
        let time = clock::rfc3339(SystemTime::now());
        let draft = Draft {
            seq: self.at.count + 1,
            time: &time,
            monotonic: u64::try_from(self.start.elapsed().as_micros())
                .unwrap_or(0)
                .min(MAX_INTEGER),
            source: "approver",
            kind,
            data: &data,
            prev: &self.at.head,
        };
        let (hash, event) = draft.encode().map_err(|e| problem(e.to_string()))?;
        let signatures = match self.key {
            Some(key) => {
                Envelope::sign(APPROVAL_TYPE, event.as_bytes(), key)
                    .map_err(problem)?
                    .signatures
            }
            None => Vec::new(),
        };
        let mut line = Approval::encode(&event, &signatures).map_err(problem)?;
        line.push('\n');
        if self.bytes + line.len() as u64 > files::MAX_APPROVALS {
            let found = format!(
                "{} would be longer than {} bytes",
                files::APPROVALS,
                files::MAX_APPROVALS
            );
            let remedy = "apply less at once: name directories";
            return Err(Fault::new(Code::Evd001, "evidence.approvals", found, remedy));
        }
        self.write(line.as_bytes())
            .map_err(|e| fault(format!("{} cannot be written: {e}", files::APPROVALS)))?;
        self.bytes += line.len() as u64;
        self.at = Anchor {
            count: self.at.count + 1,
            head: hash,
        };
        Ok(hash)
    }

    fn write(&mut self, line: &[u8]) -> rustix::io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(self.dir, files::APPROVALS, flags, Mode::RUSR | Mode::WUSR)?;
                // What a kill cut off was never followed by anything that it would stand for.
                rustix::fs::ftruncate(&file, self.bytes)?;
                rustix::fs::fsync(self.dir)?;
                file
            }
        };
        let written = files::write_all(file.as_fd(), line).and_then(|()| rustix::fs::fdatasync(&file));
        if written.is_err() {
            // Half a line stands for nothing, and the next command cuts it off where this cannot.
            let _ = rustix::fs::ftruncate(&file, self.bytes);
        }
        self.file = Some(file);
        written
    }
}

/// The JSON Schema of one line of `approvals.jsonl`.
pub fn approval_schema() -> Value {
    /// What `event.data` holds, by `event.type`.
    #[derive(JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "its schema is what it is for")]
    enum Data {
        Intent(Intent),
        Outcome(Outcome),
        Refused(Refused),
    }
    let mut schema = schemars::schema_for!(Approval).to_value();
    let data = schemars::schema_for!(Data).to_value();
    if let Some(map) = schema.as_object_mut() {
        map.insert("title".into(), "Safe-Run approval, v1".into());
        let mut definitions = data
            .get("$defs")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        if let Some(Value::Object(own)) = map.get_mut("$defs") {
            own.append(&mut definitions);
            if let Some(event) = own.get_mut("Event").and_then(|e| e.pointer_mut("/properties/data")) {
                *event = serde_json::json!({"anyOf": data.get("anyOf")});
            }
        }
    }
    schema
}

fn fault(found: impl Into<String>) -> Fault {
    Fault::new(
        Code::Evd001,
        "evidence.approvals",
        found,
        "make room in the run store and see that it is writable",
    )
}
