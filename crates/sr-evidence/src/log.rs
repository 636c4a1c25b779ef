//! The writing side of the chain: `events.jsonl`, one `write` an event, its head and Merkle root as they grow.

use crate::event::{Draft, genesis};
use crate::merkle::MerkleTree;
use crate::portable::MAX_INTEGER;
use crate::{clock, files, portable};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr_common::digest::Hasher;
use sr_common::{Code, Digest, Fault, RunId};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Instant, SystemTime};

/// Kept free for the events that end a run (`run.*`), so that a flood of others cannot make the end unrecordable.
const RESERVE: u64 = 2 * files::MAX_LINE;

/// Where a chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChainState {
    /// Number of events.
    #[schemars(extend("maximum" = MAX_INTEGER))]
    pub count: u64,
    /// `hash` of the last event; of an empty chain, the digest of the run id's text.
    pub head: Digest,
    /// RFC 6962 tree over the events' hashes (32 raw bytes a leaf).
    pub merkle_root: Digest,
}

/// An open event log. It is only ever appended to, by one thread of one process.
pub struct EventLog {
    /// `None`: what is appended is kept nowhere.
    file: Option<OwnedFd>,
    dir: Option<OwnedFd>,
    start: Instant,
    last_micros: u64,
    count: u64,
    head: Digest,
    tree: MerkleTree,
    bytes: u64,
    content: Hasher,
    /// A failed write could not be taken back: what is in the file is no longer known.
    broken: bool,
}

impl EventLog {
    /// Makes `events.jsonl` in the run's directory; it must not exist. `monotonic` counts from now.
    /// `durable`: [`EventLog::sync`] flushes to the disk.
    pub fn create(dir: impl AsFd, run_id: &RunId, durable: bool) -> Result<EventLog, Fault> {
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, files::EVENTS, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| fault(format!("{} cannot be created: {e}", files::EVENTS)))?;
        let dir = match durable {
            true => Some(rustix::io::fcntl_dupfd_cloexec(&dir, 3).map_err(|e| fault(e.to_string()))?),
            false => None,
        };
        Ok(EventLog::with_files(run_id, Some(file), dir))
    }

    /// A log that keeps nothing: every event is taken, and the chain stays empty.
    pub fn unkept(run_id: &RunId) -> EventLog {
        EventLog::with_files(run_id, None, None)
    }

    fn with_files(run_id: &RunId, file: Option<OwnedFd>, dir: Option<OwnedFd>) -> EventLog {
        EventLog {
            file,
            dir,
            start: Instant::now(),
            last_micros: 0,
            count: 0,
            head: genesis(run_id),
            tree: MerkleTree::default(),
            bytes: 0,
            content: Hasher::default(),
            broken: false,
        }
    }

    /// Counts `monotonic` from `start` instead.
    pub fn with_start(mut self, start: Instant) -> Self {
        self.start = start;
        self
    }

    /// Adds an event and gives its hash. `data` must be an object. On an error the log is as it was before: a line
    /// that was written in part is cut off again, and if that fails too, every later call fails.
    pub fn append(&mut self, source: &str, kind: &str, data: impl Serialize) -> Result<Digest, Fault> {
        if self.file.is_none() {
            return Ok(self.head);
        }
        if self.broken {
            return Err(fault(
                "an earlier event was written in part and could not be taken back",
            ));
        }
        let data = portable::text(&data).map_err(|e| fault(format!("the data of {kind}: {e}")))?;
        if !data.starts_with('{') {
            return Err(fault(format!("the data of {kind} is not an object")));
        }
        let micros = u64::try_from(self.start.elapsed().as_micros())
            .unwrap_or(MAX_INTEGER)
            .min(MAX_INTEGER);
        let micros = micros.max(self.last_micros);
        let time = clock::rfc3339(SystemTime::now());
        let draft = Draft {
            seq: self.count + 1,
            time: &time,
            monotonic: micros,
            source,
            kind,
            data: &data,
            prev: &self.head,
        };
        let (hash, mut line) = draft.encode().map_err(|e| fault(format!("the data of {kind}: {e}")))?;
        line.push('\n');
        let length = line.len() as u64;
        if length > files::MAX_LINE {
            return Err(fault(format!(
                "{kind} has {length} bytes, more than the {} of a line",
                files::MAX_LINE
            )));
        }
        let room = if kind.starts_with("run.") {
            files::MAX_EVENTS
        } else {
            files::MAX_EVENTS - RESERVE
        };
        if self.bytes + length > room {
            return Err(fault(format!("{} has reached {} bytes", files::EVENTS, self.bytes)));
        }
        self.write_line(line.as_bytes())?;
        self.content.update(line.as_bytes());
        self.bytes += length;
        self.tree.push(hash.as_bytes());
        self.head = hash;
        self.count += 1;
        self.last_micros = micros;
        Ok(hash)
    }

    fn write_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let Some(file) = &self.file else { return Ok(()) };
        let found = loop {
            match rustix::io::write(file, line) {
                Ok(n) if n == line.len() => return Ok(()),
                Ok(n) => break format!("only {n} of {} bytes of an event were written", line.len()),
                Err(Errno::INTR) => {}
                Err(e) => break format!("{} cannot be written: {e}", files::EVENTS),
            }
        };
        self.broken = rustix::fs::ftruncate(file, self.bytes).is_err();
        Err(fault(found))
    }

    /// Flushes the log to the disk if it was created durable; otherwise nothing.
    pub fn sync(&mut self) -> Result<(), Fault> {
        let (Some(file), Some(dir)) = (&self.file, &self.dir) else {
            return Ok(());
        };
        rustix::fs::fdatasync(file)
            .and_then(|()| rustix::fs::fsync(dir))
            .map_err(|e| fault(format!("{} cannot be flushed: {e}", files::EVENTS)))
    }

    /// Whether [`EventLog::sync`] flushes to the disk.
    pub fn durable(&self) -> bool {
        self.dir.is_some()
    }

    /// Hash of the last event.
    pub fn head(&self) -> Digest {
        self.head
    }

    /// Number of events.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn merkle_root(&self) -> Digest {
        self.tree.root()
    }

    pub fn state(&self) -> ChainState {
        ChainState {
            count: self.count,
            head: self.head,
            merkle_root: self.tree.root(),
        }
    }

    /// Digest of the whole of `events.jsonl`.
    pub fn content_digest(&self) -> Digest {
        self.content.clone().finish()
    }
}

