//! The host's side: what may come from a guest, and when. Everything else ends the machine.

use super::credit::{Allowance, Promise};
use super::frame::{self, Frame, Kind, MOST_PAYLOAD};
use super::{
    GuestEnd, GuestEvent, GuestFailure, MOST_EVENTS, MOST_PLAN, MOST_RELEASE, Stream, Violation, document, written,
};
use sr_common::canonical::MAX_INTEGER;
use sr_common::guest::{GUEST_VERSION, GuestPlan};
use sr_common::{Observed, Usage};

/// What a guest said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said<'a> {
    /// Its agent is there, on a kernel of this release.
    Hello(String),
    Posture(Vec<Observed>),
    Bytes(Stream, &'a [u8]),
    /// Nothing more of this stream comes.
    End(Stream),
    Sample(Usage),
    Event(GuestEvent),
    Exited(GuestEnd),
    Failed(GuestFailure),
    /// More of the program's input may be sent.
    Room,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing was heard.
    Begin,
    /// The plan has been sent, or will be next.
    Planned,
    /// The program is held before its first instruction.
    Held,
    Running,
    /// The guest has said how it ended.
    Ended,
}

/// What has been said until now.
#[derive(Debug)]
pub struct Host {
    at: At,
    terminal: bool,
    input: Allowance,
    input_ended: bool,
    outputs: [Promise; 2],
    ended: [bool; 2],
    events: u32,
}

impl Host {
    pub fn new(plan: &GuestPlan) -> Host {
        Host {
            at: At::Begin,
            terminal: plan.terminal,
            input: Allowance::default(),
            input_ended: false,
            outputs: Default::default(),
            ended: [false, plan.terminal],
            events: 0,
        }
    }

