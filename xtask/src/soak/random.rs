//! Random numbers that are repeatable by their seed (xorshift64).

use std::time::Duration;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u32) -> Random {
        // Neighbouring seeds begin far from one another.
        Random((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }

    /// A moment before `end`, each as likely.
    pub fn moment(&mut self, end: Duration) -> Duration {
        Duration::from_nanos(self.below(u64::try_from(end.as_nanos()).unwrap_or(u64::MAX)))
    }
}
