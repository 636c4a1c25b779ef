//! Bytes as a row of choices: what a generator decides by, so that whoever makes or changes the bytes (a property test, a
//! fuzzer, a failing case on disk) decides what is generated. Bytes that have run out are zeros.

/// What is left of the bytes.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            None => 0,
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
        }
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    pub fn long(&mut self) -> u64 {
        u64::from(self.number()) << 32 | u64::from(self.number())
    }

    /// Below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number = match end {
            0..=256 => usize::from(self.byte()),
            _ => self.number() as usize,
        };
        number % end.max(1)
    }

    /// One of `all`, which is not empty.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.below(all.len())).cloned()
    }

    /// One of `all`, as a word.
    pub fn word(&mut self, all: &[&'static str]) -> &'static str {
        self.pick(all).unwrap_or_default()
    }

    pub fn some<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(make(self)) } else { None }
    }

    pub fn list<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }

    /// What is left, as it is.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Changes `bytes` a little: flips, inserts, removes, doubles, swaps.
pub fn mutate(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    for _ in 0..=choices.below(4) {
        let at = choices.below(bytes.len());
        match choices.below(7) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << choices.below(8),
            1 if !bytes.is_empty() => bytes[at] = choices.byte(),
            2 => bytes.insert(at, choices.byte()),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            5 => {
                let end = (at + 1 + choices.below(32)).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                let to = choices.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            _ => {
                const WORDS: [&str; 14] = [
                    "null", "true", "{", "}", "[", "]", ": ", "\n- ", "\"", "&a ", "*a", "1e999", "\u{202e}", "\n",
                ];
                let word = choices.word(&WORDS);
                bytes.splice(at..at, word.bytes());
            }
        }
    }
}

/// Bytes as random as a test takes, the same each time.
#[cfg(test)]
pub(crate) fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
