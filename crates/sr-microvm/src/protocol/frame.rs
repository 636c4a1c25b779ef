//! Frames: one byte of kind, four of length (little-endian), so many bytes. Cut out of a stream that comes in pieces.

use super::Violation;

/// The most bytes that one frame carries.
pub const MOST_PAYLOAD: usize = 64 << 10;

const HEADER: usize = 5;

/// What a decoder holds at most: one frame that is not whole yet, and one piece of the stream.
const MOST_HELD: usize = 2 * (HEADER + MOST_PAYLOAD);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $byte:literal,)*) => {
        /// What a frame is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$name,)*];

            pub(crate) fn byte(self) -> u8 {
                match self {
                    $(Kind::$name => $byte,)*
                }
            }

            fn of(byte: u8) -> Option<Kind> {
                match byte {
                    $($byte => Some(Kind::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Both sides, first: the version, two bytes. The guest adds its kernel's release; the host the time, eight bytes:
    /// nanoseconds since 1970.
    Hello = b'H',
    /// Host: a piece of the plan.
    Plan = b'P',
    /// Host: the plan is whole.
    PlanEnd = b'p',
    /// Host: run the program.
    Go = b'G',
    /// Host: a signal for the program, one byte.
    Signal = b'S',
    /// Host: the terminal's rows and columns, two bytes each.
    WindowSize = b'W',
    /// Both: bytes of a stream; its number comes first.
    Bytes = b'B',
    /// Both: a stream is at its end; its number.
    End = b'E',
    /// Both: so many more bytes of a stream may be sent; its number, four bytes.
    Credit = b'C',
    /// Guest: what the kernel says of the program before its first instruction.
    Posture = b'O',
    /// Guest: what the program uses.
    Sample = b'U',
    /// Guest: something happened.
    Event = b'V',
    /// Guest: the program has ended, and all that it wrote has been said.
    Exited = b'X',
    /// Guest: the program was not started, and will not be.
    Failed = b'F',
}

/// One frame. The bytes are the stream's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub payload: &'a [u8],
}

/// Appends a frame to what is to be sent. Its payload, in parts, must be of [`MOST_PAYLOAD`] bytes at most.
pub fn write(out: &mut Vec<u8>, kind: Kind, parts: &[&[u8]]) -> Result<(), Violation> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let Some(length) = u32::try_from(length).ok().filter(|_| length <= MOST_PAYLOAD) else {
        return Err(Violation::new(format!("a frame of {length} bytes")));
    };
    out.push(kind.byte());
    out.extend(length.to_le_bytes());
    for part in parts {
        out.extend(*part);
    }
    Ok(())
}

/// Cuts frames out of a stream.
#[derive(Debug, Default)]
pub struct Decoder {
    held: Vec<u8>,
    /// What of `held` has been given out.
    done: usize,
}

impl Decoder {
    /// How many bytes [`Decoder::push`] takes at once, if all frames before have been taken.
    pub const PIECE: usize = MOST_PAYLOAD;

    /// A piece of the stream, of [`Decoder::PIECE`] bytes at most.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Violation> {
        self.held.drain(..self.done);
        self.done = 0;
        if self.held.len() + piece.len() > MOST_HELD {
            return Err(Violation::new(format!("more than {MOST_HELD} bytes at once")));
        }
        self.held.extend(piece);
        Ok(())
    }

    /// The next frame that is whole. After an error nothing more can be told apart.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, Violation> {
        let held = self.held.get(self.done..).unwrap_or_default();
        let Some((&[kind, a, b, c, d], rest)) = held.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let Some(kind) = Kind::of(kind) else {
            return Err(Violation::new(format!("a frame of no known kind ({kind:#04x})")));
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > MOST_PAYLOAD {
            return Err(Violation::new(format!("a frame of {length} bytes")));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        self.done += HEADER + length;
        Ok(Some(Frame { kind, payload }))
    }

    /// Whether the stream may end here.
    pub fn is_empty(&self) -> bool {
        self.held.len() == self.done
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.held.capacity()
    }
}
