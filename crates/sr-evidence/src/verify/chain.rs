//! Reading `events.jsonl` line by line, in bounded memory: the first line that does not hold, and the chain's state.

use crate::event::{CAPTURE_DONE, Event, RUN_END, RUN_START, genesis};
use crate::files::{self, Unreadable};
use crate::log::ChainState;
use crate::merkle::MerkleTree;
use serde_json::Value;
use sr_common::digest::Hasher;
use sr_common::{Digest, RunId};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::BorrowedFd;

/// What the file holds. Everything but `content` speaks of the lines before the first that does not hold.
pub(super) struct Chain {
    /// Digest of the whole file.
    pub content: Digest,
    pub state: ChainState,
    /// The state after as many events as were asked for, if there are so many.
    pub prefix: Option<ChainState>,
    /// The first line that does not hold, and why.
    pub broken: Option<(u64, String)>,
    /// The last line has no newline: it was cut off while it was written. Its number.
    pub partial: Option<u64>,
    /// Data of the first event, if it is a `run.start`.
    pub start: Option<Value>,
    /// Data of the last event, if it is a `run.end`.
    pub end: Option<Value>,
    /// Data of the last event that tells of captured changes.
    pub capture: Option<Value>,
    /// The run that the chain was checked against.
    pub run_id: Option<RunId>,
}

/// Reads the chain. Its first `prev` must be that of `run_id`; where nobody has told the run's id, that of the first
/// event's own `runId`.
pub(super) fn read(dir: BorrowedFd, run_id: Option<&RunId>, prefix: Option<u64>) -> Result<Chain, Unreadable> {
    let file = files::open_regular(dir, files::EVENTS, files::MAX_EVENTS)?;
    let mut reader = BufReader::with_capacity(64 << 10, file.take(files::MAX_EVENTS + 1));
    let mut walk = Walk {
        run_id: run_id.cloned(),
        ..Walk::default()
    };
    let mut content = Hasher::default();
    let (mut bytes, mut number) = (0u64, 0u64);
    let mut broken = None;
    let mut partial = None;
    let mut at_prefix = None;
    let mut line = Vec::new();
    loop {
        if prefix == Some(walk.count) && at_prefix.is_none() {
            at_prefix = walk.state();
        }
        line.clear();
        let read = (&mut reader)
            .take(files::MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|e| Unreadable::Because(format!("cannot be read: {e}")))?;
        if read == 0 {
            break;
        }
        number += 1;
        content.update(&line);
        bytes += read as u64;
        if bytes > files::MAX_EVENTS {
            return Err(Unreadable::Because(format!(
                "has more than the {} bytes that are read",
                files::MAX_EVENTS
            )));
        }
        if broken.is_some() {
            continue;
        }
        match line.strip_suffix(b"\n") {
            Some(text) => {
                if let Err(why) = walk.step(text) {
                    broken = Some((number, why));
                }
            }
            None if line.len() as u64 == files::MAX_LINE => {
                broken = Some((number, format!("is longer than {} bytes", files::MAX_LINE)));
            }
            None => partial = Some(number),
        }
    }
    let empty = || ChainState {
        count: 0,
        head: Digest::ZERO,
        merkle_root: walk.tree.root(),
    };
    Ok(Chain {
        content: content.finish(),
        state: walk.state().unwrap_or_else(empty),
        prefix: at_prefix,
        broken,
        partial,
        start: walk.start,
        end: walk.end,
        capture: walk.capture,
        run_id: walk.run_id,
    })
}

/// The chain so far.
#[derive(Default)]
struct Walk {
    run_id: Option<RunId>,
    head: Option<Digest>,
    count: u64,
    tree: MerkleTree,
    micros: u64,
    start: Option<Value>,
    end: Option<Value>,
    capture: Option<Value>,
}

impl Walk {
    fn state(&self) -> Option<ChainState> {
        let head = self.head.or_else(|| self.run_id.as_ref().map(genesis))?;
        Some(ChainState {
            count: self.count,
            head,
            merkle_root: self.tree.root(),
        })
    }

    fn step(&mut self, line: &[u8]) -> Result<(), String> {
        let event = Event::parse(line)?;
        if event.seq != self.count + 1 {
            return Err(format!("seq is {}, expected {}", event.seq, self.count + 1));
        }
        if self.run_id.is_none() {
            self.run_id = event.data.get("runId").and_then(Value::as_str).and_then(RunId::parse);
        }
        let expected = self.state().ok_or("the first event does not say its run's id")?.head;
        if event.prev != expected {
            let what = if self.count == 0 {
                "the run's id gives"
            } else {
                "the event before has"
            };
            return Err(format!("prev is {}, {what} {expected}", event.prev));
        }
        if event.monotonic < self.micros {
            return Err(format!(
                "monotonic is {}, less than {} before",
                event.monotonic, self.micros
            ));
        }
        if (event.kind == RUN_START) != (self.count == 0) {
            return Err(format!("{RUN_START} is not the first event, or not there once"));
        }
        if self.end.is_some() {
            return Err(format!("follows {RUN_END}"));
        }
        match event.kind.as_str() {
            RUN_START => self.start = Some(event.data),
            RUN_END => self.end = Some(event.data),
            CAPTURE_DONE => self.capture = Some(event.data),
            _ => {}
        }
        self.head = Some(event.hash);
        self.count += 1;
        self.micros = event.monotonic;
        self.tree.push(event.hash.as_bytes());
        Ok(())
    }
}
