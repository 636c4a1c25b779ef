//! What a hostile guest says to its host.

use crate::{Judgement, require};
use sr_common::guest::{GuestLimits, GuestPlan, GuestRoot, GuestShare};
use sr_microvm::protocol::credit::FIRST;
use sr_microvm::protocol::frame::{self, Decoder, Kind};
use sr_microvm::protocol::host::{Host, Said};
use sr_microvm::protocol::{GuestEnd, GuestEvent, GuestFailure, MOST_EVENTS, Stream};
use std::collections::BTreeSet;

/// What came of a stream that was cut into pieces of `cut` bytes: each thing said, and at the end what was refused.
fn heard(data: &[u8], cut: usize) -> (Vec<String>, Judgement) {
    let plan = plan();
    let mut host = Host::new(&plan);
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    let mut judged = Judgement::Ok(());
    let (mut came, mut ended, mut events) = ([0usize; 2], BTreeSet::new(), 0);
    'all: for piece in data.chunks(cut.clamp(1, Decoder::PIECE)) {
        if let Err(refused) = decoder.push(piece) {
            said.push(refused.to_string());
            break;
        }
        loop {
            let frame = match decoder.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(refused) => {
                    said.push(refused.to_string());
                    break 'all;
                }
            };
            let over = host.ended();
            let word = match host.take(frame) {
                Ok(word) => word,
                Err(refused) => {
                    said.push(refused.to_string());
                    break 'all;
                }
            };
            let mut held = |holds, why: &str| {
                if judged.is_ok() {
                    judged = require(holds, || format!("{why}: {word:?}"));
                }
            };
            held(!over, "taken after the end");
            match &word {
                Said::Bytes(stream, bytes) => {
                    let place = usize::from(*stream == Stream::Err);
                    came[place] += bytes.len();
                    held(came[place] <= FIRST as usize, "more than there is room for");
                    held(!ended.contains(&place), "after the end of its stream");
                }
                Said::End(stream) => held(ended.insert(usize::from(*stream == Stream::Err)), "a second end"),
                Said::Event(_) => {
                    events += 1;
                    held(events <= MOST_EVENTS, "more events than may be");
                }
                Said::Room => held(host.room() <= FIRST as usize, "more room than there is"),
                _ => {}
            }
            said.push(format!("{word:?}"));
            if matches!(word, Said::Posture(_)) && host.go(&mut Vec::new()).is_err() {
                judged = judged.and(Err("a program that is held cannot be let go".into()));
            }
        }
    }
    (said, judged)
}

/// No more comes than there is room for, nothing after an end, and the same however the stream is cut.
pub fn stream(data: &[u8]) -> Judgement {
    let (whole, judged) = heard(data, Decoder::PIECE);
    judged?;
    for cut in [1, 7, 4096] {
        let (parts, judged) = heard(data, cut);
        judged?;
        require(parts == whole, || format!("cut by {cut}: {parts:?}, else {whole:?}"))?;
    }
    Ok(())
}

fn plan() -> GuestPlan {
    GuestPlan {
        version: 1,
        share: Some(GuestShare::Virtio { tag: "root".into() }),
        root: GuestRoot::Shared,
        mounts: Vec::new(),
        hostname: "guest".into(),
        executable: "/bin/true".into(),
        script: None,
        argv: vec!["true".into()],
        env: Default::default(),
        workdir: "/".into(),
        user: 1000,
        filter: String::new(),
        rlimits: Default::default(),
        limits: GuestLimits::default(),
        terminal: false,
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let json = |document: serde_json::Result<Vec<u8>>| document.unwrap_or_default();
    let hello = [&1u16.to_le_bytes()[..], b"6.1.0"].concat();
    let end = GuestEnd {
        status: 0,
        peaks: Default::default(),
        agent_bytes: 0,
    };
    let failure = GuestFailure {
        step: "start".into(),
        found: "nothing".into(),
    };
    let frames = [
        (Kind::Hello, hello),
        (Kind::Posture, b"[]".to_vec()),
        (Kind::Bytes, b"\x01words".to_vec()),
        (Kind::Bytes, b"\x02words".to_vec()),
        (Kind::Credit, vec![0, 0, 0, 0, 0]),
        (Kind::Sample, json(serde_json::to_vec(&sr_common::Usage::default()))),
        (
            Kind::Event,
            json(serde_json::to_vec(&GuestEvent::LimitOfMemory { times: 1 })),
        ),
        (Kind::End, vec![1]),
        (Kind::Exited, json(serde_json::to_vec(&end))),
        (Kind::Failed, json(serde_json::to_vec(&failure))),
    ];
    // Each beginning of a whole run.
    (1..=frames.len())
        .map(|count| {
            let mut stream = Vec::new();
            for (kind, payload) in frames.iter().take(count) {
                // None of these is too long.
                let _ = frame::write(&mut stream, *kind, &[payload]);
            }
            stream
        })
        .collect()
}
