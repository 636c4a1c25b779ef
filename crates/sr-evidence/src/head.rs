//! The signed head: how far the chain had come at the launch, with all that precedes the program's first instruction.

use crate::clock;
use crate::dsse::Envelope;
use crate::files;
use crate::key::SigningKey;
use crate::log::ChainState;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use sr_common::{Code, Digest, Fault, RunId, canonical};
use std::os::fd::AsFd;

pub const HEAD_TYPE: &str = "application/vnd.safe-run.head+json";

/// The payload of `head.launch.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    pub run_id: RunId,
    /// Number of events so far.
    pub count: u64,
    /// `hash` of the last of them.
    pub head: Digest,
    /// RFC 6962 tree over their hashes.
    pub merkle_root: Digest,
    /// Digest of the policy in force.
    pub policy: Digest,
    /// Digest of the bundle.
    pub bundle: Digest,
    /// When this was signed: RFC 3339, UTC, microseconds.
    pub time: String,
}

impl Head {
    pub fn chain(&self) -> ChainState {
        ChainState {
            count: self.count,
            head: self.head,
            merkle_root: self.merkle_root,
        }
    }
}

/// Signs `head` and writes it, atomically. Gives the file's digest.
pub fn write_head(dir: impl AsFd, head: &Head, key: &SigningKey, durable: bool) -> Result<Digest, Fault> {
    let name = files::HEAD_LAUNCH;
    let encoded = canonical::to_bytes(head)
        .map_err(|e| e.to_string())
        .and_then(|payload| Envelope::sign(HEAD_TYPE, &payload, key))
        .and_then(|envelope| canonical::to_bytes(&envelope).map_err(|e| e.to_string()));
    let mut bytes = encoded.map_err(|e| fault(format!("{name} cannot be signed: {e}")))?;
    bytes.push(b'\n');
    files::write_atomic(dir.as_fd(), name, &bytes, Mode::RUSR | Mode::WUSR, durable)
        .map_err(|e| fault(format!("{name} cannot be written: {e}")))?;
    Ok(Digest::of(&bytes))
}

/// Reads the payload of a head's envelope strictly.
pub(crate) fn parse_payload(payload: &[u8]) -> Result<Head, String> {
    let head: Head = serde_json::from_slice(payload).map_err(|e| format!("does not hold a chain head: {e}"))?;
    if !clock::is_rfc3339_micros(&head.time) || canonical::to_bytes(&head).ok().as_deref() != Some(payload) {
        return Err("holds a chain head that is not canonical".into());
    }
    Ok(head)
}

fn fault(found: String) -> Fault {
    Fault::new(
        Code::Evd001,
        "evidence.head",
        found,
        "make room in the run store and see that it is writable",
    )
}
