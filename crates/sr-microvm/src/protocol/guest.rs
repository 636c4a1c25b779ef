//! The guest's side: what may come from the host, and when. The host is not hostile, but a frame that is out of place means
//! that the two do not understand each other.

use super::credit::{Allowance, Promise};
use super::frame::{self, Frame, Kind, MOST_PAYLOAD};
use super::{GuestEnd, GuestEvent, GuestFailure, MOST_PLAN, Stream, Violation, document, written};
use sr_common::guest::{GUEST_VERSION, GuestPlan};
use sr_common::{Observed, Usage};

/// What the host said.
#[derive(Debug, Clone, PartialEq)]
pub enum Said<'a> {
    /// Nanoseconds since 1970.
    Hello(u64),
    Plan(Box<GuestPlan>),
    /// A part of something; there is more to come.
    Part,
    Go,
    Signal(u8),
    Window {
        rows: u16,
        columns: u16,
    },
    Input(&'a [u8]),
    InputEnd,
    /// Nobody reads this output any more.
    Unread(Stream),
    /// More of an output may be sent.
    Room,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Greeted,
    Planned,
    Running,
}

/// What has been said until now.
#[derive(Debug)]
pub struct Guest {
    at: At,
    plan: Vec<u8>,
    input: Promise,
    outputs: [Allowance; 2],
}

impl Guest {
    /// Begins, with the greeting to send: on a kernel of that release.
    pub fn new(out: &mut Vec<u8>, release: &str) -> Result<Guest, Violation> {
        frame::write(out, Kind::Hello, &[&GUEST_VERSION.to_le_bytes(), release.as_bytes()])?;
        Ok(Guest {
            at: At::Begin,
            plan: Vec::new(),
            input: Promise::default(),
            outputs: Default::default(),
        })
    }

    pub fn take<'a>(&mut self, frame: Frame<'a>) -> Result<Said<'a>, Violation> {
        let payload = frame.payload;
        match (self.at, frame.kind) {
            (At::Begin, Kind::Hello) => {
                let Some((&version, time)) = payload.split_first_chunk() else {
                    return Err(no("a greeting"));
                };
                let version = u16::from_le_bytes(version);
                let time = time.try_into().map(u64::from_le_bytes).map_err(|_| no("a greeting"))?;
                if version != GUEST_VERSION {
                    return Err(Violation::new(format!(
                        "version {version}, where {GUEST_VERSION} is spoken"
                    )));
                }
                self.at = At::Greeted;
                Ok(Said::Hello(time))
            }
            (At::Greeted, Kind::Plan) if self.plan.len() + payload.len() <= MOST_PLAN => {
                self.plan.extend(payload);
                Ok(Said::Part)
            }
            (At::Greeted, Kind::PlanEnd) => {
                let text = std::mem::take(&mut self.plan);
                let plan: GuestPlan = document("a plan", &text)?;
                if plan.version != GUEST_VERSION {
                    return Err(Violation::new(format!("a plan of version {}", plan.version)));
                }
                self.at = At::Planned;
                Ok(Said::Plan(Box::new(plan)))
            }
            (At::Planned, Kind::Go) => {
                self.at = At::Running;
                Ok(Said::Go)
            }
            (At::Planned | At::Running, Kind::Signal) => match payload {
                [signal] => Ok(Said::Signal(*signal)),
                _ => Err(no("a signal")),
            },
            (At::Planned | At::Running, Kind::WindowSize) => match *payload {
                [a, b, c, d] => Ok(Said::Window {
                    rows: u16::from_le_bytes([a, b]),
                    columns: u16::from_le_bytes([c, d]),
                }),
                _ => Err(no("a window")),
            },
            (At::Running, Kind::Bytes) => match payload.split_first() {
                Some((0, bytes)) => {
                    self.input.take(bytes.len())?;
                    Ok(Said::Input(bytes))
                }
                _ => Err(no("input")),
            },
            (At::Running, Kind::End) => match *payload {
                [number] => match Stream::of(number) {
                    Some(Stream::In) => Ok(Said::InputEnd),
                    Some(output) => Ok(Said::Unread(output)),
                    None => Err(no("a stream")),
                },
                _ => Err(no("the end of a stream")),
            },
            (At::Running, Kind::Credit) => match *payload {
                [number, a, b, c, d] => {
                    let allowance = match Stream::of(number) {
                        Some(Stream::Out) => &mut self.outputs[0],
                        Some(Stream::Err) => &mut self.outputs[1],
                        _ => return Err(no("credit")),
                    };
                    allowance.grant(u32::from_le_bytes([a, b, c, d]))?;
                    Ok(Said::Room)
                }
                _ => Err(no("credit")),
            },
            (at, kind) => Err(Violation::new(format!("{kind:?} while it is {at:?}"))),
        }
    }

    pub fn posture(&self, out: &mut Vec<u8>, posture: &[Observed]) -> Result<(), Violation> {
        frame::write(out, Kind::Posture, &[&written("the posture", &posture)?])
    }

    pub fn sample(&self, out: &mut Vec<u8>, usage: &Usage) -> Result<(), Violation> {
        frame::write(out, Kind::Sample, &[&written("a sample", usage)?])
    }

    pub fn event(&self, out: &mut Vec<u8>, event: &GuestEvent) -> Result<(), Violation> {
        frame::write(out, Kind::Event, &[&written("an event", event)?])
    }

    pub fn exited(&self, out: &mut Vec<u8>, end: &GuestEnd) -> Result<(), Violation> {
        frame::write(out, Kind::Exited, &[&written("the end", end)?])
    }

    pub fn failed(&self, out: &mut Vec<u8>, failure: &GuestFailure) -> Result<(), Violation> {
        frame::write(out, Kind::Failed, &[&written("a failure", failure)?])
    }

    /// How many bytes of an output the host has room for now.
    pub fn room(&self, stream: Stream) -> usize {
        match (self.at, stream) {
            (At::Running, Stream::Out) => self.outputs[0].left().min(MOST_PAYLOAD - 1),
            (At::Running, Stream::Err) => self.outputs[1].left().min(MOST_PAYLOAD - 1),
            _ => 0,
        }
    }

    /// Output, no more than there is room for.
    pub fn output(&mut self, out: &mut Vec<u8>, stream: Stream, bytes: &[u8]) -> Result<(), Violation> {
        if let Some(allowance) = self.outputs.get_mut(usize::from(stream == Stream::Err)) {
            allowance.spend(bytes.len());
        }
        frame::write(out, Kind::Bytes, &[&[stream.number()], bytes])
    }

    pub fn end_output(&self, out: &mut Vec<u8>, stream: Stream) -> Result<(), Violation> {
        frame::write(out, Kind::End, &[&[stream.number()]])
    }

    /// So much of the input has been handed on, or is of no use to anyone.
    pub fn handed_on(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<(), Violation> {
        match self.input.handed_on(bytes) {
            Some(credit) => frame::write(out, Kind::Credit, &[&[Stream::In.number()], &credit.to_le_bytes()]),
            None => Ok(()),
        }
    }
}

fn no(what: &str) -> Violation {
    Violation::new(format!("{what} that is none"))
}