    /// A frame from the guest.
    pub fn take<'a>(&mut self, frame: Frame<'a>) -> Result<Said<'a>, Violation> {
        let payload = frame.payload;
        match (self.at, frame.kind) {
            (At::Begin, Kind::Hello) => {
                let (&version, release) = payload.split_first_chunk().ok_or_else(|| no("a greeting"))?;
                let version = u16::from_le_bytes(version);
                if version != GUEST_VERSION {
                    return Err(Violation::new(format!(
                        "version {version}, where {GUEST_VERSION} is spoken"
                    )));
                }
                let plain = |b: &u8| b.is_ascii_graphic();
                if release.len() > MOST_RELEASE || !release.iter().all(plain) {
                    return Err(no("a kernel's release"));
                }
                self.at = At::Planned;
                Ok(Said::Hello(String::from_utf8_lossy(release).into_owned()))
            }
            (At::Planned, Kind::Posture) => {
                self.at = At::Held;
                Ok(Said::Posture(document("a posture", payload)?))
            }
            (At::Planned | At::Held | At::Running, Kind::Failed) => {
                self.at = At::Ended;
                Ok(Said::Failed(document("a failure", payload)?))
            }
            (At::Running, Kind::Bytes) => {
                let (stream, bytes) = self.of(payload)?;
                let place = output(stream)?;
                if self.ended[place] {
                    return Err(Violation::new("bytes of a stream that has ended"));
                }
                self.outputs[place].take(bytes.len())?;
                Ok(Said::Bytes(stream, bytes))
            }
            (At::Running, Kind::End) => {
                let (stream, rest) = self.of(payload)?;
                let place = output(stream)?;
                if !rest.is_empty() || std::mem::replace(&mut self.ended[place], true) {
                    return Err(no("the end of a stream"));
                }
                Ok(Said::End(stream))
            }
            (At::Running, Kind::Credit) => {
                let (stream, rest) = self.of(payload)?;
                let bytes = rest.try_into().map(u32::from_le_bytes).map_err(|_| no("credit"))?;
                if stream != Stream::In {
                    return Err(Violation::new("credit for a stream of the guest's own"));
                }
                self.input.grant(bytes)?;
                Ok(Said::Room)
            }
            (At::Running, Kind::Sample) => {
                let usage: Usage = document("a sample", payload)?;
                match usage.can_be_written() {
                    true => Ok(Said::Sample(usage)),
                    false => Err(no("a sample")),
                }
            }
            (At::Running, Kind::Event) => {
                self.events += 1;
                if self.events > MOST_EVENTS {
                    return Err(Violation::new(format!("more than {MOST_EVENTS} events")));
                }
                Ok(Said::Event(document("an event", payload)?))
            }
            (At::Running, Kind::Exited) => {
                self.at = At::Ended;
                let end: GuestEnd = document("an end", payload)?;
                match end.peaks.can_be_written() && end.agent_bytes <= MAX_INTEGER {
                    true => Ok(Said::Exited(end)),
                    false => Err(no("an end")),
                }
            }
            (at, kind) => Err(Violation::new(format!("{kind:?} while it is {at:?}"))),
        }
    }

    fn of<'a>(&self, payload: &'a [u8]) -> Result<(Stream, &'a [u8]), Violation> {
        let (number, rest) = payload.split_first().ok_or_else(|| no("a stream's frame"))?;
        let stream = Stream::of(*number).filter(|stream| !(self.terminal && *stream == Stream::Err));
        Ok((stream.ok_or_else(|| no("a stream"))?, rest))
    }

    /// The greeting and the plan: the answer to [`Said::Hello`]. `now`: nanoseconds since 1970.
    pub fn plan(&self, out: &mut Vec<u8>, plan: &GuestPlan, now: u64) -> Result<(), Violation> {
        let text = written("the plan", plan)?;
        if text.len() > MOST_PLAN {
            return Err(Violation::new(format!(
                "a plan of {} bytes; {MOST_PLAN} can be sent",
                text.len()
            )));
        }
        frame::write(out, Kind::Hello, &[&GUEST_VERSION.to_le_bytes(), &now.to_le_bytes()])?;
        for piece in text.chunks(MOST_PAYLOAD) {
            frame::write(out, Kind::Plan, &[piece])?;
        }
        frame::write(out, Kind::PlanEnd, &[])
    }

    /// Lets the program run: the answer to [`Said::Posture`].
    pub fn go(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        if self.at != At::Held {
            return Err(Violation::new("the program is not held"));
        }
        self.at = At::Running;
        frame::write(out, Kind::Go, &[])
    }

    /// Whether the guest takes signals and the terminal's size.
    pub fn listens(&self) -> bool {
        matches!(self.at, At::Held | At::Running)
    }

    pub fn ended(&self) -> bool {
        self.at == At::Ended
    }

    pub fn signal(&self, out: &mut Vec<u8>, signal: u8) -> Result<(), Violation> {
        frame::write(out, Kind::Signal, &[&[signal]])
    }

    pub fn window(&self, out: &mut Vec<u8>, rows: u16, columns: u16) -> Result<(), Violation> {
        frame::write(out, Kind::WindowSize, &[&rows.to_le_bytes(), &columns.to_le_bytes()])
    }

    /// How many bytes of input the guest has room for now.
    pub fn room(&self) -> usize {
        match self.at == At::Running && !self.input_ended {
            true => self.input.left().min(MOST_PAYLOAD - 1),
            false => 0,
        }
    }

    /// Input, no more than there is room for.
    pub fn input(&mut self, out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Violation> {
        self.input.spend(bytes.len());
        frame::write(out, Kind::Bytes, &[&[Stream::In.number()], bytes])
    }

    pub fn end_input(&mut self, out: &mut Vec<u8>) -> Result<(), Violation> {
        self.input_ended = true;
        frame::write(out, Kind::End, &[&[Stream::In.number()]])
    }

    /// Nobody reads this output any more.
    pub fn unread(&self, out: &mut Vec<u8>, stream: Stream) -> Result<(), Violation> {
        frame::write(out, Kind::End, &[&[stream.number()]])
    }

    /// So much of an output has been handed on.
    pub fn handed_on(&mut self, out: &mut Vec<u8>, stream: Stream, bytes: usize) -> Result<(), Violation> {
        match self.outputs[output(stream)?].handed_on(bytes) {
            Some(credit) if self.at == At::Running => {
                frame::write(out, Kind::Credit, &[&[stream.number()], &credit.to_le_bytes()])
            }
            _ => Ok(()),
        }
    }
}

fn no(what: &str) -> Violation {
    Violation::new(format!("{what} that is none"))
}

fn output(stream: Stream) -> Result<usize, Violation> {
    match stream {
        Stream::Out => Ok(0),
        Stream::Err => Ok(1),
        Stream::In => Err(Violation::new("the program's input from the guest")),
    }
}
