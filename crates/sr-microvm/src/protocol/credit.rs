//! How many bytes of a stream may be under way: a side sends what the other has room for, so that one that reads a stream
//! late holds up neither the other streams nor signals.

use super::Violation;

/// What each stream begins with.
pub const FIRST: u32 = 256 << 10;

/// What a sender may still send.
#[derive(Debug)]
pub struct Allowance(u32);

impl Default for Allowance {
    fn default() -> Self {
        Allowance(FIRST)
    }
}

impl Allowance {
    pub fn left(&self) -> usize {
        self.0 as usize
    }

    /// What was sent; more than is left takes all.
    pub fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// More, as the receiver says: never beyond what the stream began with, for that is all the room that it has.
    pub fn grant(&mut self, bytes: u32) -> Result<(), Violation> {
        match self.0.checked_add(bytes) {
            Some(sum) if sum <= FIRST => {
                self.0 = sum;
                Ok(())
            }
            _ => Err(Violation::new(format!(
                "credit for {bytes} bytes more, with {} left",
                self.0
            ))),
        }
    }
}

/// What a receiver holds a sender to, and owes it.
#[derive(Debug)]
pub struct Promise {
    /// What may still come.
    left: u32,
    /// What was handed on and not told of yet.
    owed: u32,
}

impl Default for Promise {
    fn default() -> Self {
        Promise { left: FIRST, owed: 0 }
    }
}

impl Promise {
    /// What came.
    pub fn take(&mut self, bytes: usize) -> Result<(), Violation> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        match left {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Violation::new(format!(
                "{bytes} bytes of a stream with room for {}",
                self.left
            ))),
        }
    }

    /// What was handed on: the credit to give, once it is worth a frame.
    pub fn handed_on(&mut self, bytes: usize) -> Option<u32> {
        self.owed = self.owed.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.owed < FIRST / 4 {
            return None;
        }
        let credit = std::mem::take(&mut self.owed);
        self.left = self.left.saturating_add(credit).min(FIRST);
        Some(credit)
    }
}