fn fault(found: impl Into<String>) -> Fault {
    Fault::new(
        Code::Evd001,
        "evidence.events",
        found,
        "make room in the run store and see that it is writable",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, RUN_END};
    use serde_json::json;

    fn log(dir: &tempfile::TempDir) -> EventLog {
        let fd = files::open_dir(dir.path()).unwrap();
        EventLog::create(&fd, &RunId::new(1, [1; 10]), false).unwrap()
    }

    #[test]
    fn what_is_not_kept_leaves_the_chain_empty() {
        let id = RunId::new(1, [7; 10]);
        let mut log = EventLog::unkept(&id);
        let before = log.state();
        for n in 0..3 {
            log.append("supervisor", "x", json!({"n": n})).unwrap();
        }
        log.sync().unwrap();
        assert_eq!((log.state(), log.count(), log.head()), (before, 0, genesis(&id)));
    }

    #[test]
    fn lines_chain_and_the_state_is_that_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir);
        let first = log.append("supervisor", "run.start", json!({"big": u64::MAX})).unwrap();
        let second = log.append("supervisor", RUN_END, json!({})).unwrap();
        let bytes = std::fs::read(dir.path().join(files::EVENTS)).unwrap();
        assert_eq!(Digest::of(&bytes), log.content_digest());
        let events: Vec<Event> = bytes
            .trim_ascii_end()
            .split(|b| *b == b'\n')
            .map(|l| Event::parse(l).unwrap())
            .collect();
        assert_eq!(events[0].prev, genesis(&RunId::new(1, [1; 10])));
        assert_eq!((events[0].hash, events[1].prev), (first, first));
        assert_eq!((log.head(), log.count(), events[1].seq), (second, 2, 2));
        assert_eq!(events[0].data, json!({"big": "18446744073709551615"}));
    }

    #[test]
    fn a_log_is_made_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let _log = log(&dir);
        let fd = files::open_dir(dir.path()).unwrap();
        let again = EventLog::create(&fd, &RunId::new(1, [1; 10]), false);
        assert_eq!(again.err().unwrap().code, Code::Evd001);
        assert_eq!(
            std::fs::metadata(dir.path().join(files::EVENTS))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir);
        log.append("s", "a", json!({})).unwrap();
        let before = (log.state(), log.content_digest());
        assert!(log.append("s", "a", json!({"x": "y".repeat(1 << 20)})).is_err());
        assert!(log.append("s", "a", json!([1])).is_err());
        assert!(
            log.append("s", "a", (0..200).fold(json!({}), |v, _| json!({"v": v})))
                .is_err()
        );
        assert_eq!((log.state(), log.content_digest()), before);
        log.append("s", "b", json!({})).unwrap();
        assert_eq!(
            Digest::of(&std::fs::read(dir.path().join(files::EVENTS)).unwrap()),
            log.content_digest()
        );
    }

    #[test]
    fn a_full_device_is_an_error_and_not_half_an_event() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir);
        log.append("s", "a", json!({})).unwrap();
        let full = std::fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
        let good = log.file.replace(OwnedFd::from(full));
        let state = log.state();
        let error = log.append("s", "b", json!({})).unwrap_err();
        assert_eq!((error.code, log.state()), (Code::Evd001, state));
        assert!(log.broken, "a device cannot be truncated, so the log is given up");
        log.file = good;
        assert!(log.append("s", "b", json!({})).is_err());
    }
}
