use super::credit::{Allowance, FIRST, Promise};
use super::frame::{self, Decoder, Frame, Kind, MOST_PAYLOAD};
use super::guest::{self, Guest};
use super::host::{self, Host};
use super::*;
use proptest::prelude::*;
use sr_common::guest::{GuestLimits, GuestPlan, GuestRoot, GuestShare};
use sr_common::{Observed, Usage};

fn plan(argument: &str) -> GuestPlan {
    GuestPlan {
        version: 1,
        share: Some(GuestShare::Virtio { tag: "root".into() }),
        root: GuestRoot::Shared,
        mounts: Vec::new(),
        hostname: "guest".into(),
        executable: "/bin/true".into(),
        script: None,
        argv: vec!["true".into(), argument.into()],
        env: Default::default(),
        workdir: "/".into(),
        user: 1000,
        filter: String::new(),
        rlimits: Default::default(),
        limits: GuestLimits::default(),
        terminal: false,
    }
}

/// All frames of `bytes`, which must end with one.
fn each(bytes: &[u8], mut seen: impl FnMut(Frame<'_>)) {
    let mut decoder = Decoder::default();
    for piece in bytes.chunks(Decoder::PIECE) {
        decoder.push(piece).unwrap();
        while let Some(frame) = decoder.frame().unwrap() {
            seen(frame);
        }
    }
    assert!(decoder.is_empty());
}

/// A host and a guest that have come to where the program runs.
fn running(plan: &GuestPlan) -> (Host, Guest) {
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut host = Host::new(plan);
    let mut guest = Guest::new(&mut up, "6.1.0").unwrap();
    each(&up, |frame| {
        assert_eq!(host.take(frame), Ok(host::Said::Hello("6.1.0".into())))
    });
    host.plan(&mut down, plan, 7).unwrap();
    let mut came = None;
    each(&down, |frame| match guest.take(frame).unwrap() {
        guest::Said::Hello(time) => assert_eq!(time, 7),
        guest::Said::Plan(plan) => came = Some(*plan),
        other => assert_eq!(other, guest::Said::Part),
    });
    assert_eq!(came.as_ref(), Some(plan));
    up.clear();
    down.clear();
    guest.posture(&mut up, &[]).unwrap();
    assert!(host.go(&mut down).is_err() && down.is_empty(), "not before the posture");
    each(&up, |frame| {
        assert_eq!(host.take(frame), Ok(host::Said::Posture(Vec::<Observed>::new())))
    });
    host.go(&mut down).unwrap();
    each(&down, |frame| assert_eq!(guest.take(frame), Ok(guest::Said::Go)));
    (host, guest)
}

#[test]
fn a_plan_goes_over_in_pieces_and_the_program_is_let_go() {
    let plan = plan(&"x".repeat(3 * MOST_PAYLOAD + 17));
    let (host, guest) = running(&plan);
    assert_eq!(host.room(), MOST_PAYLOAD - 1);
    assert_eq!(guest.room(Stream::Out), MOST_PAYLOAD - 1);
}

#[test]
fn a_plan_that_is_too_large_is_not_sent() {
    let plan = plan(&"x".repeat(MOST_PLAN));
    let mut out = Vec::new();
    assert!(Host::new(&plan).plan(&mut out, &plan, 0).is_err() && out.is_empty());
    let mut guest = Guest::new(&mut Vec::new(), "6.1.0").unwrap();
    let hello = [&1u16.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    guest
        .take(Frame {
            kind: Kind::Hello,
            payload: &hello,
        })
        .unwrap();
    let piece = [b' '; MOST_PAYLOAD];
    let piece = Frame {
        kind: Kind::Plan,
        payload: &piece,
    };
    for _ in 0..MOST_PLAN / MOST_PAYLOAD {
        guest.take(piece).unwrap();
    }
    assert!(guest.take(piece).is_err());
}

#[test]
fn input_goes_as_far_as_there_is_room_and_signals_beyond() {
    let (mut host, mut guest) = running(&plan(""));
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let mut sent = 0;
    while host.room() > 0 {
        let bytes = vec![b'i'; host.room().min(1000)];
        host.input(&mut down, &bytes).unwrap();
        sent += bytes.len();
    }
    assert_eq!(sent, FIRST as usize);
    host.signal(&mut down, 15).unwrap();
    let (mut came, mut signals) = (0, 0);
    each(&down, |frame| match guest.take(frame).unwrap() {
        guest::Said::Input(bytes) => came += bytes.len(),
        other => {
            assert_eq!(other, guest::Said::Signal(15));
            signals += 1;
        }
    });
    assert_eq!((came, signals), (sent, 1));
    // Nothing is told of small amounts, and of large ones once.
    guest.handed_on(&mut up, 10).unwrap();
    assert!(up.is_empty());
    guest.handed_on(&mut up, sent - 10).unwrap();
    each(&up, |frame| assert_eq!(host.take(frame), Ok(host::Said::Room)));
    assert_eq!(host.room(), MOST_PAYLOAD - 1);
}

#[test]
fn a_guest_that_floods_is_out_of_order() {
    let (mut host, mut guest) = running(&plan(""));
    let mut up = Vec::new();
    let piece = vec![b'o'; MOST_PAYLOAD - 1];
    for _ in 0..5 {
        guest.output(&mut up, Stream::Err, &piece).unwrap();
    }
    let mut results = Vec::new();
    each(&up, |frame| results.push(host.take(frame).is_ok()));
    assert_eq!(results, [true, true, true, true, false]);

    let (mut host, guest) = running(&plan(""));
    let mut up = Vec::new();
    guest.event(&mut up, &GuestEvent::LimitOfMemory { times: 1 }).unwrap();
    let mut taken = 0;
    for _ in 0..MOST_EVENTS + 5 {
        each(&up, |frame| taken += u32::from(host.take(frame).is_ok()));
    }
    assert_eq!(taken, MOST_EVENTS);
}

/// A report with one of them could not be written.
#[test]
fn figures_that_no_document_can_hold_are_refused() {
    let largest = sr_common::canonical::MAX_INTEGER;
    for (figure, taken) in [(largest, true), (largest + 1, false), (u64::MAX, false)] {
        let usage = Usage {
            memory_bytes: Some(figure),
            ..Usage::default()
        };
        let mut said = [Vec::new(), Vec::new(), Vec::new()];
        let (_, guest) = running(&plan(""));
        guest.sample(&mut said[0], &usage).unwrap();
        for (up, (peaks, agent_bytes)) in said[1..].iter_mut().zip([(usage, 1), (Usage::default(), figure)]) {
            let end = GuestEnd {
                status: 0,
                peaks,
                agent_bytes,
            };
            guest.exited(up, &end).unwrap();
        }
        for up in said {
            let (mut host, _) = running(&plan(""));
            each(&up, |frame| assert_eq!(host.take(frame).is_ok(), taken, "{figure}"));
        }
    }
}

#[test]
fn frames_out_of_order_are_refused() {
    let json = br#"{"status":0,"peaks":{}}"#;
    let sample = br#"{"cpuMicros":null,"memoryBytes":1,"pids":null,"diskBytes":null,"waited":null}"#;
    let bytes = [1, b'x'];
    let credit = [0, 1, 0, 0, 0];
    let early: [(Kind, &[u8]); 9] = [
        (Kind::Posture, b"[]"),
        (Kind::Bytes, &bytes),
        (Kind::End, &[1]),
        (Kind::Credit, &credit),
        (Kind::Sample, sample),
        (Kind::Exited, json),
        (Kind::Go, &[]),
        (Kind::Plan, b"{}"),
        (Kind::Failed, br#"{"step":"","found":""}"#),
    ];
    for (kind, payload) in early {
        assert!(Host::new(&plan("")).take(Frame { kind, payload }).is_err(), "{kind:?}");
    }
    // While it runs.
    let late: [(Kind, &[u8]); 12] = [
        (Kind::Hello, &[1, 0]),
        (Kind::Posture, b"[]"),
        (Kind::Bytes, &[0, b'x']),
        (Kind::Bytes, &[3, b'x']),
        (Kind::Bytes, &[]),
        (Kind::End, &[0]),
        (Kind::End, &[1, 1]),
        (Kind::Credit, &[0, 1, 0, 0, 0]),
        (Kind::Credit, &[1, 0, 0, 0, 0]),
        (Kind::Sample, b"{}x"),
        (Kind::Event, br#"{"other":{}}"#),
        (Kind::Signal, &[9]),
    ];
    for (kind, payload) in late {
        let (mut host, _) = running(&plan(""));
        assert!(host.take(Frame { kind, payload }).is_err(), "{kind:?} {payload:?}");
    }
    let (mut host, _) = running(&plan(""));
    let take = |host: &mut Host, kind, payload| host.take(Frame { kind, payload }).map(drop);
    take(&mut host, Kind::End, &[1]).unwrap();
    assert!(take(&mut host, Kind::Bytes, &bytes).is_err(), "after the stream's end");
    take(&mut host, Kind::Sample, sample).unwrap();
    let end = GuestEnd {
        status: 0,
        peaks: Usage::default(),
        agent_bytes: 1,
    };
    let end = serde_json::to_vec(&end).unwrap();
    take(&mut host, Kind::Exited, &end).unwrap();
    assert!(take(&mut host, Kind::Sample, sample).is_err(), "after the end");
    // A terminal has no third stream.
    let mut terminal = plan("");
    terminal.terminal = true;
    let (mut host, _) = running(&terminal);
    assert!(take(&mut host, Kind::Bytes, &[2, b'x']).is_err());
}

#[test]
fn another_version_is_refused() {
    let payload = 2u16.to_le_bytes();
    let said = Host::new(&plan(""))
        .take(Frame {
            kind: Kind::Hello,
            payload: &payload,
        })
        .map(drop);
    assert_eq!(said.unwrap_err().to_string(), "version 2, where 1 is spoken");
}

#[test]
fn credit_is_never_more_than_there_is_room() {
    let mut allowance = Allowance::default();
    assert!(allowance.grant(1).is_err());
    allowance.spend(10);
    assert!(allowance.grant(11).is_err() && allowance.grant(u32::MAX).is_err());
    allowance.grant(10).unwrap();
    assert_eq!(allowance.left(), FIRST as usize);
    let mut promise = Promise::default();
    promise.take(FIRST as usize).unwrap();
    assert!(promise.take(1).is_err());
    assert_eq!(promise.handed_on(FIRST as usize / 4 - 1), None);
    assert_eq!(promise.handed_on(1), Some(FIRST / 4));
    promise.take(FIRST as usize / 4).unwrap();
    assert!(promise.take(1).is_err());
}

fn kind() -> impl Strategy<Value = Kind> {
    (0..Kind::ALL.len()).prop_map(|n| Kind::ALL[n])
}

proptest! {
    #[test]
    fn whatever_comes_neither_panics_nor_fills_memory(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)
    ) {
        let mut decoder = Decoder::default();
        let mut host = Host::new(&plan(""));
        let mut guest = Guest::new(&mut Vec::new(), "6.1.0").unwrap();
        'all: for piece in &pieces {
            if decoder.push(piece).is_err() {
                break;
            }
            loop {
                match decoder.frame() {
                    Ok(Some(frame)) => {
                        prop_assert!(frame.payload.len() <= MOST_PAYLOAD);
                        let _ = (host.take(frame), guest.take(frame));
                    }
                    Ok(None) => break,
                    Err(_) => break 'all,
                }
            }
        }
        prop_assert!(decoder.capacity() <= 4 * (MOST_PAYLOAD + 5));
    }

    /// A state machine that is fed frames of every kind, most of them well formed, goes on or refuses.
    #[test]
    fn whatever_frames_come_in_whichever_order(
        frames in prop::collection::vec((kind(), prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            Just(vec![1, 0]), Just(b"[]".to_vec()), Just(vec![1, 7]), Just(vec![0, 1, 0, 0, 0]),
            Just(br#"{"limitOfMemory":{"times":1}}"#.to_vec()),
        ]), 0..60)
    ) {
        let mut host = Host::new(&plan(""));
        let mut came = 0;
        for (kind, payload) in &frames {
            if let Ok(host::Said::Bytes(_, bytes)) = host.take(Frame { kind: *kind, payload }) {
                came += bytes.len();
            }
            let _ = host.go(&mut Vec::new());
        }
        prop_assert!(came <= 2 * FIRST as usize);
    }

    #[test]
    fn frames_come_out_as_they_went_in(
        frames in prop::collection::vec((kind(), prop::collection::vec(any::<u8>(), 0..2000)), 0..20),
        cut in 1..700usize,
    ) {
        let mut stream = Vec::new();
        for (kind, payload) in &frames {
            frame::write(&mut stream, *kind, &[payload]).unwrap();
        }
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for piece in stream.chunks(cut) {
            decoder.push(piece).unwrap();
            while let Some(frame) = decoder.frame().unwrap() {
                out.push((frame.kind, frame.payload.to_vec()));
            }
        }
        prop_assert!(decoder.is_empty());
        prop_assert_eq!(out, frames);
    }
}

#[test]
fn a_length_beyond_the_bound_is_refused_before_its_bytes_come() {
    let mut decoder = Decoder::default();
    decoder.push(b"B").unwrap();
    decoder.push(&(MOST_PAYLOAD as u32 + 1).to_le_bytes()).unwrap();
    assert!(decoder.frame().is_err());
    assert!(frame::write(&mut Vec::new(), Kind::Bytes, &[&[0; MOST_PAYLOAD], &[0]]).is_err());
    // Pieces without end, of a frame that never is whole.
    let mut decoder = Decoder::default();
    let piece = [0; MOST_PAYLOAD];
    assert!((0..5).any(|_| decoder.push(&piece).is_err()));
}
