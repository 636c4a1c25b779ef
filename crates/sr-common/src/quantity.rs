//! Sizes and durations as people write them. `MB` is 10⁶ bytes, `MiB` is 2²⁰.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A number of bytes: `4096`, `512MiB`, `1.5GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(\\.[0-9]+)?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?$"))]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

const TIME_UNITS: [(&str, u64); 8] = [
    ("ms", 1),
    ("min", 60_000),
    ("sec", 1_000),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("", 0),
];

impl ByteSize {
    pub fn parse(text: &str) -> Result<Self, String> {
        scaled(text, &SIZE_UNITS).map(ByteSize).ok_or_else(|| {
            format!("not a size: {text:?} (write a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 512MiB)")
        })
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that divides: 512 MB is not written as 500000KiB, nor 512 MiB as 536870912B.
        let fits = |(unit, factor): &&(&str, u64)| !unit.is_empty() && self.0 != 0 && self.0.is_multiple_of(*factor);
        match SIZE_UNITS.iter().filter(fits).max_by_key(|(_, factor)| *factor) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// A duration in whole milliseconds: `100ms`, `30s`, `10min`, `2h`. A bare number is refused: its unit is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+(\\.[0-9]+)?(ms|s|sec|m|min|h|d)$"))]
pub struct Millis(pub u64);

impl Millis {
    pub fn parse(text: &str) -> Result<Self, String> {
        match scaled(text, &TIME_UNITS) {
            Some(ms) if ms > 0 => Ok(Millis(ms)),
            _ => Err(format!(
                "not a duration: {text:?} (write a positive number and ms, s, min, h or d, such as 30s)"
            )),
        }
    }

    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("h", 3_600_000), ("min", 60_000), ("s", 1_000)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}ms", self.0)
    }
}

/// `digits[.digits]unit` times the unit's factor, exact; `None` on overflow, a fraction of the smallest unit, or bad form.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') || fraction.len() > 9 {
        return None;
    }
    let total = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(total);
    }
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    if part % scale != 0 {
        return None;
    }
    total.checked_add(u64::try_from(part / scale).ok()?)
}

macro_rules! text_form {
    ($name:ident, $what:literal, $number:expr) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::parse(text).map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<$name, E> {
                        let parse: fn(u64) -> Result<$name, String> = $number;
                        parse(n).map_err(E::custom)
                    }
                    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<$name, E> {
                        match u64::try_from(n) {
                            Ok(n) => self.visit_u64(n),
                            Err(_) => Err(E::custom(format!("{n} is negative"))),
                        }
                    }
                }
                d.deserialize_any(Visitor)
            }
        }
    };
}

text_form!(ByteSize, "a size such as 512MiB", |n| Ok(ByteSize(n)));
text_form!(Millis, "a duration such as 30s", |n| Err(format!(
    "{n} has no unit (write {n}s, {n}ms or {n}min)"
)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(ByteSize::parse("512MB"), Ok(ByteSize(512_000_000)));
        assert_eq!(ByteSize::parse("512MiB"), Ok(ByteSize(512 << 20)));
        assert_eq!(ByteSize::parse("1.5GiB"), Ok(ByteSize(3 << 29)));
        assert_eq!(ByteSize::parse("4096"), Ok(ByteSize(4096)));
        for bad in [
            "",
            "-5",
            "1.B",
            ".5GB",
            "1e9",
            "99999999999TiB",
            "512 MiB",
            "512mib",
            "1.0000000001GB",
            "inf",
            "0.5B",
        ] {
            assert!(ByteSize::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(Millis::parse("30s"), Ok(Millis(30_000)));
        assert_eq!(Millis::parse("1.5h"), Ok(Millis(5_400_000)));
        for bad in ["30", "0s", "-1s", "s", "1y", "0.0001s"] {
            assert!(Millis::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_round_trips() {
        for n in [0, 1, 999, 1000, 1024, 4096, 512_000_000, 2 << 30, u64::MAX] {
            assert_eq!(ByteSize::parse(&ByteSize(n).to_string()), Ok(ByteSize(n)));
        }
        for n in [1, 999, 1000, 90_000, 3_600_000] {
            assert_eq!(Millis::parse(&Millis(n).to_string()), Ok(Millis(n)));
        }
    }
}
