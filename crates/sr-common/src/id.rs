//! Run identifiers: 26 characters, sortable by start time (the ULID layout), lower case.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A run's identifier: 48 bits of milliseconds since 1970 and 80 random bits, in Crockford's base 32.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-hjkmnp-tv-z]{26}$"))]
pub struct RunId(String);

impl RunId {
    pub fn new(unix_millis: u64, random: [u8; 10]) -> Self {
        let mut value = u128::from(unix_millis & 0xffff_ffff_ffff) << 80;
        for (i, byte) in random.iter().enumerate() {
            value |= u128::from(*byte) << (72 - 8 * i);
        }
        let text = (0..26)
            .rev()
            .map(|i| char::from(ALPHABET[(value >> (5 * i)) as usize & 31]))
            .collect();
        RunId(text)
    }

    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 26 && Self::is_prefix(text)).then(|| RunId(text.to_owned()))
    }

    /// Whether `text` could be the beginning of an id.
    pub fn is_prefix(text: &str) -> bool {
        !text.is_empty() && text.len() <= 26 && text.bytes().all(|b| ALPHABET.contains(&b))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// When the run was named: milliseconds since 1970.
    pub fn unix_millis(&self) -> u64 {
        let digit = |c: u8| ALPHABET.iter().position(|a| *a == c).unwrap_or(0) as u64;
        // The first ten characters hold 50 bits, of which two are always 0.
        self.0.bytes().take(10).fold(0, |value, c| value << 5 | digit(c))
    }

    /// Fourteen characters (the time and four random ones): enough to name a run in a message.
    pub fn short(&self) -> &str {
        &self.0[..14]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RunId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        RunId::parse(&text).ok_or_else(|| format!("not a run id: {text:?}"))
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_parse_back() {
        let early = RunId::new(1_700_000_000_000, [0xff; 10]);
        let late = RunId::new(1_700_000_000_001, [0; 10]);
        assert!(early < late);
        assert_eq!(early.unix_millis(), 1_700_000_000_000);
        assert_eq!(RunId::parse(early.as_str()), Some(early));
        assert_eq!(RunId::parse("../../../../etc/passwd-xxx"), None);
    }
}
